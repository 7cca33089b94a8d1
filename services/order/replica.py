"""One replica as a whole: log, follower, leader and queries put together."""

import asyncio
from collections.abc import Mapping

from services.common.http import Peer
from services.common.models import (
    GenerationAnswer,
    LeaderNotice,
    ReplicaStatus,
    TradesAnswer,
    TradesRequest,
)
from services.common.runtime import Runtime
from services.common.timing import LOOK_EVERY_S
from services.order.follower import Follower
from services.order.leader import Leader
from services.order.log import OrderLog
from services.order.queries import Queries
from services.order.replication import Replication
from services.order.store import LogStore

MAX_FRONT_ENDS = 100


class Replica:
    """One process of the order service. `others`: the other replicas."""

    def __init__(
        self, runtime: Runtime, replica_id: int, store: LogStore, catalog: Peer, others: Mapping[int, Peer]
    ) -> None:
        self.id = replica_id
        self.log = OrderLog(runtime, store)
        self.follower = Follower(runtime, self.log, catalog, replica_id, others)
        self.queries = Queries(self.log, self.follower.link)
        self._runtime = runtime
        self.replication = Replication(runtime, self.log, others, self.follower.link.refresh)
        self.leader = Leader(runtime, self.log, self.follower.link, self.replication)
        # Front-end to the leader that it selected: what is shown, and who looks at the others, but never what is safe.
        self._selected_by: dict[str, int] = {}

    async def close(self) -> None:
        """Stop leading, then let go of the disk."""
        await self.leader.close()
        await self.replication.close()
        await self.log.close()

    async def watch(self) -> None:
        """In the background: while some front-end takes this replica for leader, look at the followers again."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._is_leader:
                self.replication.look()

    def missing(self) -> str | None:
        """What is missing before this replica can do its job, in words."""
        if self.log.generation is None:
            return "no generation yet: the catalog gives it"
        link = self.follower.link
        if link.is_level:
            return None
        return "not level with the catalog" + (", and nobody has the entries it lacks" if link.is_base_missing else "")

    def status(self) -> ReplicaStatus:
        """What this replica says of itself, at any time."""
        link = self.follower.link
        return ReplicaStatus(
            replica_id=self.id,
            generation=self.log.generation,
            role="leader" if self._is_leader else "follower",
            level=link.is_level,
            level_age=link.level_age,
            head=self.log.fsynced_head,
        )

    @property
    def _is_leader(self) -> bool:
        return self.id in self._selected_by.values()

    def generation(self) -> GenerationAnswer:
        """The generation, None before the first, and the stocks that the bazaar began with."""
        return GenerationAnswer(generation=self.log.generation, stocks=self.log.initial)

    def note_leader(self, notice: LeaderNotice) -> None:
        """A front-end has selected a leader."""
        was_leader = self._is_leader
        if notice.front_end in self._selected_by or len(self._selected_by) < MAX_FRONT_ENDS:
            self._selected_by[notice.front_end] = notice.leader
        if self._is_leader and not was_leader:
            self.replication.look()

    async def trades(self, request: TradesRequest) -> TradesAnswer:
        """Act as the leader for a batch of trades; all are answered in time."""
        deadline = self._runtime.monotonic() + request.time_left
        return TradesAnswer(outcomes=await self.leader.trades(request.trades, deadline))
