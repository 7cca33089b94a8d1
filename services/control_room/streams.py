"""Those who watch: each is sent the newest of every kind of message, and none can hold up another.

A message is made into text once, however many watch. Whoever reads slowly misses messages and gets the newest.
"""

import asyncio
from collections.abc import AsyncIterator

from services.common.errors import Unavailable

MOST_STREAMS = 16


class Streams:
    """The open streams. `arrived` is set when somebody begins to watch."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self.count = 0
        self.arrived = asyncio.Event()
        self.most = most
        self._newest: dict[str, tuple[int, str]] = {}  # kind of message to its number and text
        self._number = 0
        self._changed = asyncio.Event()
        self._is_closed = False

    def publish(self, kind: str, text: str) -> None:
        """Send this to all who watch; it takes the place of the one before of its kind."""
        self._number += 1
        self._newest[kind] = (self._number, text)
        self._wake()

    def close(self) -> None:
        """End all streams, and let no new one begin."""
        self._is_closed = True
        self._wake()

    def check(self) -> None:
        """Raises Unavailable when no more may watch."""
        if self.count >= self.most or self._is_closed:
            raise Unavailable(f"{self.most} pages watch already; close one of them")

    async def follow(self) -> AsyncIterator[tuple[str, str]]:
        """Kind and text of every message from now on, until all streams are closed."""
        self.count += 1
        self.arrived.set()
        seen = self._number  # what was published for others before may be old
        try:
            while not self._is_closed:
                changed = self._changed
                news = sorted((number, kind, text) for kind, (number, text) in self._newest.items() if number > seen)
                for number, kind, text in news:
                    seen = number
                    yield kind, text
                if not news:
                    await changed.wait()
        finally:
            self.count -= 1

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
