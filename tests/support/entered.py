"""What runs while a test's body does: started at its beginning, gone at its end, its logs shown on failure."""

import sys
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self


class Entered(ABC):
    """Entered when `start_up` has come to its end. What `_stack` holds is closed last."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    @abstractmethod
    async def start_up(self) -> None:
        """Start it, and wait until it is of use."""

    @abstractmethod
    async def shut_down(self) -> object:
        """End it, however much of it has started."""

    @abstractmethod
    def logs(self) -> str:
        """The ends of all logs."""

    async def __aenter__(self) -> Self:
        try:
            await self.start_up()
        except BaseException:
            await self._end(failed=True)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(failed=error is not None)

    async def _end(self, *, failed: bool) -> None:
        if failed:
            sys.stdout.write(self.logs())
        try:
            await self.shut_down()
        finally:
            await self._stack.aclose()
