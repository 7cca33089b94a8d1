"""An order replica's side of what a front-end relies on. All replicas of a test share one sequence of decisions."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from services.common.models import (
    Head,
    LeaderNotice,
    Order,
    OrderAnswer,
    OrdersAnswer,
    ReplicaStatus,
    Trade,
    TradeOutcome,
    TradeResult,
    TradesAnswer,
    TradesRequest,
)
from tests.support.fake_network import answer, failure


class FakeLog:
    """The one sequence: what was decided about each key, and the accepted orders."""

    def __init__(self) -> None:
        self.decided: dict[str, tuple[Trade, int | None]] = {}
        self.orders: list[Order] = []
        self.stock = 100

    def decide(self, trade: Trade) -> TradeOutcome:
        """Execute a trade, once for each key."""
        known = self.decided.get(trade.key)
        if known is not None:
            if known[0] != trade:
                return TradeOutcome(result="other_content")
            return self._outcome(known[1], replayed=True)
        after = self.stock + (trade.quantity if trade.type == "sell" else -trade.quantity)
        number = None
        if after >= 0:
            self.stock = after
            number = len(self.orders) + 1
            self.orders.append(Order(number=number, name=trade.name, type=trade.type, quantity=trade.quantity))
        self.decided[trade.key] = (trade, number)
        return self._outcome(number, replayed=False)

    @staticmethod
    def _outcome(number: int | None, *, replayed: bool) -> TradeOutcome:
        return TradeOutcome(result="refused" if number is None else "accepted", number=number, replayed=replayed)


class FakeReplica:
    """One replica. result: the outcome it gives instead of deciding. code: its answer to everything but checks.

    before_trades: awaited before a batch is looked at. batches: every TradesRequest that arrived.
    """

    def __init__(self, replica_id: int, log: FakeLog) -> None:
        self.id = replica_id
        self.log = log
        self.role = "follower"
        self.level = True
        self.level_age: float | None = 0.0
        self.shown_id = replica_id
        self.check_code: int | None = None
        self.code: int | None = None
        self.result: TradeResult | None = None
        self.answers_short = False  # with one outcome too few
        self.before_trades: Callable[[], Awaitable[object]] | None = None
        self.batches: list[TradesRequest] = []
        self.queries: list[str] = []
        self.notices: list[LeaderNotice] = []
        self.generation = 1
        self.arrived = asyncio.Event()  # a batch or a query

    async def handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/status":
            return failure(self.check_code) if self.check_code else answer(self._status())
        if path == "/leader":
            notice = LeaderNotice.model_validate_json(request.content)
            self.notices.append(notice)
            self.role = "leader" if notice.leader == self.id else "follower"
            return answer(self._status())
        if path == "/trades":
            return await self._trades(TradesRequest.model_validate_json(request.content))
        self.queries.append(str(request.url.raw_path, "ascii"))
        self.arrived.set()
        if self.code is not None:
            return failure(self.code)
        if path == "/orders":
            return self._page(int(request.url.params["after"]), int(request.url.params["limit"]))
        number = int(path.removeprefix("/orders/"))
        return answer(
            OrderAnswer(
                generation=self.generation,
                order=self.log.orders[number - 1] if number <= len(self.log.orders) else None,
            )
        )

    async def _trades(self, request: TradesRequest) -> httpx.Response:
        self.batches.append(request)
        self.arrived.set()
        if self.before_trades is not None:
            await self.before_trades()
        if self.code is not None:
            return failure(self.code)
        if self.result is not None:
            return answer(TradesAnswer(outcomes=[TradeOutcome(result=self.result)] * len(request.trades)))
        outcomes = [self.log.decide(trade) for trade in request.trades]
        return answer(TradesAnswer(outcomes=outcomes[int(self.answers_short) :]))

    def _page(self, after: int, limit: int) -> httpx.Response:
        orders = self.log.orders[after : after + limit]
        is_more = after + limit < len(self.log.orders)
        return answer(
            OrdersAnswer(generation=self.generation, orders=orders, next=orders[-1].number if is_more else None)
        )

    def _status(self) -> ReplicaStatus:
        status = {
            "replica_id": self.shown_id,
            "generation": self.generation,
            "role": self.role,
            "level": self.level,
            "level_age": self.level_age,
            "head": Head(position=0, number=0, digest="d"),
        }
        return ReplicaStatus.model_validate(status)
