"""What the clients of an experiment asked and were told, written down as it happens."""

import asyncio
import time
from collections.abc import Callable

import httpx

from client.bazaar import PATIENCE_S, BazaarClient, StockView, TradeRefused, TradeResult
from client.errors import BazaarClientError, NotAvailable, OutcomeUnknown, Rejected
from eval.history import Operation
from services.common.models import Order, Type

UNPROCESSABLE = 422


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

    def failed(self, operation: Operation, error: BazaarClientError) -> None:
        """Note that it ended with an error."""
        status = {NotAvailable: 503, OutcomeUnknown: 504}.get(type(error), getattr(error, "code", 0))
        self.end(operation, status, f"{type(error).__name__}: {error}")

    async def news(self) -> None:
        """Return when something more has been noted."""
        self._news.clear()
        await self._news.wait()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds, which is looked at whenever something more has been noted."""
        while not condition():
            await self.news()


class Witness(BazaarClient):
    """A client library that notes in `history` every call that a user makes, and what came of it."""

    def __init__(
        self,
        name: str,
        history: History,
        *urls: str,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(*urls, patience_s=patience_s, transport=transport)
        self._name = name
        self._history = history

    async def look_up(self, name: str) -> StockView:
        """As the client library does it."""
        operation = self._history.begin(Operation(self._name, "look_up", 0, name=name))
        try:
            stock = await super().look_up(name)
        except BazaarClientError as error:
            self._history.failed(operation, error)
            raise
        operation.seen = {"quantity": stock.quantity, "etag": stock.etag}
        self._history.end(operation, 200)
        return stock

    async def order(self, number: int) -> Order | None:
        """As the client library does it."""
        operation = self._history.begin(Operation(self._name, "order", 0, number=number))
        try:
            order = await super().order(number)
        except BazaarClientError as error:
            self._history.failed(operation, error)
            raise
        operation.seen = order.model_dump() if order is not None else {}
        self._history.end(operation, 404 if order is None else 200)
        return order

    async def trade(self, type: Type, name: str, quantity: int, key: str | None = None) -> TradeResult:  # noqa: A002
        """As the client library does it. That a key is another trade's is an answer, and the judge says if it is so."""
        key = self.new_key() if key is None else key
        operation = self._history.begin(
            Operation(self._name, "trade", 0, name=name, key=key, type=type, quantity=quantity)
        )
        try:
            result = await super().trade(type, name, quantity, key)
        except Rejected as error:
            if error.code == UNPROCESSABLE:
                self._history.end(operation, error.code)
            else:
                self._history.failed(operation, error)
            raise
        except BazaarClientError as error:
            self._history.failed(operation, error)
            raise
        if isinstance(result, TradeRefused):
            self._history.end(operation, 409)
        else:
            operation.seen = {"number": result.number}
            asked = Order(number=result.number, name=name, type=type, quantity=quantity)
            self._history.end(operation, 201, None if result == asked else f"answered other content, {result}")
        return result
