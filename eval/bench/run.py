"""A benchmark from its servers to its result: subjects side by side, one after the other, round after round."""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from eval.bench.children import output_of
from eval.bench.commit import commit_ms
from eval.bench.generators import Generator
from eval.bench.goals import judge
from eval.bench.load import Load
from eval.bench.logs import make_stocks
from eval.bench.processes import Bare, Bazaar, Target, bazaar, yardstick
from eval.bench.results import BAZAAR, LABELS, Result, Sample, Size, Subject
from eval.bench.usage import cpu_s
from eval.machine import describe_machine
from services.cluster.errors import CannotDo

BASE = Size(orders=1_000, stocks=20)
CACHED_STOCKS = 10  # what a cache holds by default
MANY_NAMES = 500
WARM_UP_S = 0.3

YARDSTICKS: dict[Subject, tuple[Bare, ...]] = {
    "bare_uvicorn": (Bare("bytes"),),
    "bare_route": (Bare("route"),),
    "bare_post": (Bare("post"),),
    "bare_chain": (Bare("pass", [[1]]), Bare("pass", [[2]]), Bare("pass", [[3]]), Bare("post")),
    # Front-end, leader, catalog, and two followers.
    "bare_trade": (
        Bare("pass", [[1]]),
        Bare("pass", [[2], [3, 4]]),
        Bare("pass", [[0]]),
        Bare("take"),
        Bare("take"),
    ),
}


@dataclass(frozen=True)
class BenchSettings:
    """What was asked for. subjects: in the order in which they are measured. most_orders: in the scale part."""

    subjects: tuple[Subject, ...] = tuple(LABELS)
    rounds: int = 5
    seconds: float = 5.0
    connections: tuple[int, ...] = (1, 5, 32, 128)
    scale: bool = False
    most_orders: int = 5_000_000
    command: str = "bazaar bench"


@dataclass(frozen=True)
class Work:
    """A subject with what it is asked for, and of whom."""

    subject: Subject
    target: Target
    load: Load


class Bench:
    """One benchmark. on_step: told in words what is done next."""

    def __init__(self, settings: BenchSettings, generator: Generator) -> None:
        self.settings = settings
        self.on_step: Callable[[str], None] = lambda _: None
        self.result = Result(
            command=settings.command,
            machine=describe_machine(),
            data_on=file_system(Path(tempfile.gettempdir())),
            generator=generator.name,
            started_at=datetime.now(UTC),
            rounds=settings.rounds,
            seconds=settings.seconds,
        )
        self._generator = generator
        self._began = time.monotonic()

    @property
    def steps(self) -> int:
        """How often `on_step` is called in `side_by_side`."""
        return self.settings.rounds * len(self.settings.connections) * len(self.settings.subjects)

    async def side_by_side(self) -> None:
        """Measure every subject at every number of connections, in turn, in every round. Raises CannotDo."""
        with data_folder() as folder:
            async with self._works(folder) as works:
                await self.warm_up(works)
                for number in range(1, self.settings.rounds + 1):
                    self.result.commits_ms.append(round(await asyncio.to_thread(commit_ms), 4))
                    for connections in self.settings.connections:
                        for work in works:
                            self.on_step(f"round {number}, {connections} connections: {LABELS[work.subject]}")
                            sample = await self.measure(work, BASE, connections, number)
                            self.result.samples.append(sample)

    def finish(self) -> Result:
        """The result, judged."""
        self.result.duration_s = round(time.monotonic() - self._began, 1)
        self.result.goals = judge(self.result)
        return self.result

    async def warm_up(self, works: list[Work]) -> None:
        """Let every server open its connections and fill its cache."""
        for work in works:
            await self._generator.run(work.load, max(self.settings.connections), WARM_UP_S)

    async def measure(self, work: Work, size: Size, connections: int, number: int) -> Sample:
        """One subject at one number of connections. Raises CannotDo when there was no good answer."""
        before = cpu_s(work.target.pids)
        outcome = await self._generator.run(work.load, connections, self.settings.seconds)
        after = cpu_s(work.target.pids)
        if not outcome.requests:
            raise CannotDo(f"{LABELS[work.subject]}: of {outcome.errors:,} requests none was answered well")
        answers = outcome.requests + outcome.errors
        return Sample(
            round=number,
            subject=work.subject,
            size=size,
            connections=connections,
            requests=outcome.requests,
            errors=outcome.errors,
            seconds=round(outcome.seconds, 4),
            p50_ms=round(outcome.p50_ms, 4),
            p99_ms=round(outcome.p99_ms, 4),
            cpu_us={name: round((after[name] - before[name]) * 1_000_000 / answers, 1) for name in after},
            generator_share=round(outcome.share, 3),
        )

    @asynccontextmanager
    async def _works(self, folder: Path) -> AsyncIterator[list[Work]]:
        """All servers that are needed, at the same time."""
        subjects = self.settings.subjects
        async with AsyncExitStack() as stack:
            targets = {
                subject: await stack.enter_async_context(yardstick(*YARDSTICKS[subject]))
                for subject in subjects
                if subject in YARDSTICKS
            }
            if set(subjects) & set(BAZAAR):
                await write_databases(folder, BASE)
                running = await stack.enter_async_context(bazaar(folder))
                targets |= await stack.enter_async_context(targets_of(running, subjects))
            yield [Work(subject, targets[subject], load_of(subject, targets[subject], BASE)) for subject in subjects]


@asynccontextmanager
async def targets_of(running: Bazaar, subjects: tuple[Subject, ...]) -> AsyncIterator[Mapping[Subject, Target]]:
    """Where the loads of the bazaar's own subjects go."""
    targets = dict.fromkeys((each for each in subjects if each in BAZAAR), running.target)
    if "look_up_uncached" not in targets:
        yield targets
        return
    async with running.without_cache() as target:
        yield targets | {"look_up_uncached": target}


def load_of(subject: Subject, target: Target, size: Size) -> Load:
    """What a subject is asked for. A yardstick is asked for the same as what is held against it."""
    names = tuple(stock.name for stock in make_stocks(size.stocks)[:MANY_NAMES])
    if subject in {"trade", "bare_post", "bare_chain", "bare_trade"}:
        return Load(target.port, "trade", names)
    if subject == "order_query":
        return Load(target.port, "order_query", highest=size.orders)
    return Load(target.port, "look_up", names if subject == "look_up_uncached" else names[:CACHED_STOCKS])


async def write_databases(folder: Path, size: Size) -> None:
    """The databases of a bazaar of this size, written by a process of their own. Raises CannotDo."""
    await output_of(sys.executable, "-m", "eval.bench.logs", str(folder), str(size.stocks), str(size.orders))


@contextmanager
def data_folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bazaar-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def file_system(folder: Path) -> str:
    """The kind of file system: an fsync in memory costs nothing, and says nothing."""
    mounts = [each for each in psutil.disk_partitions(all=True) if folder.is_relative_to(each.mountpoint)]
    return max(mounts, key=lambda each: len(each.mountpoint)).fstype if mounts else "unknown"
