"""The catalog's side of what a front-end relies on: stocks and sessions, honest unless a test steps in between."""

from collections.abc import Awaitable, Callable

import httpx

from services.common.http import Peer
from services.common.models import (
    Head,
    InvalidateRequest,
    SessionAnswer,
    SessionNotice,
    SessionNoticeAnswer,
    SessionRequest,
    Stock,
    StockAnswer,
    StocksAnswer,
)
from tests.support.fake_network import answer, failure

Step = Callable[[], Awaitable[object]]


class FakeCatalog:
    """Reads are of the committed state. `head` is the committed position, `announced` the highest one told of.

    before_answer: awaited after an answer to a look-up was made and before it is sent, so that it can come late.
    before_opened: awaited while an opening is unanswered, after the session counts as live.
    grantor: what sessions call this process; empty when it is the only catalog.
    """

    def __init__(self, front_end: Peer, stocks: dict[str, int]) -> None:
        self.front_end = front_end  # its internal listener
        self.generation = 1
        self.head = 0
        self.announced = 0
        self.stocks = {name: Stock(name=name, price=15_225, quantity=count) for name, count in sorted(stocks.items())}
        self.grantor = ""
        self.live: set[str] = set()
        self.grantors: list[list[str]] = []  # of each session opened
        self.opened: list[str] = []
        self.ended: list[str] = []
        self.renewals = 0
        self.fetches = 0
        self.is_busy = False
        self.is_starting = False
        self.before_answer: Step | None = None
        self.before_opened: Step | None = None
        self.before_renewed: Step | None = None

    def shares_with(self, other: "FakeCatalog", grantor: str) -> None:
        """Be one of several catalogs with the same sessions."""
        self.grantor, self.live, self.opened, self.ended = grantor, other.live, other.opened, other.ended
        self.grantors = other.grantors

    def commit(self, name: str, quantity: int) -> None:
        """A trade of `name` is committed; nobody is told."""
        self.head += 1
        self.announced = max(self.announced, self.head)
        changed = self.stocks[name].quantity + quantity
        self.stocks[name] = self.stocks[name].model_copy(update={"quantity": changed, "version": self.head})

    async def announce(self, *names: str) -> str:
        """Tell the last session opened that these change at the next position; its answer."""
        self.announced = self.head + 1
        return await self.invalidate(self.opened[-1], dict.fromkeys(names, self.announced))

    async def invalidate(self, session: str, floors: dict[str, int], generation: int | None = None) -> str:
        request = InvalidateRequest(session=session, generation=generation or self.generation, floors=floors)
        return (await self.front_end.call("/invalidate", SessionNoticeAnswer, request, timeout_s=5)).outcome

    async def notice(self, what: str, session: str) -> str:
        """Send `confirm` or `recall`; the front-end's answer."""
        request = SessionNotice(session=session)
        return (await self.front_end.call(f"/sessions/{what}", SessionNoticeAnswer, request, timeout_s=5)).outcome

    async def trade(self, name: str, quantity: int) -> None:
        """A trade as it should be: announced, then committed."""
        if self.opened and self.opened[-1] in self.live:
            await self.announce(name)
        self.commit(name, quantity)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if self.is_starting:
            return failure(503)
        path = request.url.path
        if path == "/stocks":
            head = Head(position=self.head, number=self.head, digest="d")
            after, limit = request.url.params.get("after", ""), int(request.url.params.get("limit", 1_000))
            listed = [self.stocks[name] for name in sorted(self.stocks) if name > after][:limit]
            return answer(StocksAnswer(generation=self.generation, head=head, stocks=listed))
        if path.startswith("/stocks/"):
            return await self._stock(path.removeprefix("/stocks/"))
        message = SessionRequest.model_validate_json(request.content)
        if path == "/sessions/open":
            self.grantors.append(message.grantors)
        steps = {"/sessions/open": self._open, "/sessions/renew": self._renew, "/sessions/end": self._end}
        return answer(await steps[path](message.session))

    async def _stock(self, name: str) -> httpx.Response:
        self.fetches += 1
        if name not in self.stocks:
            return failure(404)
        made = answer(StockAnswer(generation=self.generation, head=self.head, stock=self.stocks[name]))
        if self.before_answer is not None:
            await self.before_answer()
        return made

    async def _open(self, session: str) -> SessionAnswer:
        if await self.notice("confirm", session) != "mine":
            return self._said("no_session")
        self.live.add(session)
        self.opened.append(session)
        made = self._said("opened")
        if self.before_opened is not None:
            await self.before_opened()
        return made

    async def _renew(self, session: str) -> SessionAnswer:
        self.renewals += session in self.live
        made = self._said(("busy" if self.is_busy else "renewed") if session in self.live else "no_session")
        if self.before_renewed is not None:
            await self.before_renewed()
        return made

    async def _end(self, session: str) -> SessionAnswer:
        self.live.discard(session)
        self.ended.append(session)
        return self._said("ended")

    def _said(self, outcome: str) -> SessionAnswer:
        said = {"generation": self.generation, "outcome": outcome, "floor": self.announced, "grantor": self.grantor}
        return SessionAnswer.model_validate(said)
