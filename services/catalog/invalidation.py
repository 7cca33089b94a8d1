"""Who is told before a stock changes: the front-ends' sessions, their leases, and their floors.

A front-end may answer a look-up from its cache only while its lease is valid. A decision that changes stocks is
announced to every live session and committed only when each has dropped those stocks, has no such session (any more),
or its lease is over. What holds here:

- the lease counted here ends after the one counted by the front-end: that one counts 1 s from before it asked, this one
  1.05 s from when it was asked;
- no lease is renewed while an announcement to its session is unanswered, so the wait for it is bounded by one lease;
- a session counts as live, and reads its floor, in one step: it is told of every later announcement, and its floor is
  the last one before;
- a session is on the disk before its opening is answered, and its record goes only after it stopped being live, so a
  catalog that starts again knows every session that may still be open.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from services.common.batching import Batcher
from services.common.errors import Unavailable
from services.common.http import Peer, PeerError, PeerGone, is_loopback
from services.common.logs import get_log
from services.common.models import InvalidateRequest, SessionNotice, SessionNoticeAnswer
from services.common.runtime import Runtime
from services.common.timing import LEASE_AT_CATALOG_S, LEASE_S, SESSION_CALL_S, TELL_AGAIN_S

log = get_log(__name__)

MAX_SESSIONS = 100

RecordSession = Callable[[str, str], Awaitable[None]]
RemoveSessions = Callable[[Iterable[str]], Awaitable[None]]


async def confirms(peer: Peer, session_id: str) -> bool:
    """Whether the front-end at `peer` is opening this very session now."""
    notice = SessionNotice(session=session_id)
    try:
        answer = await peer.call("/sessions/confirm", SessionNoticeAnswer, notice, timeout_s=SESSION_CALL_S)
    except PeerError:
        return False
    return answer.outcome == "mine"


class Session:
    """A front-end's session while it is live: `lease_until` is in seconds of the runtime's clock."""

    def __init__(self, session_id: str, peer: Peer, generation: int, lease_until: float) -> None:
        self.id = session_id
        self.lease_until = lease_until
        self.unanswered = 0
        self.tell: Batcher[Mapping[str, int], bool] = Batcher(self._invalidate, max_batch=1_000, in_flight=1)
        self._peer = peer
        self._generation = generation

    async def _invalidate(self, changes: list[Mapping[str, int]]) -> Sequence[bool]:
        """Tell the front-end of all `changes` in one message. False: it has no such session, or is gone."""
        floors: dict[str, int] = {}
        for change in changes:
            for name, position in change.items():
                floors[name] = max(position, floors.get(name, 0))
        message = InvalidateRequest(session=self.id, generation=self._generation, floors=floors)
        try:
            answer = await self._peer.call("/invalidate", SessionNoticeAnswer, message, timeout_s=LEASE_AT_CATALOG_S)
        except PeerGone:
            if is_loopback(self._peer.url):
                return [False] * len(changes)  # on this machine: its process is gone, and its cache with it
            raise
        return [answer.outcome == "mine"] * len(changes)


class Sessions:
    """All live sessions of this catalog process, and the head that was announced last.

    expired: how many did not answer an announcement until their lease was over.
    """

    grantor = ""  # there is no other one

    def __init__(
        self,
        runtime: Runtime,
        connect: Callable[[str], Peer],
        generation: int,
        announced: int,
        record: RecordSession,
        remove: RemoveSessions,
    ) -> None:
        self.announced = announced
        self.expired = 0
        self._runtime = runtime
        self._connect = connect
        self._generation = generation
        self._record = record
        self._remove = remove
        self._live: dict[str, Session] = {}
        self._opening: set[str] = set()
        self._over: set[str] = set()  # not live any more, but still on the disk

    def __len__(self) -> int:
        return len(self._live)

    async def open(self, session_id: str, url: str, grantors: Sequence[str] = ()) -> int | None:
        """Open a session once and give its floor, a position; None when it is not, or no longer, wanted.

        The front-end is called back first: only it knows whether this is its opening or an old copy of it.
        """
        lease_until = self._runtime.monotonic() + LEASE_AT_CATALOG_S
        if session_id in self._live or session_id in self._opening:
            return None
        if len(self._live) + len(self._opening) >= MAX_SESSIONS:
            raise Unavailable("too many sessions are open")
        self._opening.add(session_id)
        try:
            peer = self._connect(url)
            if not await confirms(peer, session_id):
                return None
            await self._runtime.point("catalog.session.confirmed")
            await self._record(session_id, url)
            await self._runtime.point("catalog.session.recorded")
            # One step from here: live, then the floor.
            self._live[session_id] = Session(session_id, peer, self._generation, lease_until)
            return self.announced
        finally:
            self._opening.discard(session_id)

    async def renew(self, session_id: str) -> bool | None:
        """Renew a lease: True when done, False when an announcement is unanswered, None when there is no such lease."""
        now = self._runtime.monotonic()
        session = self._live.get(session_id)
        if session is None or now >= session.lease_until:
            return None
        if session.unanswered:
            return False
        session.lease_until = now + LEASE_AT_CATALOG_S
        return True

    async def end(self, session_id: str) -> None:
        """End a session because its front-end said so."""
        if self._live.pop(session_id, None) is not None:
            await self._remove([session_id])

    async def announce(self, position: int, names: Iterable[str]) -> int:
        """Step 3c: return when no cache can answer with what `names` were before `position`."""
        self.announced = position
        change = dict.fromkeys(names, position)
        await asyncio.gather(*(self._tell(session, change) for session in list(self._live.values())))
        return position

    async def sweep(self) -> None:
        """In the background: forget sessions whose lease is over, first here, then on the disk."""
        while True:
            await asyncio.sleep(LEASE_S / 4)
            now = self._runtime.monotonic()
            for session in [session for session in self._live.values() if now >= session.lease_until]:
                self._drop(session)
            if over := list(self._over):
                await self._remove(over)
                self._over.difference_update(over)

    async def recall(self, recorded: Mapping[str, str]) -> None:
        """End the sessions of the process before this one; return when each is over, or a lease has passed."""
        began = self._runtime.monotonic()
        await asyncio.gather(*(self._recall(session_id, url, began) for session_id, url in recorded.items()))
        await self._remove(recorded)

    async def _tell(self, session: Session, change: Mapping[str, int]) -> None:
        """Tell one session until it has answered or its lease is over; nothing renews it meanwhile."""
        session.unanswered += 1
        try:
            while (left := session.lease_until - self._runtime.monotonic()) > 0 and session.id in self._live:
                try:
                    async with asyncio.timeout(left):
                        if not await session.tell.submit(change):
                            self._drop(session)
                        return
                except (PeerError, TimeoutError):
                    await asyncio.sleep(TELL_AGAIN_S)
            if session.id in self._live:
                log.warning("a front-end did not answer until its lease was over", session=session.id)
                self.expired += 1
                self._drop(session)
        finally:
            session.unanswered -= 1

    def _drop(self, session: Session) -> None:
        """Stop counting a session as live. Its record on the disk goes later, with the next sweep."""
        if self._live.pop(session.id, None) is not None:
            self._over.add(session.id)

    async def _recall(self, session_id: str, url: str, began: float) -> None:
        peer = self._connect(url)
        notice = SessionNotice(session=session_id)
        while (left := began + LEASE_AT_CATALOG_S - self._runtime.monotonic()) > 0:
            try:
                await peer.call("/sessions/recall", SessionNoticeAnswer, notice, timeout_s=min(left, SESSION_CALL_S))
                return
            except PeerGone:
                if is_loopback(url):
                    return
            except PeerError:
                pass
            await asyncio.sleep(TELL_AGAIN_S)
