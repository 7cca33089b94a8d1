"""The lab's clients at work once: they look up and trade until they are told to stop, then check every own order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from client.load import LoadReport, LoadSettings, drive
from eval.history import Operation
from eval.witness import History, Witness

MANY = 10**9  # iterations: until they are told to stop


class Session:
    """One such session. `operations`: what its clients did so far."""

    def __init__(self, settings: LoadSettings, history: History) -> None:
        self._settings = settings
        self._history = history
        self._first = len(history.operations)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[LoadReport] | None = None

    @property
    def operations(self) -> list[Operation]:
        """In the order in which they began."""
        return self._history.operations[self._first :]

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """The clients work during the body; whatever is under way at its end is given up."""
        self._task = asyncio.create_task(
            drive(
                self._settings,
                stop=self._stop,
                make_client=lambda number, urls: Witness(f"client-{number + 1}", self._history, *urls),
            )
        )
        try:
            yield
        finally:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def work(self, seconds: float) -> None:
        """Let the clients work. What ends them too early is raised."""
        assert self._task is not None
        await asyncio.wait((self._task,), timeout=seconds)
        if self._task.done():
            self._task.result()

    async def begin_check(self, share: float) -> None:
        """Tell the clients to stop; return when they have begun to check this share of their orders."""
        assert self._task is not None
        self._stop.set()
        enough = asyncio.create_task(self._history.wait_until(lambda: self._share_checked() >= share))
        await asyncio.wait((self._task, enough), return_when=asyncio.FIRST_COMPLETED)
        enough.cancel()

    async def end(self) -> LoadReport:
        """Tell the clients to stop, and wait until all orders are checked."""
        assert self._task is not None
        self._stop.set()
        return await self._task

    def _share_checked(self) -> float:
        orders = checks = 0
        for each in self.operations:
            orders += each.status == 201
            checks += each.kind == "order"
        return checks / orders if orders else 1.0
