"""Trades on SQLite and on etcd, look-ups at several front-ends: one bazaar after the other, round after round.

All on one machine and on its loopback address, so what is seen is the cost in processor time and in waits for the disk;
hosts of their own have more of the first, and a network between them.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from client import BazaarClient
from eval.bench.generators import Generator
from eval.bench.load import HOST, Load, Outcome
from eval.bench.run import CACHED_STOCKS, WARM_UP_S, data_folder, file_system
from eval.bench.usage import cpu_s
from eval.hosts.bazaar import running_hosts
from eval.hosts.results import LABELS, MeasureResult, MeasureSettings, Sample, Store
from eval.machine import describe_machine
from eval.processes import free_block, running
from services.cluster.errors import CannotDo
from services.cluster.topology import Settings, port_of

FRONT_ENDS = 2  # of either bazaar that trades: both have to be told of every change


@dataclass(frozen=True)
class Running:
    """A bazaar that runs: the ports of its front-ends, and its processes by name."""

    ports: list[int]
    pids: Mapping[str, int]


class Measure:
    """One measurement. on_step: told in words what is done next."""

    def __init__(self, settings: MeasureSettings, generator: Generator) -> None:
        self.settings = settings
        self.on_step: Callable[[str], None] = lambda _: None
        self.result = MeasureResult(
            command=settings.command,
            settings=settings,
            machine=describe_machine(),
            data_on=file_system(Path(tempfile.gettempdir())),
            generator=generator.name,
            started_at=datetime.now(UTC),
        )
        self._generator = generator
        self._began = time.monotonic()

    @property
    def steps(self) -> int:
        """How often `on_step` is called."""
        return self.settings.rounds * (2 * len(self.settings.connections) + len(self.settings.front_ends))

    async def run(self) -> MeasureResult:
        """All rounds. Raises CannotDo."""
        for number in range(1, self.settings.rounds + 1):
            for store in LABELS:
                async with trading_on(store) as running_one:
                    await self._trades(number, store, running_one)
            async with looking_up(max(self.settings.front_ends)) as running_one:
                await self._look_ups(number, running_one)
        self.result.duration_s = round(time.monotonic() - self._began, 1)
        return self.result

    async def _trades(self, number: int, store: Store, one: Running) -> None:
        load = Load(one.ports[0], "trade", await names_at(one.ports[0]))
        await self._generator.run(load, max(self.settings.connections), WARM_UP_S)
        for connections in self.settings.connections:
            self.on_step(f"round {number}: trades, {LABELS[store]}, {connections} connections")
            self.result.trades[store].append(await self._sample(number, one, [load], connections))

    async def _look_ups(self, number: int, one: Running) -> None:
        names = (await names_at(one.ports[0]))[:CACHED_STOCKS]
        for count in self.settings.front_ends:
            loads = [Load(port, "look_up", names) for port in one.ports[:count]]
            each = max(1, self.settings.look_up_connections // count)
            await self._at_once(loads, each, WARM_UP_S)
            self.on_step(f"round {number}: look-ups, {count} front-ends")
            self.result.look_ups.append(await self._sample(number, one, loads, each))

    async def _sample(self, number: int, one: Running, loads: Sequence[Load], connections: int) -> Sample:
        """Loads at the same time, so many connections each."""
        before = cpu_s(one.pids)
        outcomes = await self._at_once(loads, connections, self.settings.seconds)
        after = cpu_s(one.pids)
        return sample_of(outcomes, number, connections, {name: after[name] - before[name] for name in after})

    async def _at_once(self, loads: Sequence[Load], connections: int, seconds: float) -> list[Outcome]:
        return await asyncio.gather(*(self._generator.run(load, connections, seconds) for load in loads))


def sample_of(outcomes: Sequence[Outcome], number: int, connections: int, used_s: Mapping[str, float]) -> Sample:
    """Loads that ran at the same time, one to each front-end. Raises CannotDo when one had no good answer."""
    if not all(each.requests for each in outcomes):
        raise CannotDo(f"of {sum(each.errors for each in outcomes):,} requests to a front-end none was answered well")
    answers = sum(each.requests + each.errors for each in outcomes)
    kinds: dict[str, float] = {}
    for name, used in used_s.items():
        kind = name.rstrip("0123456789").rstrip("-")
        kinds[kind] = kinds.get(kind, 0.0) + used
    return Sample(
        round=number,
        connections=connections * len(outcomes),
        front_ends=len(outcomes),
        per_second=round(sum(each.requests / each.seconds for each in outcomes), 1),
        p50_ms=round(max(each.p50_ms for each in outcomes), 3),
        p99_ms=round(max(each.p99_ms for each in outcomes), 3),
        errors=sum(each.errors for each in outcomes),
        cpu_us={kind: round(used * 1_000_000 / answers, 1) for kind, used in kinds.items()},
    )


async def names_at(port: int) -> tuple[str, ...]:
    """All stocks, by name."""
    async with BazaarClient(f"http://{HOST}:{port}") as bazaar:
        return tuple([stock.name async for stock in bazaar.stocks()])


@asynccontextmanager
async def trading_on(store: Store) -> AsyncIterator[Running]:
    """A new bazaar over this store."""
    if store == "sqlite":
        async with looking_up(FRONT_ENDS) as one:
            yield one
        return
    with data_folder() as folder:
        async with running_hosts(folder, namespaces=False) as bazaar:
            pids = {name: each.pid for name, each in bazaar.processes.items() if each.pid is not None}
            yield Running([port_of(url) for url in bazaar.urls], pids)


@asynccontextmanager
async def looking_up(front_ends: int) -> AsyncIterator[Running]:
    """A new bazaar of so many front-ends, on SQLite."""
    with data_folder() as folder:
        async with running(Settings(port=free_block(), front_ends=front_ends), folder) as processes:
            services = (await processes.wait_level()).services
            pids = {each.name: each.pid for each in services if each.pid is not None}
            yield Running([port_of(each.url) for each in processes.cluster.of("front-end")], pids)
