"""Keeping a session at the catalog: opening it, renewing its lease in time, ending it when this front-end stops.

Where there are several catalogs, a session names those that answer when it is opened: its *grantors*. Its lease is
renewed only when each of them has renewed it, so each of them knows by its own clock when the lease is over. One that
is lost costs the session. The next one does without it, but only after a while: until then a front-end that is cut off
could open, with a catalog that is cut off with it, one that all the others have to wait for. Once it is back, another
session names it again.
"""

import asyncio
import math
from collections.abc import Sequence

from services.common.http import Peer, PeerAnswered, PeerError
from services.common.logs import get_log
from services.common.models import SessionAnswer, SessionOutcome, SessionRequest
from services.common.runtime import Runtime
from services.common.timing import GRANTOR_S, RENEW_AGAIN_S, RENEW_EVERY_S, SESSION_CALL_S, WITHOUT_GRANTOR_S
from services.front_end.cache import Cache, Session
from services.front_end.pauses import pauses

log = get_log(__name__)

NO_SESSION = "none"  # an id that no session has
WORSE: tuple[SessionOutcome, ...] = ("renewed", "busy", "no_session", "opened", "ended")
"""What a grantor can answer to a renewal, the best first; the last two are no answers to that."""


class SessionKeeper:
    """The lease keeper: there is a live session whenever the catalog lets us have one.

    catalog: whichever answers. catalogs: each by itself.
    """

    def __init__(self, cache: Cache, catalog: Peer, catalogs: Sequence[Peer], url: str, runtime: Runtime) -> None:
        self._cache = cache
        self._catalog = catalog
        self._catalogs = catalogs
        self._url = url  # where the catalog reaches this front-end
        self._clock = runtime.monotonic
        self._random = runtime.random
        self._is_wanted = asyncio.Event()
        self._is_wanted.set()
        self._grantors: dict[str, Peer] = {}  # of the present session
        self._wanted_grantors = len(catalogs) if len(catalogs) > 1 else 0
        self._were_all_there = False
        self._reaches_one = False
        self._defer_until = -math.inf

    @property
    def is_deferring(self) -> bool:
        """Whether there could be a session, and is none for a while, so that no trade has to wait for it."""
        return self._reaches_one and self._clock() < self._defer_until

    async def run(self) -> None:
        """Open a session and keep it; when it has ended, for whatever reason, open another one."""
        while True:
            session = await self._open()
            log.info("the cache has a session, look-ups may be answered from it", session=session.id)
            await self._keep(session)
            log.info("the session has ended, the cache is empty", session=session.id)

    async def stop(self) -> None:
        """End the hits, then tell the catalog, so that no trade waits for a front-end that has gone."""
        async with self._cache.lock:
            session_id = self._cache.end()
        if session_id is None:
            return
        try:
            await self._call(self._catalog, "end", session_id)
        except PeerError as error:
            log.info("the catalog was not told that the session ends; its lease will", reason=str(error))

    async def switch(self, *, on: bool) -> None:
        """Turn the cache on or off. Off, it holds nothing and no trade waits for it; on, it begins empty."""
        self._cache.is_on = on
        if on:
            self._is_wanted.set()
        else:
            self._is_wanted.clear()
            await self.stop()  # also one that is being opened: its answer will be worth nothing

    async def _open(self) -> Session:
        """Ask until a session is open, each time under a new id: one whose fate is unknown is never used again."""
        for pause in pauses(self._random):
            await self._is_wanted.wait()
            self._grantors = await self._find_grantors()
            if self._clock() < self._defer_until:
                await asyncio.sleep(pause)
                continue
            async with self._cache.lock:
                session = self._cache.begin_opening(f"{self._random.getrandbits(128):032x}")
            asked_at = self._clock()
            try:
                answer = await self._call(self._catalog, "open", session.id)
            except PeerError as error:
                log.debug("no session could be opened", reason=str(error))
            else:
                async with self._cache.lock:
                    is_opened = answer.outcome == "opened"
                    if is_opened and self._cache.opened(session, answer.generation, answer.floor, asked_at):
                        return session
            async with self._cache.lock:
                self._cache.end(session)
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def _keep(self, session: Session) -> None:
        """Renew the lease until the session has ended."""
        wait = RENEW_EVERY_S
        waits = pauses(self._random)
        while not await _has_ended(session, wait):
            asked_at = self._clock()
            try:
                answer = await self._renew(session.id)
            except PeerError as error:
                wait = next(waits)
                async with self._cache.lock:
                    if self._grantors and not isinstance(error, PeerAnswered):
                        self._cache.end(session)  # the next one does without that catalog
                    self._cache.kept(session)
                continue
            async with self._cache.lock:
                wait = self._take_answer(session, answer, asked_at)
            waits = pauses(self._random)
            if len(self._grantors) < self._wanted_grantors and len(await self._find_grantors()) > len(self._grantors):
                await self.stop()  # the next session names a catalog that has come back

    async def _find_grantors(self) -> dict[str, Peer]:
        """The catalogs that could renew a session at this moment, by the names that they have in it."""
        if not self._wanted_grantors:
            return {}
        names = await asyncio.gather(*(self._name_of(peer) for peer in self._catalogs))
        found = {name: peer for name, peer in zip(names, self._catalogs, strict=True) if name}
        self._reaches_one = bool(found)
        if len(found) == self._wanted_grantors:
            self._were_all_there = True
            self._defer_until = -math.inf
        elif self._were_all_there:
            self._were_all_there = False
            self._defer_until = self._clock() + WITHOUT_GRANTOR_S
        return found

    async def _renew(self, session_id: str) -> SessionAnswer:
        """What all grantors answer: the worst of it. Raises PeerError when one did not."""
        if not self._grantors:
            return await self._call(self._catalog, "renew", session_id)
        asked = (self._call(peer, "renew", session_id) for peer in self._grantors.values())
        answers: list[SessionAnswer] = []
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
        if {answer.grantor for answer in answers} != self._grantors.keys():
            answers = [answer.model_copy(update={"outcome": "no_session"}) for answer in answers]  # one was restarted
        return max(answers, key=lambda answer: (WORSE.index(answer.outcome), answer.generation))

    def _take_answer(self, session: Session, answer: SessionAnswer, asked_at: float) -> float:
        """Take the answer to a renewal; gives the seconds until the next one."""
        if answer.outcome == "renewed":
            self._cache.renewed(session, answer.generation, asked_at)
            return max(asked_at + RENEW_EVERY_S - self._clock(), 0.0)
        if answer.outcome == "busy":  # an invalidation to us is unanswered; the lease stands for what is left of it
            self._cache.kept(session, answer.generation)
        else:
            self._cache.end(session)
        return RENEW_AGAIN_S

    async def _name_of(self, catalog: Peer) -> str:
        """What a session calls this catalog; empty unless it could renew one: it can tell that there is none."""
        try:
            name = (await self._call(catalog, "renew", NO_SESSION, GRANTOR_S)).grantor
        except PeerError:
            return ""
        self._reaches_one = self._reaches_one or bool(name)
        return name

    async def _call(
        self, catalog: Peer, what: str, session_id: str, timeout_s: float = SESSION_CALL_S
    ) -> SessionAnswer:
        request = SessionRequest(session=session_id, url=self._url, grantors=list(self._grantors))
        return await catalog.call(f"/sessions/{what}", SessionAnswer, request, timeout_s=timeout_s)


async def _has_ended(session: Session, wait: float) -> bool:
    """Wait so many seconds, or until the session has ended; whether it has."""
    try:
        async with asyncio.timeout(wait):
            await session.ended.wait()
    except TimeoutError:
        pass
    return session.ended.is_set()
