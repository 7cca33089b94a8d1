"""Keeping a session at the catalog: opening it, renewing its lease in time, ending it when this front-end stops."""

import asyncio

from services.common.http import PeerError
from services.common.logs import get_log
from services.common.models import SessionAnswer
from services.common.runtime import Runtime
from services.common.timing import RENEW_AGAIN_S, RENEW_EVERY_S
from services.front_end.cache import Cache, Session
from services.front_end.grantors import Grantors
from services.front_end.pauses import pauses

log = get_log(__name__)


class SessionKeeper:
    """The lease keeper: there is a live session whenever the catalog lets us have one."""

    def __init__(self, cache: Cache, grantors: Grantors, runtime: Runtime) -> None:
        self._cache = cache
        self._grantors = grantors
        self._clock = runtime.monotonic
        self._random = runtime.random
        self._is_wanted = asyncio.Event()
        self._is_wanted.set()

    @property
    def is_deferring(self) -> bool:
        """See `Grantors.is_deferring`: a front-end without a session does its job all the same."""
        return self._grantors.is_deferring

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
            await self._grantors.ask("end", session_id)
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
            if not await self._grantors.choose():
                await asyncio.sleep(pause)
                continue
            async with self._cache.lock:
                session = self._cache.begin_opening(f"{self._random.getrandbits(128):032x}")
            asked_at = self._clock()
            try:
                answer = await self._grantors.ask("open", session.id)
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
                answer = await self._grantors.renew(session.id)
            except PeerError as error:
                wait = next(waits)
                async with self._cache.lock:
                    if self._grantors.is_lost(error):
                        self._cache.end(session)  # the next one does without that catalog
                    self._cache.kept(session)
                continue
            async with self._cache.lock:
                wait = self._take_answer(session, answer, asked_at)
            waits = pauses(self._random)
            if await self._grantors.can_be_more():
                await self.stop()  # the next session names a catalog that has come back

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


async def _has_ended(session: Session, wait: float) -> bool:
    """Wait so many seconds, or until the session has ended; whether it has."""
    try:
        async with asyncio.timeout(wait):
            await session.ended.wait()
    except TimeoutError:
        pass
    return session.ended.is_set()
