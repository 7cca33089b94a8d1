"""What goes wrong, chosen by the seed: kills, power cuts, pauses, partitions, lost disks, a rough network.

All that chance decides of a fault is drawn before it strikes and from a source of its own, so that leaving some faults
out leaves the others as they were: that is how the story of a failing seed is made shorter.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from tests.simulation.world import Blow, Process, World

RESTART_MIN_S = 0.001
RESTART_MAX_S = 2.0
EVERY_S = 0.6
CALM_S = 2.5
AMBUSH_S = 0.5
ARMED_AT_ONCE = 6

Strike = Callable[[], None]
BLOWS: tuple[Blow, ...] = ("kill", "pause", "power cut")


class Faults:
    """A dense stream of faults, each undone some time later.

    counts: how many there were of each kind. struck: point to what happened to processes there. skip: the numbers of
    the faults that are left out. armed: points to wait at, and what is to happen there.
    """

    def __init__(
        self, world: World, seed: int, *, skip: Collection[int] = (), armed: Collection[tuple[str, Blow]] = ()
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.struck: Counter[tuple[str, Blow]] = Counter()
        self.number = 0
        self.problems: list[str] = []
        self.starts: dict[int, int] = {}
        """Generation to the position that it began at."""
        self._world = world
        self._seed = seed
        self._skip = skip
        self._random = random.Random(f"{seed}/faults")
        self._lies_in_wait = bool(armed)  # many points lie on the way back from a lost disk
        self._loses_catalog = self._random.random() < 0.5  # or else replicas lose their disks
        self._is_rough = self._random.random() < 0.7
        self._armed: dict[str, tuple[Blow, float]] = {point: (blow, 0.5) for point, blow in armed}
        self._undoing: set[asyncio.Task[Any]] = set()
        self._is_raging = False
        world.on_restart = self._on_exit
        world.on_point = self._at_point
        world.on_blow = self._blow

    def say(self, problem: str) -> None:
        """Note a violation that no history shows."""
        self.problems.append(problem)

    async def rage(self, until: float) -> None:
        """Faults, one after the other and on top of each other."""
        self._is_raging = True
        self._world.is_rough = self._is_rough
        if self._world.etcd and random.Random(f"{self._seed}/split").random() < 0.6:
            self._world.blocked.add(("front-end-2", "order-3"))  # it takes another leader, so catalogs meet more often
        while self._world.loop.time() < until:
            await asyncio.sleep(self._random.expovariate(1 / EVERY_S))
            strike, is_skipped = self._draw(), self.number in self._skip
            self.number += 1
            if is_skipped:
                continue
            self._world.note(f"fault {self.number - 1}")
            if strike == self._lose_two:
                await self._calm()
            strike()
            if strike == self._lose_two:
                await asyncio.sleep(AMBUSH_S)
                self._ambush_s = None
                self._world.is_rough = self._is_rough
        self._is_raging = False

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

    # Which fault.

    def _draw(self) -> Strike:
        kinds: dict[Callable[[], Strike], int] = {
            self._draw_kill: 5,
            self._draw_pause: 4,
            self._draw_partition: 4,
            self._draw_blow_at_point: 6,
            self._draw_end_of_all: 1,
            self._draw_lost_disk: 12 if self._lies_in_wait else 2,
        }
        return self._random.choices(list(kinds), list(kinds.values()))[0]()

    def _draw_kill(self) -> Strike:
        return partial(self._down, self._some(), self._restart_s(), power=self._random.random() < 0.3)

    def _draw_end_of_all(self) -> Strike:
        power = self._random.random() < 0.5
        after = {name: self._restart_s() for name in self._world.processes}
        return partial(self._end_all, after, power=power)

    def _draw_lost_disk(self) -> Strike:
        replica, after_s = self._some("order"), self._restart_s()
        if not self._loses_catalog:
            return partial(self._lose_replica, replica, after_s)
        if self._lies_in_wait or self._random.random() < 0.4:
            return partial(self._lose_catalog, after_s)
        self._doomed_s = after_s
        return self._lose_two

    def _draw_pause(self) -> Strike:
        seconds = self._random.choice([self._random.uniform(0.01, 0.3), self._random.uniform(0.3, 3.0)])
        return partial(self._pause, self._some(), seconds)

    def _draw_partition(self) -> Strike:
        one, other = self._some(), self._some()
        cut = {(one.name, other.name)}
        if self._random.random() < 0.5:
            cut.add((other.name, one.name))
        if self._random.random() < 0.2:
            for name in self._world.processes:
                cut |= {(one.name, name), (name, one.name)}
        return partial(self._cut, {(a, b) for a, b in cut if a != b}, self._random.uniform(0.1, 3.0))

    def _draw_blow_at_point(self) -> Strike:
        place, blow, seconds = self._random.random(), self._random.choice(BLOWS), self._restart_s()
        return partial(self._arm, place, blow, seconds)

    def _some(self, kind: str = "") -> Process:
        return self._random.choice([p for name, p in self._world.processes.items() if name.startswith(kind)])

    def _restart_s(self) -> float:
        return self._random.uniform(RESTART_MIN_S, RESTART_MAX_S)

    # What it does.

    def _end_all(self, after: Mapping[str, float], *, power: bool) -> None:
        self.counts["ends of all"] += 1
        for name, seconds in after.items():
            self._down(self._world.processes[name], seconds, power=power)

    def _lose_replica(self, process: Process, after_s: float) -> None:
        """Lose a replica's disk, when all others run and have what it has: some log must be left."""
        replicas = [p for name, p in self._world.processes.items() if name.startswith("order")]
        if not all(p.apps and p.life is not None and not p.life.is_paused for p in replicas):
            return
        have = {p.name: next(iter(p.apps.values())).state.replica.log.fsynced.position for p in replicas}
        if min(have.values()) == have[process.name]:
            self.counts["lost disks"] += 1
            self._down(process, after_s, wipe=True)

    def _lose_catalog(self, after_s: float) -> None:
        """Lose the catalog's disk, while every replica still has what it once acknowledged."""
        self.counts["lost disks"] += 1
        self._lose_state(after_s)

    def _lose_state(self, after_s: float) -> None:
        """End the catalogs, and lose what they keep."""
        for catalog in self._world.catalogs:
            self._down(catalog, after_s, wipe=True)
        if self._world.etcd:
            self._world.etcd.wipe()

    async def _calm(self) -> None:
        """Let all recover and catch up, with clients going on: afterwards every acknowledged order is everywhere."""
        self._is_raging = False
        await self.heal()
        await asyncio.sleep(CALM_S)
        self._is_raging = True

    def _lose_two(self) -> None:
        """Lie in wait for the next replica that answers trades: its disk and the catalog's are lost at that moment.

        All is calm, so every follower must have what it acknowledged.
        """
        logs = [
            app.state.replica
            for name, process in self._world.processes.items()
            for app in process.apps.values()
            if name.startswith("order")
        ]
        links = [link for replica in logs for link in replica.replication.links]
        is_level = len({replica.log.fsynced_head.digest for replica in logs}) == 1
        if is_level and len(links) == 6 and all(link.is_awaited for link in links):
            self._ambush_s = self._doomed_s

    def _lose_leader_and_catalog(self, leader: Process, after_s: float) -> None:
        self.counts["ambushes"] += 1
        self.counts["lost disks"] += 2
        self._down(leader, after_s, wipe=True)
        self._lose_state(after_s)

    def _down(self, process: Process, seconds: float, *, power: bool = False, wipe: bool = False) -> None:
        if process.life is None:
            return
        self.counts["power cuts" if power else "kills"] += 1
        self._world.kill(process.name, power=power)
        if wipe:
            self._world.wipe(process.name)
        self._later(seconds, partial(self._up, process))

    def _up(self, process: Process) -> None:
        if process.life is None:
            self.counts["restarts"] += 1
            self._world.start(process.name)

    def _pause(self, process: Process, seconds: float) -> None:
        life = process.life
        if life is None or life.is_paused:
            return
        self.counts["pauses"] += 1
        self._world.pause(process.name)
        self._later(seconds, lambda: self._world.resume(process.name) if process.life is life else None)

    def _cut(self, links: set[tuple[str, str]], seconds: float) -> None:
        if links:
            self.counts["partitions"] += 1
            self._world.note(f"cut: {sorted(links)}")
            self._world.blocked |= links
            self._later(seconds, lambda: self._world.blocked.difference_update(links))

    # Points.

    def _arm(self, place: float, blow: Blow, seconds: float) -> None:
        """Lie in wait at one of the points that were passed so far."""
        points = sorted(self._world.points)
        if points and len(self._armed) < ARMED_AT_ONCE:
            self._armed.setdefault(points[int(place * len(points))], (blow, seconds))

    def _at_point(self, process: Process, point: str) -> Blow | None:
        if point == "catalog.start.waited":  # rebuilt, and nothing decided yet
            status = next(iter(process.apps.values())).state.catalog.status()
            self.starts.setdefault(status.generation, status.head.position)
        if self._ambush_s is not None and point == "order has answered POST /trades":
            after_s, self._ambush_s = self._ambush_s, None
            self._lose_leader_and_catalog(process, after_s)
        if self._ambush_s is not None or point not in self._armed or not self._is_raging:
            return None
        blow, self._blow_s = self._armed.pop(point)
        self._world.note(f"{process.name} is at {point}")
        self.counts["blows at points"] += 1
        self.struck[point, blow] += 1
        return blow

    _blow_s = 0.5
    _doomed_s = 0.5
    _ambush_s: float | None = None

    def _blow(self, process: Process, blow: Blow) -> None:
        if blow == "pause":
            self._pause(process, self._blow_s)
        else:
            self._down(process, self._blow_s, power=blow == "power cut")

    def _on_exit(self, process: Process) -> None:
        self.say(f"{process.name} ended itself with status {process.exits[-1]}")

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            undo()

        # Not a part of whoever reached a point: of the world.
        task = self._world.spawn(None, wait())
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)
