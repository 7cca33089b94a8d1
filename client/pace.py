"""When a client begins its next piece of work.

In a closed loop, when the last piece is done: who waits asks less, so a slow server is asked less often and its worst
moments are seen by few. In an open loop, at a time that was drawn beforehand, whatever became of the pieces before: as
many users do who know nothing of each other. Latency is then counted from that time, so nothing that a stall delayed is
left out.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Protocol, TypeAlias

Work: TypeAlias = Callable[[float], Coroutine[Any, Any, None]]
"""A piece of work; it is told the moment at which it was to begin, on the monotonic clock."""


class Pace(Protocol):
    """See the module."""

    async def run(self, works: Iterable[Work]) -> None:
        """Begin each piece in its turn; over when all are done."""


class ClosedLoop:
    """One piece after the other."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic

    async def run(self, works: Iterable[Work]) -> None:
        """See `Pace.run`."""
        for work in works:
            await work(self._monotonic())


class OpenLoop:
    """`per_second` pieces on average, with exponential times between them: a Poisson process.

    The event loop's timers wake up to a millisecond late; that counts as latency.
    """

    def __init__(
        self,
        per_second: float,
        random: random.Random,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        assert per_second > 0
        self._per_second = per_second
        self._random = random
        self._monotonic = monotonic
        self._sleep = sleep

    async def run(self, works: Iterable[Work]) -> None:
        """See `Pace.run`."""
        intended = self._monotonic()
        async with asyncio.TaskGroup() as group:
            for work in works:
                intended += self._random.expovariate(self._per_second)
                await self._sleep(max(0.0, intended - self._monotonic()))
                group.create_task(work(intended))
