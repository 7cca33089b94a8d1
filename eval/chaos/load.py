"""The clients of a chaos run: they trade, look up, query orders and ask again, and write down all they were told.

Each speaks through a BazaarClient, as a user's program would, and must never see an error.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from client import BazaarClient, BazaarClientError, NotAvailable, OutcomeUnknown, Rejected, TradeRefused, TradeResult
from eval.history import Operation
from services.common.models import Order, Type

THINK_S = 0.01  # on average, between two operations of one client
MOST_PIECES = 5
RECENT = 20  # of the own trades and orders, those that are asked for again
TWICE = 0.1  # of the trades: sent through two front-ends at once
OTHER_CONTENT = 0.1  # of the repeated keys: with another quantity


class History:
    """What all clients did, in the order in which they began, and the errors that they saw."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.errors: list[str] = []
        self.trades = 0  # answered
        self._news = asyncio.Event()

    def begin(self, operation: Operation) -> Operation:
        """Note an operation that is about to be sent."""
        operation.began = time.monotonic()
        self.operations.append(operation)
        return operation

    def end(self, operation: Operation, status: int, error: str | None = None) -> None:
        """Note its answer, or that its client saw an error."""
        operation.ended = time.monotonic()
        operation.status = status
        if error is not None:
            self.errors.append(f"{error}: {operation}")
        if operation.kind == "trade":
            self.trades += 1
        self._news.set()

    async def news(self) -> None:
        """Return when something more has been noted."""
        self._news.clear()
        await self._news.wait()


class Customer:
    """One client. It begins with one front-end; for trades that it sends twice, it begins with another one as well."""

    def __init__(
        self,
        name: str,
        clients: Sequence[BazaarClient],
        stocks: Sequence[str],
        history: History,
        source: random.Random,
    ) -> None:
        self.name = name
        self.done_since = 0.0  # when the last operation began that has ended
        self._clients = clients
        self._stocks = stocks
        self._history = history
        self._random = source
        self._trades: list[Operation] = []
        self._numbers: list[int] = [1]

    async def live(self, stop: asyncio.Event) -> None:
        """Do something, think, and again."""
        while not stop.is_set():
            began = time.monotonic()
            await self.act()
            self.done_since = began
            await asyncio.sleep(self._random.expovariate(1 / THINK_S))

    async def act(self) -> None:
        """One random operation."""
        what = self._random.random()
        if what < 0.35:
            await self._look_up(self._random.choice(self._stocks))
        elif what < 0.75:
            await self._new_trade()
        elif what < 0.87 and self._trades:
            await self._ask_again(self._random.choice(self._trades[-RECENT:]))
        else:
            await self._query(self._random.choice([*self._numbers[-RECENT:], self._numbers[-1] + 1]))

    async def _look_up(self, name: str) -> None:
        operation = self._history.begin(Operation(self.name, "look_up", 0, name=name))
        try:
            stock = await self._clients[0].look_up(name)
        except BazaarClientError as error:
            self._failed(operation, error)
        else:
            operation.seen = {"quantity": stock.quantity, "etag": stock.etag}
            self._history.end(operation, 200)

    async def _query(self, number: int) -> None:
        operation = self._history.begin(Operation(self.name, "order", 0, number=number))
        try:
            order = await self._clients[0].order(number)
        except BazaarClientError as error:
            self._failed(operation, error)
        else:
            operation.seen = order.model_dump() if order is not None else {}
            self._history.end(operation, 404 if order is None else 200)

    async def _new_trade(self) -> None:
        trade = Operation(
            self.name,
            "trade",
            0,
            name=self._random.choice(self._stocks),
            key=self._clients[0].new_key(),
            type=self._random.choice(("buy", "sell")),
            quantity=self._random.randint(1, MOST_PIECES),
        )
        self._trades.append(trade)
        if self._random.random() < TWICE:
            await asyncio.gather(self._trade(trade), self._trade(_same(trade), self._clients[-1]))
        else:
            await self._trade(trade)

    async def _ask_again(self, trade: Operation) -> None:
        """The same key again, now and then with other content, which must be rejected."""
        more = 1 if self._random.random() < OTHER_CONTENT else 0
        await self._trade(_same(trade, more), may_be_rejected=more > 0)

    async def _trade(
        self, trade: Operation, client: BazaarClient | None = None, *, may_be_rejected: bool = False
    ) -> None:
        kind: Type = "buy" if trade.type == "buy" else "sell"
        self._history.begin(trade)
        try:
            result = await (client or self._clients[0]).trade(kind, trade.name, trade.quantity, trade.key)
        except Rejected as error:
            if may_be_rejected and error.code == 422:
                self._history.end(trade, error.code)
            else:
                self._failed(trade, error)
        except BazaarClientError as error:
            self._failed(trade, error)
        else:
            self._take(trade, kind, result)

    def _take(self, trade: Operation, kind: Type, result: TradeResult) -> None:
        if isinstance(result, TradeRefused):
            self._history.end(trade, 409)
            return
        trade.seen = {"number": result.number}
        self._numbers.append(result.number)
        asked = Order(number=result.number, name=trade.name, type=kind, quantity=trade.quantity)
        self._history.end(trade, 201, None if result == asked else f"answered other content, {result}")

    def _failed(self, operation: Operation, error: BazaarClientError) -> None:
        status = {NotAvailable: 503, OutcomeUnknown: 504}.get(type(error), getattr(error, "code", 0))
        self._history.end(operation, status, f"{type(error).__name__}: {error}")


class Crowd:
    """All clients together."""

    def __init__(self, customers: Sequence[Customer], history: History) -> None:
        self._customers = customers
        self._history = history

    async def everybody_done(self, times: int = 1) -> None:
        """Return when each client has begun and ended so many operations from now on."""
        for _ in range(times):
            now = time.monotonic()
            while any(customer.done_since < now for customer in self._customers):
                await self._history.news()


@asynccontextmanager
async def trading(urls: Sequence[str], count: int, history: History, seed: int) -> AsyncIterator[Crowd]:
    """So many clients act during the body; at its end, each ends what it has under way."""
    stop = asyncio.Event()
    turned = [[*urls[first:], *urls[:first]] for first in range(len(urls))]
    clients = [BazaarClient(*turned[number % len(urls)]) for number in range(count + 1)]
    try:
        stocks = [stock.name async for stock in clients[0].stocks()]
        customers = [
            Customer(
                f"client-{number + 1}",
                clients[number : number + 2],
                stocks,
                history,
                random.Random(f"{seed}/{number}"),
            )
            for number in range(count)
        ]
        async with asyncio.TaskGroup() as group:
            for customer in customers:
                group.create_task(customer.live(stop))
            try:
                yield Crowd(customers, history)
            finally:
                stop.set()
    finally:
        for client in clients:
            await client.aclose()


def _same(trade: Operation, more: int = 0) -> Operation:
    return Operation(
        trade.client, "trade", 0, name=trade.name, key=trade.key, type=trade.type, quantity=trade.quantity + more
    )
