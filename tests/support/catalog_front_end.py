"""A front-end's side of what the catalog relies on: it confirms its session, drops what changes, obeys a recall."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from services.common.models import InvalidateRequest, SessionNotice, SessionNoticeAnswer
from tests.support.fake_network import answer

Step = Callable[[], Awaitable[object]]


class CacheHolder:
    """One front-end. `session` is the one that it has, or is opening.

    before: awaited before a path is answered, one hook for each path.
    """

    def __init__(self, url: str = "http://127.0.0.1:8021", session: str = "session-1") -> None:
        self.url = url
        self.session: str | None = session
        self.before: dict[str, Step] = {}
        self.confirms: list[str] = []
        self.invalidations: list[InvalidateRequest] = []
        self.recalls: list[str] = []

    async def handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path in self.before:
            await self.before[path]()
        if path == "/invalidate":
            message = InvalidateRequest.model_validate_json(request.content)
            self.invalidations.append(message)
            return self._answer(message.session)
        notice = SessionNotice.model_validate_json(request.content)
        if path == "/sessions/confirm":
            self.confirms.append(notice.session)
            return self._answer(notice.session)
        assert path == "/sessions/recall"
        self.recalls.append(notice.session)
        said = self._answer(notice.session)
        if self.session == notice.session:
            self.session = None
        return said

    @property
    def floors(self) -> list[dict[str, int]]:
        """What it was told to drop, in order."""
        return [message.floors for message in self.invalidations]

    def _answer(self, session: str) -> httpx.Response:
        outcome: Any = "mine" if session == self.session else "not_mine"
        return answer(SessionNoticeAnswer(outcome=outcome))
