"""What goes wrong, chosen by the seed: kills, pauses, partitions, lost disks, a rough network."""

import asyncio
from collections import Counter
from typing import Any

from tests.simulation.loop import Life
from tests.simulation.world import Process, World

RESTART_MIN_S = 0.001
RESTART_MAX_S = 2.0


class Faults:
    """A dense stream of faults, each undone some time later; `counts` says how many of each kind there were."""

    def __init__(self, world: World) -> None:
        self.counts: Counter[str] = Counter()
        self._world = world
        self._random = world.random
        self._undoing: set[asyncio.Task[Any]] = set()
        self._problems: list[str] = []
        self._starts: dict[int, int] = {}
        self._raging = False
        world.on_restart = self._on_exit
        world.on_point = self._at_point

    def say(self, problem: str) -> None:
        """Note a violation that no history shows."""
        self._problems.append(problem)

    def problems(self) -> list[str]:
        """What went wrong besides the history."""
        return self._problems

    def starts(self) -> dict[int, int]:
        """Generation to the position that it began at."""
        return self._starts

    async def rage(self, until: float) -> None:
        """Faults, one after the other and on top of each other."""
        self._raging = True
        self._world.is_rough = self._random.random() < 0.7
        while self._world.loop.time() < until:
            await asyncio.sleep(self._random.expovariate(1 / 0.6))
            self._strike()
        self._raging = False

    async def heal(self) -> None:
        """Undo everything."""
        world = self._world
        world.is_rough = False
        world.blocked.clear()
        await asyncio.gather(*self._undoing, return_exceptions=True)
        world.blocked.clear()
        for name, process in world.processes.items():
            world.resume(name)
            if process.life is None and 3 not in process.exits:
                world.start(name)

    def _strike(self) -> None:
        kinds = [self._kill] * 6 + [self._pause] * 4 + [self._partition] * 4 + [self._kill_at_point] * 4
        kinds += [self._kill_all, self._wipe_replica]
        if self._random.random() < 0.3:
            kinds += [self._wipe_catalog]
        self._random.choice(kinds)()

    def _some(self, prefix: str = "") -> Process:
        return self._random.choice([p for name, p in self._world.processes.items() if name.startswith(prefix)])

    def _kill(self) -> None:
        process = self._some()
        self.counts["kills"] += 1
        self._down(process, self._random.uniform(RESTART_MIN_S, RESTART_MAX_S))

    def _kill_all(self) -> None:
        self.counts["kills of all"] += 1
        for process in self._world.processes.values():
            self._down(process, self._random.uniform(RESTART_MIN_S, RESTART_MAX_S))

    def _wipe_replica(self) -> None:
        """Lose one replica's disk, when the others are not to blame for what is lost then: at most one at a time."""
        process = self._some("order")
        others = [p for n, p in self._world.processes.items() if n.startswith("order") and p is not process]
        if process.life is None or any(p.life is None or p.life.is_paused for p in others) or self._catalog_is_new():
            return
        self.counts["wiped replicas"] += 1
        self._down(process, self._random.uniform(RESTART_MIN_S, RESTART_MAX_S), wipe=True)

    def _wipe_catalog(self) -> None:
        """Lose the catalog's disk, while every replica still has what it once acknowledged."""
        if self.counts["wiped replicas"]:
            return
        self.counts["wiped catalogs"] += 1
        self._down(self._world.processes["catalog"], self._random.uniform(RESTART_MIN_S, RESTART_MAX_S), wipe=True)

    def _catalog_is_new(self) -> bool:
        return bool(self.counts["wiped catalogs"])

    def _down(self, process: Process, seconds: float, *, wipe: bool = False) -> None:
        world = self._world
        if process.life is None:
            return
        world.kill(process.name)
        if wipe:
            world.wipe(process.name)
        self._later(seconds, lambda: self._up(process))

    def _up(self, process: Process) -> None:
        if process.life is None:
            self._world.start(process.name)

    def _pause(self) -> None:
        process = self._some()
        self.counts["pauses"] += 1
        self._world.pause(process.name)
        life = process.life
        self._later(
            self._random.choice([self._random.uniform(0.01, 0.3), self._random.uniform(0.3, 3.0)]),
            lambda: self._world.resume(process.name) if process.life is life else None,
        )

    def _partition(self) -> None:
        one, other = self._some(), self._some()
        if one is other:
            return
        self.counts["partitions"] += 1
        cut = {(one.name, other.name)}
        if self._random.random() < 0.5:
            cut.add((other.name, one.name))
        if self._random.random() < 0.2:
            for name in self._world.processes:
                cut |= {(one.name, name), (name, one.name)}
        self._world.note(f"cut: {sorted(cut)}")
        self._world.blocked |= cut
        self._later(self._random.uniform(0.1, 3.0), lambda: self._world.blocked.difference_update(cut))

    def _kill_at_point(self) -> None:
        """Kill or pause whoever reaches one of the named points next."""
        if self._world.points:
            self._armed = self._random.choice(sorted(self._world.points))
            self._armed_for = self._random.choice(["kill", "pause"])

    _armed: str | None = None
    _armed_for = "kill"

    def _at_point(self, life: Life, point: str) -> None:
        if point == "catalog.start.waited":  # rebuilt, and nothing decided yet
            status = self._world.processes["catalog"].apps["8010"].state.catalog.status()
            self._starts[status.generation] = status.head.position
        if point != self._armed or not self._raging:
            return
        self._armed = None
        process = self._world.processes[life.name]
        if process.life is not life:
            return
        self._world.note(f"{life.name} is at {point}")
        self.counts[f"{self._armed_for}s at points"] += 1
        if self._armed_for == "kill":
            self._down(process, self._random.uniform(RESTART_MIN_S, RESTART_MAX_S))
        else:
            self._world.pause(life.name)
            self._later(
                self._random.uniform(0.01, 3.0), lambda: self._world.resume(life.name) if process.life is life else None
            )

    def _on_exit(self, process: Process) -> None:
        self.say(f"{process.name} ended itself with status {process.exits[-1]}")

    def _later(self, seconds: float, undo: Any) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            undo()

        # Not a part of whoever reached a point: of the world.
        task = self._world._spawn(None, wait())
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)
