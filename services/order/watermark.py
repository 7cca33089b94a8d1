"""A position that only grows, and those who wait until it has grown far enough."""

import asyncio
import heapq
import itertools


class Watermark:
    """The highest position for which something holds."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    async def reach(self, position: int) -> None:
        """Return when the mark is at `position` or beyond."""
        if self.position >= position:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (position, next(self._order), future))
        await future

    def rise_to(self, position: int) -> None:
        """Raise the mark; a lower position changes nothing."""
        self.position = max(self.position, position)
        while self._waiting and (self._waiting[0][0] <= self.position or self._waiting[0][2].done()):
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
