"""What a chaos run breaks, as the run sees it: a bazaar on one machine here, three hosts with etcd in eval/hosts."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from client.bazaar import PATIENCE_S
from eval.chaos.faults import Blow, Faults
from eval.chaos.judge import problems_on_disk
from eval.chaos.network import Network
from eval.chaos.scenarios import Scenario, draw
from eval.history import Operation
from eval.processes import Processes, free_block, running
from services.cluster.audit import verify_cluster
from services.cluster.topology import Settings, plan

REST_S = 30.0  # for the heads to be equal in the end


class World(Protocol):
    """A bazaar that runs. urls: of its front-ends."""

    urls: Sequence[str]

    async def strike(self, scenario: Scenario) -> Blow:
        """Break something, undo it, and wait until everything is level again. Raises Failed when that never comes."""

    def noticed_ms(self, since: float) -> float | None:
        """From `since` (seconds since 1970) until a front-end wrote down that it selected another leader."""

    async def verify(self) -> tuple[str, list[str]]:
        """At rest: what was proven in one line, and what is wrong."""


class Stage(Protocol):
    """Where and how a run is played.

    patience_s: of its clients. readers: of each front-end, see `Reader`. bound_s: after a fault every client trades
    again within so long, as far as that is promised. has_targets: see `summarise_rounds`.
    """

    patience_s: float
    readers: int
    bound_s: float | None
    has_targets: bool

    def scenarios(self) -> Iterator[Scenario]:
        """The faults, one after the other, without an end."""

    def bazaar(self, data_dir: Path) -> AbstractAsyncContextManager[World]:
        """A bazaar with its data there, gone at the end. Raises CannotDo."""

    def problems_on_disk(self, data_dir: Path, operations: Sequence[Operation], quiet_since: float) -> list[str]:
        """What the disks contradict, once the bazaar is gone."""


class OneMachine:
    """`bazaar up`, and the network between its processes when that is to be cut."""

    patience_s = PATIENCE_S
    readers = 0
    bound_s: float | None = None

    def __init__(self, seed: int, front_ends: int, port: int | None, *, partitions: bool) -> None:
        self.has_targets = not partitions
        self._seed = seed
        self._front_ends = front_ends
        self._port = port
        self._partitions = partitions

    def scenarios(self) -> Iterator[Scenario]:
        """See `Stage.scenarios`."""
        return draw(self._seed, self._front_ends, partitions=self._partitions)

    @asynccontextmanager
    async def bazaar(self, data_dir: Path) -> AsyncIterator[World]:
        """See `Stage.bazaar`."""
        wanted = Settings(port=self._port or free_block(), front_ends=self._front_ends)
        network = Network(plan(wanted)) if self._partitions else None
        try:
            routes = await network.open() if network is not None else {}
            async with running(wanted.model_copy(update={"routes": routes}), data_dir) as processes:
                yield _OneMachineWorld(processes, network)
        finally:
            if network is not None:
                await network.close()

    def problems_on_disk(self, data_dir: Path, operations: Sequence[Operation], quiet_since: float) -> list[str]:
        """See `Stage.problems_on_disk`."""
        return problems_on_disk(data_dir, plan(Settings(front_ends=self._front_ends)), operations, quiet_since)


class _OneMachineWorld(Faults):
    """See `World`."""

    def __init__(self, processes: Processes, network: Network | None) -> None:
        super().__init__(processes, network)
        self.urls: Sequence[str] = [service.url for service in processes.cluster.of("front-end")]

    async def verify(self) -> tuple[str, list[str]]:
        """See `World.verify`."""
        verdict = await verify_cluster(self._processes.cluster, self._processes.client, REST_S)
        return verdict.summary, verdict.problems
