"""What came out of a chaos run: its rounds, the waits of its clients by kind of fault, and the targets for them.

A wait counts for a round when its operation was in flight, or began, between the fault and the moment at which
everything was level again. Targets are shown as met or missed; what decides the verdict is correctness, and that no
client saw an error.
"""

import bisect
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from pydantic import BaseModel, Field

from client.bazaar import PATIENCE_S
from client.latency import percentile
from eval.bench.results import Spread
from eval.bench.statistics import spread
from eval.history import Kind, Operation
from eval.machine import Machine


class Target(NamedTuple):
    """For the waits of trades, in milliseconds; beyond_downtime: longer than the struck process did not answer."""

    p99_ms: float | None = None
    worst_ms: float | None = None
    beyond_downtime_ms: float | None = None


TARGETS = {
    "kill leader": Target(p99_ms=150, worst_ms=500),
    "pause leader": Target(worst_ms=1_500),
    "pause follower": Target(worst_ms=1_500),
    "kill catalog": Target(beyond_downtime_ms=1_200),
}


class Round(BaseModel):
    """One fault. Seconds count from the start of the run.

    longest_ms: the longest wait of any client, by kind of operation. first_trade_ms: from the fault to the answer of
    the first trade that was new after it. everybody_ms: until that was so for each client. noticed_ms: until a
    front-end selected another leader. Until all was level again, no_trade_ms: the longest time in which no trade
    had its first answer, of any client; etcd_ms: in which etcd took no write, through any node that was not struck.
    """

    number: int
    kind: str
    hit: list[str]
    began_s: float
    undone_s: float
    level_s: float
    longest_ms: dict[Kind, float]
    trade_waits_ms: list[float] = Field(exclude=True)
    first_trade_ms: float | None
    everybody_ms: float | None = None
    no_trade_ms: float | None = None
    etcd_ms: float | None = None
    noticed_ms: float | None
    downtime_ms: dict[str, float]


class Summary(BaseModel):
    """All rounds of one kind. The waits are those of trades; beyond_downtime_ms: the worst, less the catalog's.

    first_trade_ms, everybody_ms, no_trade_ms, etcd_ms: the median, the least and the most of the rounds; see `Round`.
    """

    kind: str
    rounds: int
    trades: int
    p99_ms: float | None
    worst_ms: float | None
    downtime_ms: float | None
    beyond_downtime_ms: float | None
    first_trade_ms: Spread | None
    everybody_ms: Spread | None
    no_trade_ms: Spread | None = None
    etcd_ms: Spread | None = None
    target: str
    is_met: bool | None


class Report(BaseModel):
    """A whole run. problems: violations of K1 to K9; errors: what a client saw."""

    command: str
    seed: int
    machine: Machine
    started_at: datetime
    duration_s: float
    is_stopped: bool
    passed: bool
    counts: dict[str, int]
    verify: str
    problems: list[str]
    errors: list[str]
    summaries: list[Summary]
    rounds: list[Round]


def between(operations: Sequence[Operation], began: float, level: float) -> list[Operation]:
    """Of operations in the order of their begin, those that were in flight, or began, between two moments."""
    first = bisect.bisect_left(operations, began - 2 * PATIENCE_S, key=lambda each: each.began)
    last = bisect.bisect_right(operations, level, key=lambda each: each.began)
    return [each for each in operations[first:last] if began <= each.ended < float("inf")]


def wait_ms(operation: Operation) -> float:
    """How long its client waited."""
    return round((operation.ended - operation.began) * 1_000, 1)


def longest_ms(operations: Iterable[Operation]) -> dict[Kind, float]:
    """The longest wait, by kind of operation."""
    longest: dict[Kind, float] = {}
    for each in operations:
        longest[each.kind] = max(wait_ms(each), longest.get(each.kind, 0.0))
    return longest


def first_trade_ms(operations: Sequence[Operation], began: float) -> float | None:
    """From a fault until a trade with a key that nobody had sent before was answered: one that had to be decided."""
    ends = _first_trades(operations, began)
    return round((min(ends.values()) - began) * 1_000, 1) if ends else None


