"""One service at several addresses, of which any may answer: who is asked, and who is asked next.

Everybody prefers the first address that works, so that those behind them seldom contend. One that refuses, breaks off
or cannot serve is passed over, and tried again after a pause that grows; the try is made by one short call, and never
by one that has much time to lose. What holds here:

- A call goes on to the next address only when the one before certainly did nothing (a refused connection, a 503), or
  when it is a mere question (a GET). A message whose outcome is unknown is the caller's to repeat.
- When nobody could answer, an indefinite failure outweighs a definite one.
- One that works on a message for long is asked whether it lives. One that does not say so is given up: what became of
  the message is unknown, as it would be later.
"""

from collections.abc import Callable, Sequence

import httpx
from pydantic import BaseModel

from services.common.errors import Unavailable
from services.common.http import AnswerT, Peer, PeerAnswered, PeerError, PeerRefused

PASSED_OVER_MIN_S = 0.5
PASSED_OVER_MAX_S = 2.0
SHORT_CALL_S = 1.0
QUESTION_S = 0.5  # a question is put to the next one when it was not answered by then
SILENT_S = 0.5  # one that has not answered a message by then is asked whether it lives, and has as long to say so
TRY_S = 0.4  # what one that failed before may take, while another one works


class _Candidate:
    """One address. again_at: when it may be tried again; 0 while it works."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.again_at = 0.0
        self._pause = PASSED_OVER_MIN_S

    async def call(self, path: str, answer: type[AnswerT], message: BaseModel | None, timeout_s: float) -> AnswerT:
        """See `Peer.call`; PeerSilent where there is much time to lose, and it does not say that it lives."""
        work = self.peer.call(path, answer, message, timeout_s=timeout_s)
        if message is None or timeout_s <= 2 * SILENT_S:
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
        deadline = self._clock() + timeout_s
        failure: PeerError | None = None
        candidates, tried = self._in_order(is_short=timeout_s <= SHORT_CALL_S)
        for number, candidate in enumerate(candidates, 1):
            left = deadline - self._clock()
            if failure is not None and left <= 0:
                break
            if message is None and number < len(candidates):
                left = min(left, QUESTION_S)
            if candidate is tried:
                left = min(left, TRY_S)
            try:
                result = await candidate.call(path, answer, message, left)
            except PeerError as error:
                if not _is_its_own_fault(error):
                    candidate.works()
                    raise
                candidate.pass_over(self._clock())
                if message is not None and not _is_definite(error):
                    raise
                if failure is None or _is_definite(failure):
                    failure = error
            else:
                candidate.works()
                return result
        assert failure is not None, "somebody was asked"
        raise failure

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
