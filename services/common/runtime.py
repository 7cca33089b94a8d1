"""The outside world of a service: time, randomness, network, disk, and the end of the process.

Everything a service takes from outside comes through one `Runtime`, so that a whole cluster can also live inside one
process under simulated time. The clock is `time.monotonic` and never the event loop's own, which may be read once a
turn only: after a SIGSTOP in the middle of a turn a lease would still look valid (docs/decisions/0001).
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import Any, ParamSpec, Protocol, TypeVar

import httpx

from services.common.transport import make_transport

P = ParamSpec("P")
T = TypeVar("T")

SLOW_S = 0.01


class Disk(Protocol):
    """Where blocking database work is done, one piece at a time and in order."""

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` and give back its result; once begun it is finished, even when the caller is cancelled."""

    def close(self) -> None:
        """Wait for the work under way and let go."""


class AdaptiveDisk:
    """A disk that is waited for on the event loop while it is quick, and on a thread while it is not.

    To a thread and back costs two wake-ups, about as much as a quick fsync itself. A slow one would hold up everything
    else, so after one that took longer than `SLOW_S` the next ones go to the thread, until one was quick again. A disk
    that stalls holds the event loop up once: like a process that was stopped, which is what it is.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_slow = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="disk")
        self._last: Future[Any] | None = None  # given to the thread

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Disk.run`."""
        is_idle = self._last is None or self._last.done()
        if is_idle and not self._is_slow:
            return self._timed(work, *args, **kwargs)
        future = self._thread.submit(lambda: self._timed(work, *args, **kwargs))
        self._last = future
        return await asyncio.wrap_future(future)

    def _timed(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        began = self._clock()
        try:
            return work(*args, **kwargs)
        finally:
            self._is_slow = self._clock() - began > SLOW_S

    def close(self) -> None:
        """See `Disk.close`."""
        self._thread.shutdown(wait=True)


async def _pass(point: str) -> None:
    """Go on: only a simulation stops here."""


def _end_process(status: int) -> None:
    """End this process at once, before anything else of it is done or answered."""
    with suppress(OSError):  # a full disk must not keep it alive
        sys.stderr.flush()
        sys.stdout.flush()
    os._exit(status)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Runtime:
    """What a service needs of the world; the defaults are the real one.

    monotonic: seconds that only grow, also while the process is stopped. wall_ms: milliseconds since 1970, UTC.
    point: awaited at every named step between which a process may die; the real world passes at once.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall_ms: Callable[[], int] = _wall_ms
    random: Random = field(default_factory=SystemRandom)
    transport: Callable[[], httpx.AsyncBaseTransport] = make_transport
    disk: Callable[[], Disk] = AdaptiveDisk
    end_process: Callable[[int], None] = _end_process
    point: Callable[[str], Awaitable[None]] = _pass
