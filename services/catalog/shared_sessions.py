"""Who is told before a stock changes, when several catalogs decide: sessions belong to all of them, and lie in etcd.

What `services.catalog.invalidation` promises holds here as well, by other means:

- A renewal is a linearizable read of the session's own key, so a lease never begins after the session was revoked. To
  give a session up is to revoke it, to wait until every lease that was renewed before is over, and only then to go on.
  The wait counts from when *this* process knew of the revocation, whoever wrote it.
- A session's key is written before its opening is answered. A commit names the revision of the sessions that it told,
  and fails when one was opened after: so every session is told of every commit after its opening, and its floor is the
  head at the moment in which its key was written.
- A session names its *grantors*, when it has several catalogs to ask: its lease is renewed only when each of them has
  renewed it. So each of them counts the lease by its own clock, from the last renewal that it granted, as the only
  catalog does. It waits for nobody who fell silent before, also when etcd can say nothing new for a while.
- Any other catalog, one that started later say, has to revoke. Whoever hangs, and renews its session all the same, is
  revoked after half a second: trades wait for a bounded time. Whom only another catalog reaches opens the next session
  there at once, and the decision is left to that catalog.
- "Not my session" is final, since ids are never used again; a refused connection says the same on loopback.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from services.catalog.etcd_sessions import NOT_REACHED, Record, SessionRecords
from services.catalog.invalidation import MAX_SESSIONS, Session, confirms
from services.common.errors import Unavailable
from services.common.http import Peer, PeerError
from services.common.logs import get_log
from services.common.runtime import Runtime
from services.common.timing import KEEP_EVERY_S, LEASE_AT_CATALOG_S, PROBE_AFTER_S, SILENT_S, TELL_AGAIN_S, TELL_S

log = get_log(__name__)

MAX_ID_LENGTH = 128
REVOKE_ATTEMPTS = 3


class SharedSessions:
    """The sessions of all catalogs, as one of them sees and tells them; see `SessionBook`.

    refresh: reads the records anew, linearizably. keep: what else is to be done now and then.
    """

    def __init__(
        self,
        runtime: Runtime,
        connect: Callable[[str], Peer],
        generation: int,
        records: SessionRecords,
        refresh: Callable[[], Awaitable[None]],
        keep: Callable[[], Awaitable[None]],
    ) -> None:
        self.expired = 0
        self.grantor = f"{runtime.random.getrandbits(64):016x}"
        self._runtime = runtime
        self._connect = connect
        self._generation = generation
        self._records = records
        self._refresh = refresh
        self._keep = keep
        self._sessions: dict[str, Session] = {}
        self._revoked_at: dict[str, float] = {}  # when this process knew of it
        self._heard_at: dict[str, float] = {}
        self._over: set[str] = set()  # whose records can go

    def __len__(self) -> int:
        return sum(1 for record in self._records.known.values() if not record.is_revoked)

    async def open(self, session_id: str, url: str, grantors: Sequence[str]) -> int | None:
        """See `SessionBook.open`. Raises Unavailable."""
        if not 0 < len(session_id) <= MAX_ID_LENGTH:
            return None
        await self._refresh()  # a record may reach an etcd whose answers do not reach us: all would wait for nobody
        if len(self._records.known) >= MAX_SESSIONS:
            raise Unavailable("too many sessions are open")
        if not await confirms(self._connect(url), session_id):
            return None
        await self._runtime.point("etcd.session.confirmed")
        floor = await self._records.add(session_id, url, grantors)
        with suppress(Unavailable):
            await self._refresh()  # for our own next decision; another catalog's finds out when it fails
        return floor

    async def renew(self, session_id: str) -> bool | None:
        """See `SessionBook.renew`; only a grantor is ever busy. Raises Unavailable."""
        asked_at = self._runtime.monotonic()
        await self._refresh()
        record = self._records.known.get(session_id)
        if record is None or record.is_revoked or session_id in self._over:
            return None
        session = self._session(record)
        if self._grants(record) and session.unanswered:
            return False
        session.lease_until = max(session.lease_until, asked_at + LEASE_AT_CATALOG_S)
        self._heard_at[session_id] = self._runtime.monotonic()
        return True

    async def end(self, session_id: str) -> None:
        """See `SessionBook.end`. Raises Unavailable."""
        if session_id in self._records.known:
            self._over.add(session_id)
        await self._records.remove([session_id])

    async def announce(self, position: int, names: Iterable[str]) -> int:
        """See `SessionBook.announce`: gives the revision up to which sessions were told. Raises Unavailable."""
        change = dict.fromkeys(names, position)
        told: set[str] = set()
        for may_revoke in (True, False):
            revision = self._records.revision
            records = [each for each in self._records.known.values() if each.id not in told | self._over]
            settled = [self._settle(record, change, may_revoke=may_revoke) for record in records]
            if not any(await asyncio.gather(*settled)):
                return revision
            # We have revoked some, so their records are newer than `revision`; was one opened in between?
            told.update(record.id for record in records)
            await self._refresh()
        raise AssertionError("nothing is revoked the second time")

    async def recall(self, recorded: Mapping[str, str]) -> None:
        """See `SessionBook.recall`: these sessions outlive a catalog."""

    async def sweep(self) -> None:
        """See `SessionBook.sweep`."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            try:
                await self._refresh()
                await self._sweep()
                await self._keep()
            except Unavailable as error:
                log.debug("etcd is not looked after", reason=str(error))

    # Telling.

    async def _settle(self, record: Record, change: Mapping[str, int], *, may_revoke: bool) -> bool:
        """Return when this session cannot answer with what was before; whether its record had to be changed."""
        if record.is_revoked:
            await self._wait_out(record.id)
            return False
        if self._grants(record):
            await self._tell_while_leased(record, change)
            return False
        if await self._tell(record, change, self._runtime.monotonic() + TELL_S):
            return False
        if not may_revoke:
            raise Unavailable("a front-end opens sessions that this catalog cannot tell of changes; ask another one")
        log.warning("a front-end did not answer, its session is revoked", session=record.id)
        self.expired += 1
        if await self._revoke(record):
            await self._runtime.point("etcd.session.revoked")
            await self._wait_out(record.id)
        return True

    def _grants(self, record: Record) -> bool:
        """Whether this process counts the lease of a session by itself."""
        return self.grantor in record.grantors

    async def _tell_while_leased(self, record: Record, change: Mapping[str, int]) -> None:
        """Tell one of ours until it has answered or its lease is over; nothing renews it meanwhile."""
        session = self._session(record)
        session.unanswered += 1
        try:
            if not await self._tell(record, change, session.lease_until):
                log.warning("a front-end did not answer until its lease was over", session=record.id)
                self.expired += 1
                self._over.add(record.id)
                await self._runtime.point("etcd.session.outlasted")
        finally:
            session.unanswered -= 1

    async def _tell(self, record: Record, change: Mapping[str, int], until: float) -> bool:
        """Tell a front-end until it has answered; False when it has not in time."""
        session = self._session(record)
        while (left := until - self._runtime.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    if not await session.tell.submit(change):
                        self._over.add(record.id)
            except (PeerError, TimeoutError):
                await asyncio.sleep(TELL_AGAIN_S)
            else:
                self._heard_at[record.id] = self._runtime.monotonic()
                return True
        return False

    async def _revoke(self, record: Record) -> bool:
        """True when the session is revoked, by us or by another catalog; False when its record is gone."""
        for _ in range(REVOKE_ATTEMPTS):
            if await self._records.revoke(record):
                return True
            await self._refresh()
            found = self._records.known.get(record.id)
            if found is None or found.is_revoked:
                return found is not None
            record = found
        raise Unavailable(NOT_REACHED)

    async def _wait_out(self, session_id: str) -> None:
        """Wait until every lease that was renewed before the revocation is over."""
        now = self._runtime.monotonic()
        await asyncio.sleep(self._revoked_at.setdefault(session_id, now) + LEASE_AT_CATALOG_S - now)
        await self._runtime.point("etcd.session.waited")
        self._over.add(session_id)

    def _session(self, record: Record) -> Session:
        """A session as this process tells it. Its first lease is over a lease after this process saw it."""
        session = self._sessions.get(record.id)
        if session is None:
            until = record.seen_at + LEASE_AT_CATALOG_S
            session = Session(record.id, self._connect(record.url), self._generation, until)
            self._sessions[record.id] = session
        return session

    # What nobody waits for.

    async def _sweep(self) -> None:
        """Forget what is over, and look after those that nobody has heard of."""
        known = self._records.known
        for kept in (self._sessions, self._revoked_at, self._heard_at):
            for session_id in [session_id for session_id in kept if session_id not in known]:
                del kept[session_id]
        self._over &= known.keys()
        now = self._runtime.monotonic()
        for record in known.values():
            if record.is_revoked:
                is_over = now >= self._revoked_at.setdefault(record.id, now) + LEASE_AT_CATALOG_S
            else:
                is_over = self._grants(record) and now >= self._session(record).lease_until
            if is_over:
                self._over.add(record.id)
        if self._over:
            await self._records.remove(sorted(self._over))
            await self._runtime.point("etcd.session.removed")
        silent = [each for each in known.values() if not each.is_revoked and each.id not in self._over]
        await asyncio.gather(*(self._probe(record) for record in silent))

    async def _probe(self, record: Record) -> None:
        """Ask a front-end that was not heard of for long whether it has this session; end it when nobody is there."""
        silent_s = self._runtime.monotonic() - self._heard_at.setdefault(record.id, self._runtime.monotonic())
        until = self._runtime.monotonic() + TELL_S
        if silent_s >= PROBE_AFTER_S and not await self._tell(record, {}, until) and silent_s >= SILENT_S:
            log.warning("a front-end is silent, its session is revoked", session=record.id)
            _ = await self._revoke(record)
