"""What is around one replica, in one process and under simulated time: disk, network, clock, end of the process."""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.stdlib import add_log_level

from services.common.background import background
from services.common.http import Peer, make_client
from services.common.models import Stock
from services.common.runtime import Runtime
from services.order.log import OrderLog
from services.order.store import LogStore
from tests.support.fake_network import FakeNetwork
from tests.support.fake_time import FakeClock
from tests.support.order_chain import STOCKS, Chain

P = ParamSpec("P")
T = TypeVar("T")

CATALOG = "http://catalog:1"


def replica_url(replica_id: int) -> str:
    return f"http://replica:{replica_id}"


class HeldDisk:
    """A disk on the event loop. While it is held, work that was begun waits; `error` is raised in place of work.

    is_dead: nothing reaches the disk any more, for its process was killed.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.is_dead = False
        self.is_closed = False
        self.begun = 0
        self.done = 0
        self._free = asyncio.Event()
        self._free.set()
        self._turn = asyncio.Lock()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Once begun it is finished, even when the caller is cancelled."""
        return await asyncio.shield(asyncio.ensure_future(self._do(functools.partial(work, *args, **kwargs))))

    async def _do(self, work: Callable[[], T]) -> T:
        async with self._turn:
            self.begun += 1
            await self._free.wait()
            if self.error is not None:
                raise self.error
            if self.is_dead:
                return cast(T, None)
            result = work()
            self.done += 1
            return result

    def close(self) -> None:
        self.is_closed = True


class Outside:
    """A runtime whose every part a test can hold. `at`: what to await at a named point, each time it is passed."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.network = FakeNetwork()
        self.disk = HeldDisk()
        self.ended_with: list[int] = []
        self.at: dict[str, Callable[[], Awaitable[object]]] = {}
        self.passed: list[str] = []
        self.runtime = Runtime(
            monotonic=self.clock,
            wall_ms=lambda: 1_760_000_000_000,
            random=random.Random(7),
            transport=lambda: self.network,
            disk=lambda: self.disk,
            end_process=self.ended_with.append,
            point=self._point,
        )
        self.client = make_client(self.runtime)

    def peer(self, url: str) -> Peer:
        return Peer(self.client, url)

    async def _point(self, point: str) -> None:
        self.passed.append(point)
        if point in self.at:
            await self.at[point]()


def once(step: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    """`step` the first time, nothing later."""
    steps = [step]

    async def run() -> None:
        if steps:
            await steps.pop()()

    return run


@contextmanager
def plain_logs() -> Iterator[None]:
    """Tracebacks as Python prints them: drawn with colours and variables, one can take many seconds."""
    before = structlog.get_config()
    structlog.configure(processors=[add_log_level, ConsoleRenderer(colors=False, exception_formatter=plain_traceback)])
    try:
        yield
    finally:
        structlog.configure(**before)


@asynccontextmanager
async def open_log(
    outside: Outside,
    path: Path,
    chain: Chain | None = None,
    *,
    generation: int | None = 1,
    stocks: list[Stock] = STOCKS,
) -> AsyncIterator[OrderLog]:
    """A replica's log that saves in the background; it begins with a generation and the entries of `chain`."""
    store = LogStore(path)
    if generation is not None and store.generation() is None:
        store.adopt(generation, stocks)
    if chain is not None:
        store.append(chain.entries)
    log = OrderLog(outside.runtime, store)
    try:
        with plain_logs():
            async with background(outside.runtime, log.run()):
                await asyncio.sleep(0)
                yield log
        if not outside.ended_with:
            outside.disk.release()
            await log.close()
    finally:
        if not outside.disk.is_closed:
            store.close()
