"""The disk of a simulated process: its work takes time, and the process can die before it, in it, and after it."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import Life

if TYPE_CHECKING:
    from tests.simulation.world import World


class SimulatedDisk:
    """The work is done in the middle of a wait."""

    def __init__(self, world: "World", life: Life) -> None:
        self._world = world
        self._life = life
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See `services.common.runtime.Disk`."""
        return await asyncio.shield(self._world.spawn(self._life, self._work(work, args, kwargs)))

    async def _work(self, work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        world, life = self._world, self._life
        name = f"{life.kind} disk {work.__name__}"
        async with self._turn:
            await asyncio.sleep(world.disk_s())
            await world.reach(life, f"{name}: before")
            torn_by = world.blow_at(life, f"{name}: in the middle")
            if torn_by is not None:
                world.storage.tear(world.database_of(life.name), world.random.randint(0, 4))
                with contextlib.suppress(Exception):
                    work(*args, **kwargs)
                world.on_blow(world.processes[life.name], "kill" if torn_by == "pause" else torn_by)
                await asyncio.sleep(0)
            result = work(*args, **kwargs)
            await world.reach(life, f"{name}: after")
            await asyncio.sleep(world.disk_s())
            return result

    def close(self) -> None:
        """Nothing is left to be done."""
