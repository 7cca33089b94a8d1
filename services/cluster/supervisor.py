"""All services of a bazaar: started in order, kept as the operator wants them, drained in the opposite order."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from services.cluster.child import Announce, Child
from services.cluster.errors import CannotDo
from services.common.background import background
from services.common.errors import NotFound
from services.common.runtime import Runtime

Action = Literal["kill", "pause", "resume", "start", "restart"]

DONE: dict[Action, str] = {
    "kill": "was killed by the operator and stays down",
    "pause": "was paused by the operator",
    "resume": "goes on",
    "start": "was started by the operator",
    "restart": "was restarted by the operator",
}

GRACE_S = 5.0  # for each group, to end what it has under way


class Supervisor:
    """Keeps `groups` of children: started first to last without waiting between, stopped last to first."""

    def __init__(
        self,
        groups: Sequence[Sequence[Child]],
        *,
        grace_s: float = GRACE_S,
        announce: Announce = lambda _name, _text: None,
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        self._elsewhere = elsewhere or {}  # services of other hosts, and which: theirs to start and to stop
        self._announce = announce
        self._groups = groups
        self._grace_s = grace_s
        self._is_stopping = False
        self.children = {child.name: child for group in groups for child in group}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Supervise during the body; at its end no process is left."""
        async with background(Runtime(), *(child.supervise() for child in self.children.values())):
            try:
                yield
            finally:
                await self.kill_all()

    async def wait_settled(self) -> None:
        """Wait until every service was ready once, or is known not to become so."""
        await asyncio.gather(*(child.settled.wait() for child in self.children.values()))

    async def wait_hopeless(self) -> Child:
        """Wait until a service that never was ready ends by itself again and again; gives the first such one."""
        waits = {asyncio.create_task(child.hopeless.wait()): child for child in self.children.values()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    async def act(self, name: str, action: Action) -> Child:
        """Do what the operator asks for. Raises NotFound and CannotDo."""
        child = self.children.get(name)
        if name in self._elsewhere:
            raise CannotDo(f"{name} runs on host {self._elsewhere[name]}: do it there")
        if child is None:
            raise NotFound(f"there is no such service; the services are {', '.join(self.children)}")
        if self._is_stopping:
            raise CannotDo("the bazaar is being stopped")
        match action:
            case "kill":
                await child.kill()
            case "pause":
                await child.pause()
            case "resume":
                await child.resume()
            case "start":
                await child.start()
            case "restart":
                await child.stop(self._grace_s)
                if self._is_stopping:  # meanwhile; then nothing is started
                    raise CannotDo("the bazaar is being stopped")
                await child.start()
        self._announce(name, DONE[action])
        return child

    async def drain(self) -> None:
        """Stop everything, callers before those they call, so that what is under way can end well."""
        self._is_stopping = True
        for group in reversed(self._groups):
            await asyncio.gather(*(child.stop(self._grace_s) for child in group))

    async def kill_all(self) -> None:
        """End every process at once."""
        self._is_stopping = True
        await asyncio.gather(*(child.kill() for child in self.children.values()))
