"""Watching the replicas: a check of each every 100 ms, what `selection` makes of it, and who is told."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from services.common.distribution import Distribution
from services.common.http import Peer, PeerAnswered, PeerError, PeerLost, PeerRefused, PeerTimeout
from services.common.logs import get_log
from services.common.models import LeaderChange, LeaderNotice, ReplicaStatus, ReplicaView
from services.common.runtime import Runtime
from services.common.timing import CHECK_ANSWER_S, CHECK_EVERY_S, NOTICE_AGAIN_S
from services.front_end.selection import Change, Selection

log = get_log(__name__)

KEPT_CHANGES = 16


class Replicas:
    """The replicas as this front-end sees them, its choice of a leader, and the attempts that depend on either.

    change_seconds: from the moment at which a leader was missed until another one was selected.
    """

    def __init__(self, name: str, peers: Mapping[int, Peer], runtime: Runtime) -> None:
        self.peers = dict(peers)
        self._name = name
        self._clock = runtime.monotonic
        self._wall_ms = runtime.wall_ms
        self.changes: deque[LeaderChange] = deque(maxlen=KEPT_CHANGES)
        self._selection = Selection(peers, self._clock())
        # In the order in which they began, so that the same failure always cuts them in the same order.
        self._attempts: dict[int, dict[asyncio.Timeout, None]] = {replica_id: {} for replica_id in peers}
        self._noticed_at: dict[int, float] = {}  # when a replica was last told who leads; silent ones are left out
        self._group: asyncio.TaskGroup | None = None
        self.change_count = 0
        self.change_seconds = Distribution()

    @property
    def leader(self) -> int | None:
        """The selected leader, None while there is none."""
        return self._selection.leader

    def candidates(self) -> list[int]:
        """Whom to ask when the leader could not serve, best first."""
        return self._selection.candidates()

    def views(self) -> list[ReplicaView]:
        """Every replica and its state, lowest id first."""
        return [ReplicaView(id=replica_id, state=state) for replica_id, state in self._selection.states().items()]

    async def run(self) -> None:
        """Check all replicas for ever. Each has a task of its own, so that one that hangs delays no other's check."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for replica_id in self.peers:
                    self._group.create_task(self._watch(replica_id))
        finally:
            self._group = None

    @asynccontextmanager
    async def attempt(self, replica_id: int, left: float) -> AsyncIterator[None]:
        """Let the body try this replica for `left` seconds: TimeoutError after that, or as soon as it has failed."""
        async with asyncio.timeout(left) as limit:
            self._attempts[replica_id][limit] = None
            try:
                yield
            finally:
                self._attempts[replica_id].pop(limit, None)

    def failed(self, replica_id: int) -> None:
        """A request found that the replica refuses or resets connections: choose anew without waiting for a check."""
        self._selection.failed(replica_id, self._clock())
        self._follow_up()

    def note_trade(self) -> None:
        """A trade was accepted: the first one after a change of leader shows how long customers waited."""
        if self.changes and self.changes[-1].first_trade_ms is None:
            self.changes[-1] = self.changes[-1].model_copy(update={"first_trade_ms": self._wall_ms()})

    async def _watch(self, replica_id: int) -> None:
        while True:
            began = self._clock()
            await self._check(replica_id)
            await asyncio.sleep(max(began + CHECK_EVERY_S - self._clock(), 0.0))

    async def _check(self, replica_id: int) -> None:
        try:
            status = await self.peers[replica_id].call("/status", ReplicaStatus, timeout_s=CHECK_ANSWER_S)
        except (PeerTimeout, PeerAnswered):  # slow, paused, or busy: one may be chance
            self._selection.missed(replica_id, self._clock())
        except (PeerRefused, PeerLost):
            self._selection.failed(replica_id, self._clock())
        else:
            self._take(replica_id, status)
        self._follow_up()

    def _take(self, replica_id: int, status: ReplicaStatus) -> None:
        now = self._clock()
        if status.replica_id != replica_id:  # the addresses are mixed up; whoever that is, it must not get its trades
            log.error("another replica answers at this address", expected=replica_id, answers=status.replica_id)
            self._selection.missed(replica_id, now)
            return
        self._selection.answered(replica_id, now, level=status.level, level_age=status.level_age)
        self._repeat_notice(replica_id, status.role)

    def _follow_up(self) -> None:
        """After any news: select, tell, and cut the attempts that wait for a replica that has failed."""
        change = self._selection.select(self._clock())
        if change is not None:
            self._announce(change)
        for replica_id in self.peers:
            is_silent = self._selection.state(replica_id) == "silent"
            if is_silent:
                self._noticed_at.pop(replica_id, None)
            # One that was replaced has failed too, though it may still answer: what waits there asks the next.
            if is_silent or (change is not None and replica_id == change.before):
                self._cut_attempts(replica_id)

    def _cut_attempts(self, replica_id: int) -> None:
        now = asyncio.get_running_loop().time()
        for limit in self._attempts[replica_id]:
            if not limit.expired():
                limit.reschedule(now)

    def _announce(self, change: Change) -> None:
        after_s = round(change.after_s, 3)
        self.change_count += 1
        if change.leader is not None:
            self.change_seconds.add(change.after_s)
        now_ms = self._wall_ms()
        noticed_ms = now_ms - round(1_000 * change.after_s)
        self.changes.append(
            LeaderChange(before=change.before, leader=change.leader, noticed_ms=noticed_ms, selected_ms=now_ms)
        )
        if change.leader is None:
            log.warning("no replica answers, so there is no leader", before=change.before)
            return
        if change.before is None:
            text = f"replica {change.leader} is the leader now, after {after_s:.3f} s without one"
        else:
            text = f"replica {change.leader} is the leader now, {after_s:.3f} s after replica {change.before} failed"
        log.info(text, leader=change.leader, before=change.before, after_s=after_s)
        for replica_id in self.peers:
            self._notify(replica_id)

    def _repeat_notice(self, replica_id: int, role: str) -> None:
        """Tell a replica again that has come back, or that shows another role than it was given.

        Another front-end may have selected another leader and told it so: hence not with every check.
        """
        if self.leader is None:
            return
        told_at = self._noticed_at.get(replica_id)
        is_wrong = (role == "leader") != (replica_id == self.leader)
        if told_at is None or (is_wrong and self._clock() >= told_at + NOTICE_AGAIN_S):
            self._notify(replica_id)

    def _notify(self, replica_id: int) -> None:
        if self._group is not None and self.leader is not None:
            self._noticed_at[replica_id] = self._clock()
            self._group.create_task(self._send_notice(replica_id, self.leader))

    async def _send_notice(self, replica_id: int, leader: int) -> None:
        notice = LeaderNotice(front_end=self._name, leader=leader)
        try:
            await self.peers[replica_id].call("/leader", ReplicaStatus, notice, timeout_s=CHECK_ANSWER_S)
        except PeerError as error:
            log.debug("a replica was not told who leads", replica=replica_id, reason=str(error))
