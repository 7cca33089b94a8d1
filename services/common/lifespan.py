"""The start-up and shutdown of an ASGI application, which fail loudly and can be cancelled."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message


class Lifespan:
    """Runs an application's lifespan in a task of its own; `state` is what it hands to its requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self) -> None:
        """Start the application up. Raises what it raised; when cancelled, so is the start-up, and waited for."""
        self._task = asyncio.create_task(self._live(), name="lifespan")
        try:
            await self._step("startup")
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            raise

    async def stop(self) -> None:
        """Shut the application down. Raises what it raised."""
        await self._step("shutdown")
        assert self._task is not None
        await self._task

    async def _live(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        await self._app(scope, self._to_app.get, self._from_app.put)

    async def _step(self, step: str) -> None:
        """Tell the application, and wait until it says that it has done so, or ends without saying."""
        assert self._task is not None
        self._to_app.put_nowait({"type": f"lifespan.{step}"})
        said = asyncio.create_task(self._from_app.get())
        try:
            await asyncio.wait([said, self._task], return_when=asyncio.FIRST_COMPLETED)
            if said.done() and said.result()["type"] == f"lifespan.{step}.complete":
                return
            await self._task
            raise RuntimeError(f"the application's {step} did not complete")
        finally:
            said.cancel()
