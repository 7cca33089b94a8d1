"""etcd in the simulation: three modelled nodes over one state, which a majority of them is needed to reach.

The state is what a majority has on its disks, so it outlives every node. A node that is cut off from the others keeps a
request until it has a majority again, and then executes it, or says that it timed out, which leaves open whether it is
executed later; a node that leads and dies leaves the others without a leader for a while.
"""

import asyncio
import random
from typing import TYPE_CHECKING

from fastapi import FastAPI

from services.common.runtime import Runtime
from tests.support.etcd_model import UNAVAILABLE, EtcdNode
from tests.support.etcd_requests import TO_THE_END, Delete, EtcdError
from tests.support.etcd_state import EtcdState

if TYPE_CHECKING:
    from tests.simulation.world import World

ETCD = {"etcd-1": "2371", "etcd-2": "2372", "etcd-3": "2373"}
STORE = "etcd://" + ",".join(f"127.0.0.1:{port}" for port in ETCD.values())
LOOK_S = 0.02
SLOW_S = 0.02


class EtcdCluster:
    """The nodes, and what they have agreed on."""

    def __init__(self, world: "World") -> None:
        self.state = EtcdState()
        self._world = world
        self._leader = "etcd-1"
        self._leaderless_until = 0.0

    def node(self, name: str, runtime: Runtime) -> FastAPI:
        """A node that starts."""
        node = EtcdNode(self.state, int(name[-1]))

        async def before(path: str) -> None:
            patience = runtime.random.uniform(0.3, 6.0)
            until = runtime.monotonic() + patience
            await asyncio.sleep(runtime.random.uniform(0.0, SLOW_S))  # so that catalogs meet more often
            while not self._has_majority(name):
                if runtime.monotonic() > until:
                    if runtime.random.random() < 0.5:
                        raise EtcdError(*UNAVAILABLE)
                    until = float("inf")  # it is executed, however late
                await asyncio.sleep(LOOK_S)

        async def after(path: str) -> None:
            await asyncio.sleep(runtime.random.uniform(0.0, SLOW_S))
            if not self._has_majority(name) and runtime.random.random() < 0.5:
                raise EtcdError(*UNAVAILABLE)

        node.before, node.after = before, after
        return node.app

    def lost(self, name: str) -> None:
        """A node has died."""
        if name == self._leader:
            chance = random.Random(f"{self._world.loop.time()}")
            self._leaderless_until = self._world.loop.time() + chance.uniform(0.2, 1.2)
            self._leader = next((each for each in ETCD if self._has_majority(each)), name)

    def wipe(self) -> None:
        """An operator deletes every key."""
        self._world.note("all keys in etcd are deleted")
        self.state.delete(Delete(b"\0", TO_THE_END))

    def _has_majority(self, name: str) -> bool:
        world = self._world
        if world.loop.time() < self._leaderless_until or not self._is_up(name):
            return False
        links = [(name, other) for other in ETCD if other != name]
        reached = [b for a, b in links if self._is_up(b) and not {(a, b), (b, a)} & world.blocked]
        return len(reached) >= 1

    def _is_up(self, name: str) -> bool:
        life = self._world.processes[name].life
        return life is not None and not life.is_paused
