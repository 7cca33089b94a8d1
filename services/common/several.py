"""One service at several addresses, of which any may answer: who is asked, and who is asked next.

Everybody prefers the first address that works, so that those behind them seldom contend. One that refuses, breaks off
or cannot serve is passed over, and tried again after a pause that grows; the try is made by one short call, and never
by one that has much time to lose. What holds here:

- A message goes on to the next address only when the one before certainly did nothing (a refused connection, a 503).
  One whose outcome is unknown is the caller's to repeat.
- A mere question (`Peer.ask`, or a GET) is put to the next address also when the one before has failed, and beside one
  that is silent.
- When nobody could answer, an indefinite failure outweighs a definite one.
- One that works on a message for long is asked whether it lives. One that does not say so is given up: what became of
  the message is unknown, as it would be later.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx
from pydantic import BaseModel

from services.common.beside import first_answer
from services.common.errors import Unavailable
from services.common.http import AnswerT, Peer, PeerAnswered, PeerError, PeerRefused

PASSED_OVER_MIN_S = 0.5
PASSED_OVER_MAX_S = 2.0
SHORT_CALL_S = 1.0
QUESTION_S = 0.5  # a question that was not answered by then is put to the next one as well
QUESTION_AGAIN_S = 0.1  # while one is silent, one that failed is asked again after so long
SILENT_S = 0.25  # one that has not answered a message by then is asked whether it lives, and has as long to say so
TRY_S = 0.4  # what one that failed before may take, while another one works


class _Candidate:
    """One address. again_at: when it may be tried again; 0 while it works."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.again_at = 0.0
        self._pause = PASSED_OVER_MIN_S

    async def call(self, path: str, answer: type[AnswerT], message: BaseModel | None, timeout_s: float) -> AnswerT:
        """See `Peer.call`; where there is much time to lose, PeerSilent when it does not say that it lives."""
        work = self.peer.call(path, answer, message, timeout_s=timeout_s)
        if message is None or timeout_s < 3 * SILENT_S:
            return await work
        return await self.peer.unless_silent(work, "/livez", SILENT_S)

    def pass_over(self, now: float) -> None:
        """It failed, or is about to be tried although it did."""
        self.again_at = now + self._pause
        self._pause = min(2 * self._pause, PASSED_OVER_MAX_S)

    def works(self) -> None:
        """It answered."""
        if self.again_at:
            self.again_at = 0.0
            self._pause = PASSED_OVER_MIN_S


class Several(Peer):
    """A service at several addresses, called as if it were one. `url` is that of the preferred one."""

    def __init__(self, client: httpx.AsyncClient, urls: Sequence[str], clock: Callable[[], float]) -> None:
        super().__init__(client, urls[0])
        self._candidates = [_Candidate(Peer(client, url)) for url in urls]
        self._clock = clock

    async def call(
        self, path: str, answer: type[AnswerT], message: BaseModel | None = None, *, timeout_s: float
    ) -> AnswerT:
        """See `Peer.call`; `timeout_s` is for all attempts together."""
        if message is None:
            return await self.ask(path, answer, timeout_s=timeout_s)
        candidates, attempt = self._prepare(path, answer, message, timeout_s)
        return await self._in_turn(candidates, attempt, self._clock() + timeout_s)

    async def ask(
        self, path: str, answer: type[AnswerT], message: BaseModel | None = None, *, timeout_s: float
    ) -> AnswerT:
        """See `Peer.ask`; `timeout_s` is for all attempts together."""
        return await self._beside(*self._prepare(path, answer, message, timeout_s))

    def _prepare(
        self, path: str, answer: type[AnswerT], message: BaseModel | None, timeout_s: float
    ) -> tuple[list[_Candidate], Callable[[_Candidate], Coroutine[Any, Any, AnswerT]]]:
        """Whom to ask, in order, and how to ask one of them."""
        deadline = self._clock() + timeout_s
        candidates, tried = self._in_order(is_short=timeout_s <= SHORT_CALL_S)

        async def attempt(candidate: _Candidate) -> AnswerT:
            left = deadline - self._clock()
            return await candidate.call(path, answer, message, min(left, TRY_S) if candidate is tried else left)

        return candidates, attempt

    async def _in_turn(
        self, candidates: list[_Candidate], ask: Callable[[_Candidate], Coroutine[Any, Any, AnswerT]], deadline: float
    ) -> AnswerT:
        """A message: to the next one only when those before certainly did nothing."""
        failure: PeerError | None = None
        for candidate in candidates:
            if failure is not None and self._clock() >= deadline:
                break
            try:
                result = await ask(candidate)
            except PeerError as error:
                if not _is_its_own_fault(error):
                    candidate.works()
                    raise
                candidate.pass_over(self._clock())
                if not _is_definite(error):
                    raise
                failure = error
            else:
                candidate.works()
                return result
        assert failure is not None, "somebody was asked"
        raise failure

    async def _beside(
        self, candidates: list[_Candidate], ask: Callable[[_Candidate], Coroutine[Any, Any, AnswerT]]
    ) -> AnswerT:
        """A question: the first answer counts."""
        silent: list[_Candidate] = []
        failures: list[PeerError] = []

        async def said_by(candidate: _Candidate) -> AnswerT | PeerError:
            silent.append(candidate)
            said: AnswerT | PeerError
            try:
                said = await ask(candidate)
            except PeerError as error:
                if _is_its_own_fault(error):
                    silent.remove(candidate)
                    candidate.pass_over(self._clock())
                    failures.append(error)
                    raise
                said = error
            silent.remove(candidate)
            candidate.works()
            for other in silent:
                other.pass_over(self._clock())
            return said

        try:
            said = await first_answer(candidates, said_by, beside_s=QUESTION_S, again_s=QUESTION_AGAIN_S, gives_up=True)
        except PeerError as error:
            raise next((each for each in failures if not _is_definite(each)), error) from error
        if isinstance(said, PeerError):
            raise said
        return said

    def _in_order(self, *, is_short: bool) -> tuple[list[_Candidate], _Candidate | None]:
        """Those that work, in the order of their addresses; then those that failed, the one to be tried first first.

        Before them all, for this one call if it is a short one: one that failed, that would be preferred if it worked,
        and whose pause is over.
        """
        now = self._clock()
        works = [candidate for candidate in self._candidates if not candidate.again_at]
        failed = sorted(
            (candidate for candidate in self._candidates if candidate.again_at),
            key=lambda candidate: candidate.again_at,
        )
        if works and is_short:
            better = self._candidates[: self._candidates.index(works[0])]
            tried = next((candidate for candidate in better if now >= candidate.again_at), None)
            if tried is not None:
                tried.pass_over(now)  # others do not wait for what comes of it
                return [tried, *works], tried
        return works + failed, None


def service_at(client: httpx.AsyncClient, urls: Sequence[str], clock: Callable[[], float]) -> Peer:
    """The service at one of these addresses, first choice first: a plain peer when there is only one."""
    return Several(client, urls, clock) if len(urls) > 1 else Peer(client, urls[0])


def _is_definite(error: PeerError) -> bool:
    """Whether the one that was asked certainly did nothing."""
    return isinstance(error, PeerRefused) or (isinstance(error, PeerAnswered) and error.status == Unavailable.code)


def _is_its_own_fault(error: PeerError) -> bool:
    """Whether another one might do better: a 404 or 422 would be the same everywhere."""
    return not isinstance(error, PeerAnswered) or error.status >= 500
