"""What one shard costs, from `bazaar bench`: processor time by process, the fsync, a call between two services.

The benchmark says what a trade costs each process, at several numbers of connections. A process pays for each batch and
for each trade in it: cost = each_batch / trades_in_a_batch + each_trade. With one connection a batch is one trade; with
the most connections its size is the simulation's own, so the two are found together (see `eval.scaling.run`).
"""

from collections.abc import Mapping, Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict

from eval.bench.results import Result, Sample
from services.cluster.errors import CannotDo

LEADER = "order-3"  # the highest id leads
FOLLOWERS = ("order-1", "order-2")
FRONT_END = "front-end-1"
CATALOG = "catalog"


class Record(BaseModel):
    """A part of the result."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cost(Record):
    """Processor time of one process, in microseconds."""

    each_batch_us: float
    each_trade_us: float

    def seconds(self, batches: float, trades: float) -> float:
        """For so many batches with so many trades in all of them."""
        return (batches * self.each_batch_us + trades * self.each_trade_us) / 1e6


class Costs(Record):
    """What the simulation is fed with; all of it measured.

    call_us: what one more call costs its caller. answer_us: what it costs the one who is called. generator_us: the load
    generator's work for a trade. fsync_ms: a commit of one small row.
    """

    front_end: Cost
    leader: Cost
    follower: Cost
    catalog: Cost
    call_us: float
    answer_us: float
    generator_us: float
    fsync_ms: float


class Measured(Record):
    """Trades at one number of connections: the median of the rounds, and throughput from the lowest to the highest."""

    connections: int
    per_second: float
    low: float
    high: float
    p50_ms: float
    p99_ms: float


def measured(bench: Result) -> list[Measured]:
    """What was measured of trades, by the number of connections. Raises CannotDo when something is missing."""
    connections = sorted({each.connections for each in bench.samples if each.subject == "trade"})
    if len(connections) < 2 or connections[0] != 1:
        raise CannotDo("this benchmark has no trades with 1 connection and with more: bazaar bench")
    return [_measured(_samples(bench, "trade", each)) for each in connections]


def costs_of(bench: Result, trades_in_a_batch: Mapping[str, float]) -> Costs:
    """The costs, when at the most connections the batches of each process hold so many trades."""
    most = measured(bench)[-1].connections
    one, many = _samples(bench, "trade", 1), _samples(bench, "trade", most)
    cached, uncached = _samples(bench, "look_up_cached", 1), _samples(bench, "look_up_uncached", 1)

    def cost(processes: Sequence[str], size: float) -> Cost:
        alone, shared = (median(_cpu_us(samples, name) for name in processes) for samples in (one, many))
        each_trade = max(0.0, (shared - alone / size) / (1 - 1 / size))
        return Cost(each_batch_us=alone - each_trade, each_trade_us=each_trade)

    return Costs(
        front_end=cost((FRONT_END,), trades_in_a_batch["front_end"]),
        leader=cost((LEADER,), trades_in_a_batch["leader"]),
        follower=cost(FOLLOWERS, trades_in_a_batch["leader"]),
        catalog=cost((CATALOG,), trades_in_a_batch["leader"]),
        call_us=_cpu_us(uncached, "front-end-2") - _cpu_us(cached, FRONT_END),
        answer_us=_cpu_us(uncached, CATALOG),
        generator_us=median(1e6 * each.generator_share * each.seconds / each.requests for each in many),
        fsync_ms=median(bench.commits_ms),
    )


def _samples(bench: Result, subject: str, connections: int) -> list[Sample]:
    found = [each for each in bench.samples if each.subject == subject and each.connections == connections]
    if not found or not bench.commits_ms:
        raise CannotDo(f"this benchmark has no {subject} with {connections} connections: bazaar bench")
    return found


def _cpu_us(samples: Sequence[Sample], process: str) -> float:
    return median(each.cpu_us[process] for each in samples)


def _measured(samples: Sequence[Sample]) -> Measured:
    rates = [each.per_second for each in samples]
    return Measured(
        connections=samples[0].connections,
        per_second=median(rates),
        low=min(rates),
        high=max(rates),
        p50_ms=median(each.p50_ms for each in samples),
        p99_ms=median(each.p99_ms for each in samples),
    )
