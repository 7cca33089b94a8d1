"""The lab's client: look up a random stock, sometimes trade it, and in the end check every own order.

Errors are recorded and the loop goes on: a user comes back, and what matters is what was promised to him.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from client.bazaar import BazaarClient, StockView, TradeRefused
from client.errors import BazaarClientError, Indefinite
from client.pace import ClosedLoop, Pace, Work
from client.record import (
    Acknowledged,
    Event,
    FailedCheck,
    Kind,
    LongestTrade,
    OnEvent,
    Request,
    SeenError,
    What,
    WorkloadRecord,
    Wrong,
)
from services.common.models import Order, Trade, Type
from services.common.runtime import Runtime

MOST_PIECES = 5

LOOK_UP_KINDS: dict[str, Kind] = {"hit": "look_up_hit", "miss": "look_up_miss", "off": "look_up_off"}


def _nothing(_: Event) -> None:
    """Nobody listens."""


class Workload:
    """One client's loop of `iterations` look-ups over `names`, each followed by a trade with probability `p`.

    A visit's choices are drawn when it begins, so the same `random` (seeded) makes the same ones.
    """

    def __init__(
        self,
        client: BazaarClient,
        random: random.Random,
        p: float,
        iterations: int,
        names: Sequence[str],
        *,
        number: int = 0,
        runtime: Runtime | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        assert names
        assert 0 <= p <= 1
        self._client = client
        self._random = random
        self._trade_probability = p
        self._iterations = iterations
        self._names = names
        self._number = number
        self._runtime = runtime or Runtime()
        self._on_event = on_event or _nothing
        self.record = WorkloadRecord()

    async def run(self, is_stopped: Callable[[], bool] = lambda: False, pace: Pace | None = None) -> WorkloadRecord:
        """Do all iterations, or those until `is_stopped`, then the checks. Gives what was seen.

        In an open loop the latency of a look-up and of a check counts from the moment at which it was to begin; a trade
        begins when its look-up was answered.
        """
        pace = pace or ClosedLoop(self._runtime.monotonic)
        await pace.run(self._visits(is_stopped))
        await pace.run(partial(self._check, acknowledged) for acknowledged in tuple(self.record.acknowledged))
        self.record.retries = self._client.retries
        return self.record

    def _visits(self, is_stopped: Callable[[], bool]) -> Iterator[Work]:
        for _ in range(self._iterations):
            if is_stopped():
                return
            yield self._visit

    async def _visit(self, start: float) -> None:
        name = self._random.choice(self._names)
        is_to_trade = self._random.random() < self._trade_probability
        trade_type: Type = self._random.choice(("buy", "sell"))
        quantity = self._random.randint(1, MOST_PIECES)
        stock = await self._look_up(name, start)
        if stock is not None and stock.quantity > 0 and is_to_trade:
            await self._trade(Trade(key=self._client.new_key(), name=name, type=trade_type, quantity=quantity))

    async def _look_up(self, name: str, start: float) -> StockView | None:
        try:
            stock = await self._client.look_up(name)
        except BazaarClientError as error:
            self._saw_error("look_up", name, error, self._since(start))
            return None
        seconds = self._since(start)
        self._took(LOOK_UP_KINDS[stock.cache], seconds)
        self._tell("looked_up", seconds)
        return stock

    async def _trade(self, trade: Trade) -> None:
        start = self._runtime.monotonic()
        try:
            result = await self._client.trade(trade.type, trade.name, trade.quantity, trade.key)
        except BazaarClientError as error:
            self._waited(self._since(start))
            if isinstance(error, Indefinite):
                self.record.unknown.append(trade)
            self._saw_error("trade", f"{trade.type} {trade.quantity} {trade.name}", error, self._since(start))
            return
        seconds = self._since(start)
        self._took("trade", seconds)
        self._waited(seconds)
        if isinstance(result, TradeRefused):
            self.record.refused += 1
            self._tell("refused", seconds)
        else:
            self._saw_acknowledgement(trade, result, seconds)

    def _saw_acknowledgement(self, trade: Trade, order: Order, seconds: float) -> None:
        acknowledged = Acknowledged(order.number, trade.name, trade.type, trade.quantity, trade.key)
        self.record.acknowledged.append(acknowledged)
        self._tell("acknowledged", seconds, acknowledged)
        if order != acknowledged.order:
            self._saw_wrong("answered_other_content", acknowledged, order)

    async def _check(self, acknowledged: Acknowledged, start: float) -> None:
        """An acknowledged order must exist, with the content that was asked for."""
        try:
            found = await self._client.order(acknowledged.number)
        except BazaarClientError as error:
            self._saw_error("order_query", f"order {acknowledged.number}", error, self._since(start))
            return
        seconds = self._since(start)
        self._took("order_query", seconds)
        self.record.checked += 1
        self._tell("checked", seconds, acknowledged)
        if found is None:
            self._saw_wrong("missing", acknowledged, found)
        elif found != acknowledged.order:
            self._saw_wrong("other_content", acknowledged, found)

    def _since(self, start: float) -> float:
        return self._runtime.monotonic() - start

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._runtime.wall_ms() / 1_000, UTC)

    def _took(self, kind: Kind, seconds: float) -> None:
        self.record.latencies.setdefault(kind, []).append(seconds)

    def _waited(self, seconds: float) -> None:
        longest = self.record.longest_trade
        if longest is None or seconds * 1_000 > longest.ms:
            self.record.longest_trade = LongestTrade(client=self._number, at=self._now(), ms=seconds * 1_000)

    def _tell(self, what: What, seconds: float, acknowledged: Acknowledged | None = None) -> None:
        self._on_event(Event(self._number, what, seconds, acknowledged))

    def _saw_error(self, request: Request, subject: str, error: BazaarClientError, seconds: float) -> None:
        seen = SeenError(
            client=self._number,
            at=self._now(),
            request=request,
            subject=subject,
            kind=type(error).__name__,
            message=str(error),
            seconds=seconds,
        )
        self.record.errors.append(seen)
        self._on_event(Event(self._number, "error", seconds, error=seen))

    def _saw_wrong(self, wrong: Wrong, acknowledged: Acknowledged, found: Order | None) -> None:
        failed = FailedCheck(
            client=self._number,
            at=self._now(),
            wrong=wrong,
            number=acknowledged.number,
            key=acknowledged.key,
            expected=text_of(acknowledged.order),
            found=text_of(found),
        )
        self.record.failed_checks.append(failed)
        self._on_event(Event(self._number, "wrong", 0.0, acknowledged, failed_check=failed))


def text_of(order: Order | None) -> str:
    """An order in a few words."""
    return "nothing" if order is None else f"order {order.number}: {order.type} {order.quantity} {order.name}"
