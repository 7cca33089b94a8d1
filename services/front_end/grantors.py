"""The catalogs that renew a session's lease: all that it names, or any one when it names none.

Where there are several catalogs, a session names those that could renew it when it is opened: its *grantors*. Its lease
is renewed only when each of them has renewed it, so each of them knows by its own clock when the lease is over. One
that is lost costs the session. The next one does without it, but only after a while: until then a front-end that is cut
off could open, with a catalog that is cut off with it, one that all the others have to wait for. Once it is back,
another session names it again.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

from services.common.http import Peer, PeerAnswered, PeerError
from services.common.models import SessionAnswer, SessionOutcome, SessionRequest
from services.common.timing import GRANTOR_S, SESSION_CALL_S, WITHOUT_GRANTOR_S

NO_SESSION = "none"  # an id that no session has
WORSE: tuple[SessionOutcome, ...] = ("renewed", "busy", "no_session", "opened", "ended")
"""What a grantor can answer to a renewal, the best first; the last two are no answers to that."""


class Grantors:
    """What a session asks of catalogs. catalog: whichever answers. catalogs: each by itself."""

    def __init__(self, catalog: Peer, catalogs: Sequence[Peer], url: str, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._catalogs = catalogs if len(catalogs) > 1 else ()  # one alone need not wait for another one's word
        self._url = url  # where the catalogs reach this front-end
        self._clock = clock
        self._named: dict[str, Peer] = {}  # by the session
        self._were_all_there = False
        self._reaches_one = False
        self._defer_until = -math.inf

    @property
    def is_deferring(self) -> bool:
        """Whether a session could be opened, and is not for a while, so that no trade has to wait for it."""
        return self._reaches_one and self._clock() < self._defer_until

    async def choose(self) -> bool:
        """Choose those that the next session names; False while it is not to be opened."""
        self._named = await self._find()
        return self._clock() >= self._defer_until

    async def can_be_more(self) -> bool:
        """Whether another session could name more of them."""
        return len(self._named) < len(self._catalogs) and len(await self._find()) > len(self._named)

    def is_lost(self, error: PeerError) -> bool:
        """Whether a renewal that failed in this way has lost a catalog without which there is no renewal."""
        return bool(self._named) and not isinstance(error, PeerAnswered)

    async def ask(self, what: str, session_id: str) -> SessionAnswer:
        """Open or end a session, at any catalog. Raises PeerError."""
        return await self._call(self._catalog, what, session_id, SESSION_CALL_S)

    async def renew(self, session_id: str) -> SessionAnswer:
        """What all grantors answer: the worst of it. Raises PeerError when one did not."""
        if not self._named:
            return await self.ask("renew", session_id)
        asked = (self._call(catalog, "renew", session_id, SESSION_CALL_S) for catalog in self._named.values())
        answers: list[SessionAnswer] = []
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
        if {answer.grantor for answer in answers} != self._named.keys():
            answers = [answer.model_copy(update={"outcome": "no_session"}) for answer in answers]  # one was restarted
        return max(answers, key=lambda answer: (WORSE.index(answer.outcome), answer.generation))

    async def _find(self) -> dict[str, Peer]:
        """Those that could renew a session at this moment, by the names that they have in it."""
        names = await asyncio.gather(*(self._name_of(catalog) for catalog in self._catalogs))
        found = {name: catalog for name, catalog in zip(names, self._catalogs, strict=True) if name}
        self._reaches_one = bool(found)
        if len(found) == len(self._catalogs):
            self._were_all_there = True
            self._defer_until = -math.inf
        elif self._were_all_there:
            self._were_all_there = False
            self._defer_until = self._clock() + WITHOUT_GRANTOR_S
        return found

    async def _name_of(self, catalog: Peer) -> str:
        """What a session calls this catalog; empty unless it could renew one: it can tell that there is none."""
        try:
            name = (await self._call(catalog, "renew", NO_SESSION, GRANTOR_S)).grantor
        except PeerError:
            return ""
        self._reaches_one = self._reaches_one or bool(name)
        return name

    async def _call(self, catalog: Peer, what: str, session_id: str, timeout_s: float) -> SessionAnswer:
        request = SessionRequest(session=session_id, url=self._url, grantors=list(self._named))
        return await catalog.call(f"/sessions/{what}", SessionAnswer, request, timeout_s=timeout_s)
