"""The bazaar as a Python object. Calls outlive the death of a front-end: they are retried, on every address given.

    async with BazaarClient("http://127.0.0.1:8000", "http://127.0.0.1:8001") as bazaar:
        stock = await bazaar.look_up("GameStart")
        result = await bazaar.buy("GameStart", 3)

A trade gets its idempotency key once and keeps it through all attempts, so it is executed at most once. Errors: see
client/errors.py.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import TracebackType
from typing import Literal, Self, TypeAlias, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from client.addresses import addresses_of
from client.attempts import LOST, Failure, Pauses, failure_of_answer, failure_of_error
from client.errors import NotAvailable, OutcomeUnknown, Rejected
from client.requests import Requests
from services.common.http import make_client
from services.common.keys import new_key
from services.common.models import (
    CacheData,
    CacheView,
    ErrorData,
    LeaderData,
    LeaderView,
    Order,
    OrderData,
    OrdersData,
    PublicStock,
    StockData,
    StocksData,
    Trade,
    Type,
)
from services.common.runtime import Runtime
from services.common.silence import unless_silent

PATIENCE_S = 30.0  # a call is given up after so long
TRADE_ATTEMPT_S = 12.0  # a front-end works on a trade for up to 10 s
READ_ATTEMPT_S = 4.0  # a front-end works on a read for up to 2 s
SILENT_S = 0.3  # a front-end that has not answered by then is asked whether it is ready
READY_S = 0.3  # and has so long to say so
LAST_ATTEMPT_S = 0.5  # no retry is started with less time left than this: it could only make the outcome unknown
PAGE = 1_000

CacheResult = Literal["hit", "miss", "off"]

T = TypeVar("T")
DataT = TypeVar("DataT", bound=BaseModel)


@dataclass(frozen=True)
class StockView:
    """A stock as somebody looked it up; `cache` says how the front-end came by it.

    `etag` names this state of the stock, as the answer did: empty for a stock of a list.
    """

    name: str
    price: Decimal
    quantity: int
    cache: CacheResult
    etag: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class TradeRefused:
    """There was not enough stock. This is final for its key: a new try needs a new one."""

    key: str
    name: str
    type: Type
    quantity: int
    message: str


TradeResult: TypeAlias = Order | TradeRefused


@dataclass(frozen=True)
class _Call:
    """A request that may be sent more than once; with a key it is a trade."""

    path: str
    attempt_s: float = READ_ATTEMPT_S
    body: bytes | None = None
    key: str | None = None


class BazaarClient:
    """Speaks to a bazaar through its front-ends' public addresses. One object serves any number of tasks.

    It stays with the address that answered last. When that one refuses, breaks or says 503, the same call goes to the
    next at once, a trade with the same key; when it is silent and not ready, the next one is asked beside it.
    `patience_s` bounds every call. `transport`, `runtime` and `sleep` are the outside world, for tests and simulations.
    """

    def __init__(
        self,
        *urls: str,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
        runtime: Runtime | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._urls = addresses_of(urls)
        self._patience_s = patience_s
        self._runtime = runtime or Runtime()
        self._sleep = sleep
        outside = self._runtime if transport is None else replace(self._runtime, transport=lambda: transport)
        self._http = make_client(outside)
        self._current = 0  # the address that answered last
        self._calls = 0
        self._attempts = 0

    @property
    def retries(self) -> int:
        """How many attempts were not a call's first."""
        return self._attempts - self._calls

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    def new_key(self) -> str:
        """An idempotency key for one logical trade."""
        return new_key(self._runtime.wall_ms(), self._runtime.random)

    async def look_up(self, name: str) -> StockView:
        """Price and quantity of a stock. Raises Rejected with code 404 when there is none of this name."""

        def read(response: httpx.Response) -> StockView:
            cache = response.headers.get("x-cache", "")
            how: CacheResult = "hit" if cache == "hit" else "miss" if cache == "miss" else "off"
            return _view(_data(StockData, response).data, how, response.headers.get("etag", ""))

        return await self._do(_Call(f"/stocks/{quote(name, safe='', errors='replace')}"), read)

    async def stocks(self) -> AsyncIterator[StockView]:
        """All stocks by name. A list is not answered from the cache."""
        path: str | None = f"/stocks?limit={PAGE}"
        while path is not None:
            page = await self._do(_Call(path), lambda response: _data(StocksData, response))
            for stock in page.data:
                yield _view(stock, "off")
            path = None if page.next is None else f"/stocks?limit={PAGE}&after={quote(page.next, safe='')}"

    async def buy(self, name: str, quantity: int, key: str | None = None) -> TradeResult:
        """Buy; see `trade`."""
        return await self.trade("buy", name, quantity, key)

    async def sell(self, name: str, quantity: int, key: str | None = None) -> TradeResult:
        """Sell; see `trade`."""
        return await self.trade("sell", name, quantity, key)

    async def trade(self, type: Type, name: str, quantity: int, key: str | None = None) -> TradeResult:  # noqa: A002
        """Trade once, however many attempts it takes; give `key` to ask again for a trade whose outcome was unknown.

        Raises Rejected, NotAvailable (not executed) or OutcomeUnknown (may have been; carries the key).
        """
        try:
            trade = Trade(key=self.new_key() if key is None else key, name=name, type=type, quantity=quantity)
        except ValidationError as error:
            raise Rejected(422, _problem(error)) from error
        body = trade.model_dump_json(exclude={"key"}).encode()

        def read(response: httpx.Response) -> TradeResult:
            if response.status_code == httpx.codes.CONFLICT:
                return TradeRefused(trade.key, name, type, quantity, _message(response))
            return _data(OrderData, response).data

        return await self._do(_Call("/orders", TRADE_ATTEMPT_S, body, trade.key), read)

    async def order(self, number: int) -> Order | None:
        """The order with this number, or None when there is certainly none."""

        def read(response: httpx.Response) -> Order | None:
            if response.status_code == httpx.codes.NOT_FOUND:
                return None
            return _data(OrderData, response).data

        return await self._do(_Call(f"/orders/{number}"), read)

    async def orders(self, after: int = 0, limit: int = 100) -> OrdersData:
        """A page of orders in number order; `next` is the `after` of the page that follows, None at the end."""
        call = _Call(f"/orders?after={after}&limit={limit}")
        return await self._do(call, lambda response: _data(OrdersData, response))

    async def leader(self) -> LeaderView:
        """The leader that the front-end selected, and how it sees the replicas."""
        return (await self._do(_Call("/leader"), lambda response: _data(LeaderData, response))).data

    async def cache(self) -> CacheView:
        """The cache of the front-end that answers."""
        return (await self._do(_Call("/cache"), lambda response: _data(CacheData, response))).data

    async def _do(self, call: _Call, read: Callable[[httpx.Response], T]) -> T:
        """Attempt `call` until `read` makes a result of an answer, or patience runs out."""
        monotonic = self._runtime.monotonic
        deadline = monotonic() + self._patience_s
        pauses = Pauses(len(self._urls), self._runtime.random)
        may_be_executed = False
        self._calls += 1
        async with Requests(pauses.note) as requests:
            while True:
                address = self._current
                try:
                    result = await self._attempt(call, read, requests, address, deadline - monotonic())
                except Rejected as error:
                    # What one front-end rejects does not undo what another one may have executed. But a trade that
                    # makes no sense, or whose key is another trade's, was executed by nobody.
                    if may_be_executed and error.code != httpx.codes.UNPROCESSABLE_ENTITY:
                        raise _given_up(call, may_be_executed, str(error)) from error
                    raise
                if not isinstance(result, Failure):
                    return result
                may_be_executed = may_be_executed or (call.key is not None and not result.is_definite)
                if self._current == address:  # no other task has moved on since
                    self._current = (address + 1) % len(self._urls)
                time_left_s = deadline - monotonic()
                spare_s = time_left_s - LAST_ATTEMPT_S
                if spare_s <= 0:  # for another attempt; one that is under way may still decide
                    if not await requests.pause(time_left_s if requests else 0.0):
                        raise _given_up(call, may_be_executed, f"{result.reason}, for {self._patience_s:g} s")
                elif requests:
                    await requests.pause(min(pauses.after(result), spare_s))
                else:
                    await self._sleep(min(pauses.after(result), spare_s))

    async def _attempt(
        self, call: _Call, read: Callable[[httpx.Response], T], requests: Requests, address: int, time_left_s: float
    ) -> T | Failure:
        """Ask this front-end, unless it is being asked; another one of those may decide first. Raises Rejected."""
        answered = address
        try:
            if len(self._urls) == 1:  # nobody else can be asked, so there is nothing to do but wait
                self._attempts += 1
                response = await self._send(call, address, time_left_s)
            else:
                answered = await self._ask(call, requests, address, time_left_s)
                response = requests.take(answered)
        except LOST as error:
            return failure_of_error(error)
        if answered != address:
            self._current = answered
        failure = failure_of_answer(response)
        if failure is not None:
            return failure
        try:
            return read(response)
        except ValidationError:
            return Failure(is_definite=False, reason="an answer that is none of the bazaar's")

    async def _ask(self, call: _Call, requests: Requests, address: int, time_left_s: float) -> int:
        """Ask this front-end beside those that are being asked; whose answer counts. Raises TimeoutError."""
        if (decided := requests.decided(but=address)) is not None:
            return decided
        if address not in requests:
            self._attempts += 1
            requests.send(address, self._send(call, address, time_left_s))
        return await unless_silent(requests.wait(address), lambda: self._is_ready(address), SILENT_S)

    async def _send(self, call: _Call, address: int, time_left_s: float) -> httpx.Response:
        headers = {} if call.key is None else {"content-type": "application/json", "idempotency-key": call.key}
        method = "GET" if call.body is None else "POST"
        async with asyncio.timeout(min(call.attempt_s, time_left_s)):
            return await self._http.request(method, self._urls[address] + call.path, content=call.body, headers=headers)

    async def _is_ready(self, address: int) -> bool:
        """Whether a front-end can do its job: one that is gone says nothing, one that is cut off says no."""
        try:
            async with asyncio.timeout(READY_S):
                return (await self._http.request("GET", self._urls[address] + "/readyz")).is_success
        except LOST:
            return False


def _given_up(call: _Call, may_be_executed: bool, reason: str) -> NotAvailable | OutcomeUnknown:
    if may_be_executed:
        assert call.key is not None
        return OutcomeUnknown(call.key, f"the trade may have been executed: {reason}")
    return NotAvailable(reason)


def _view(stock: PublicStock, cache: CacheResult, etag: str = "") -> StockView:
    """A stock with its price as an exact decimal number."""
    return StockView(stock.name, Decimal(round(stock.price * 100)).scaleb(-2), stock.quantity, cache, etag)


def _data(model: type[DataT], response: httpx.Response) -> DataT:
    """The answer's data. Raises Rejected for a 4xx and ValidationError for an answer of another shape."""
    if response.status_code in {httpx.codes.OK, httpx.codes.CREATED}:
        return model.model_validate_json(response.content)
    raise Rejected(response.status_code, _message(response))


def _message(response: httpx.Response) -> str:
    try:
        return ErrorData.model_validate_json(response.content).error.message
    except ValidationError:
        return "an error without a message"


def _problem(error: ValidationError) -> str:
    return "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