def everybody_ms(operations: Sequence[Operation], began: float) -> float | None:
    """From a fault until each client had an answer to such a trade."""
    ends = _first_trades(operations, began)
    return round((max(ends.values()) - began) * 1_000, 1) if ends else None


def no_trade_ms(operations: Sequence[Operation], began: float, level: float) -> float:
    """The longest time between two moments in which no client had the first answer to any trade."""
    ends: dict[str, float] = {}
    for each in _recent_trades(operations, began):
        if each.status in {201, 409}:
            ends[each.key] = min(each.ended, ends.get(each.key, each.ended))
    return round(longest_between(ends.values(), began, level) * 1_000, 1)


def longest_between(moments: Iterable[float], began: float, ended: float) -> float:
    """The longest time between two moments in which there was none of these."""
    within = sorted(moment for moment in moments if began < moment < ended)
    return max(after - before for before, after in pairwise([began, *within, ended]))


def _recent_trades(operations: Sequence[Operation], began: float) -> list[Operation]:
    """The trades that any other one that matters after `began` could be a repetition of, and those."""
    recent = operations[bisect.bisect_left(operations, began - 2 * PATIENCE_S, key=lambda each: each.began) :]
    return [each for each in recent if each.kind == "trade"]


def _first_trades(operations: Sequence[Operation], began: float) -> dict[str, float]:
    """When the first trade of each client was answered that was new after `began`."""
    trades = _recent_trades(operations, began)
    old = {each.key for each in trades if each.began < began}
    ends: dict[str, float] = {}
    for each in trades:
        if each.key not in old and each.status in {201, 409}:
            ends[each.client] = min(each.ended, ends.get(each.client, each.ended))
    return ends


def summarise_rounds(rounds: Sequence[Round], *, has_targets: bool) -> list[Summary]:
    """One row for each kind of fault, in the order of their first rounds.

    Without targets: a process behind a link that can be cut never refuses a connection, so its death shows later.
    """
    by_kind: dict[str, list[Round]] = {}
    for each in rounds:
        by_kind.setdefault(each.kind, []).append(each)
    nothing = Target()
    return [
        _summarise(kind, each, TARGETS.get(kind, nothing) if has_targets else nothing) for kind, each in by_kind.items()
    ]


def _summarise(kind: str, rounds: Sequence[Round], target: Target) -> Summary:
    waits = sorted(wait for each in rounds for wait in each.trade_waits_ms)
    downtimes = [max(each.downtime_ms.values()) for each in rounds if each.downtime_ms]
    beyond = [
        max(each.trade_waits_ms, default=0.0) - each.downtime_ms["catalog"]
        for each in rounds
        if "catalog" in each.downtime_ms
    ]
    figures = {
        "p99_ms": percentile(waits, 99) if waits else None,
        "worst_ms": waits[-1] if waits else None,
        "beyond_downtime_ms": round(max(beyond), 1) if beyond else None,
    }
    wanted = {name: limit for name, limit in target._asdict().items() if limit is not None}
    is_met = all((figures[name] or 0.0) <= limit for name, limit in wanted.items())
    return Summary(
        kind=kind,
        rounds=len(rounds),
        trades=len(waits),
        downtime_ms=max(downtimes, default=None),
        first_trade_ms=spread([each.first_trade_ms for each in rounds if each.first_trade_ms is not None]),
        everybody_ms=spread([each.everybody_ms for each in rounds if each.everybody_ms is not None]),
        no_trade_ms=spread([each.no_trade_ms for each in rounds if each.no_trade_ms is not None]),
        etcd_ms=spread([each.etcd_ms for each in rounds if each.etcd_ms is not None]),
        target=", ".join(f"{LABELS[name]} {limit:g}" for name, limit in wanted.items()),
        is_met=is_met if wanted else None,
        **figures,
    )


LABELS = {"p99_ms": "p99", "worst_ms": "worst", "beyond_downtime_ms": "beyond downtime"}
