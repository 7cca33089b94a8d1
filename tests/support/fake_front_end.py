"""A front-end in a few lines, for tests of what speaks to one: honest by default, and as bad as a test wants it."""

import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import httpx

Fault: TypeAlias = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response | Exception | None]


def error(code: int, message: str = "as the test wants it", headers: dict[str, str] | None = None) -> httpx.Response:
    """An answer in the one shape of every error."""
    return httpx.Response(code, json={"error": {"code": code, "message": message}}, headers=headers)


class FakeFrontEnd:
    """Serves the public API over `transport`.

    `faults` are used up one for each request, before anything is done; None among them lets a request through.
    `do_then_fail` are used up one for each trade, after it was done, and take the place of its answer.
    """

    def __init__(self, stocks: dict[str, int] | None = None, cache: str = "miss") -> None:
        self.stocks = {"GameStart": 100, "FishCo": 100} if stocks is None else stocks
        self.cache = cache
        self.orders: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[dict[str, Any], httpx.Response]] = {}
        self.faults: deque[Fault | None] = deque()
        self.do_then_fail: deque[httpx.Response | Exception] = deque()
        self.requests: list[httpx.Request] = []
        self.page = 1_000

    @property
    def transport(self) -> httpx.MockTransport:
        """A transport that leads here, whatever the address."""
        return httpx.MockTransport(self.handle)

    @property
    def keys(self) -> list[str | None]:
        """The idempotency keys of all trades that arrived."""
        return [request.headers.get("idempotency-key") for request in self.requests if request.method == "POST"]

    async def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.requests.append(request)
        fault = self.faults.popleft() if self.faults else None
        if callable(fault):
            fault = fault(request)
        if isinstance(fault, Exception):
            raise fault
        if fault is not None:
            return fault
        answer = self._answer(request)
        if request.method == "POST" and self.do_then_fail:
            instead = self.do_then_fail.popleft()
            if isinstance(instead, Exception):
                raise instead
            return instead
        return answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path.strip("/").split("/"):
            case "POST", ["orders"]:
                return self._trade(request)
            case "GET", ["stocks"]:
                return self._page("after", request, [self._stock(name) for name in sorted(self.stocks)], "name")
            case "GET", ["stocks", name]:
                return self._look_up(name)
            case "GET", ["orders"]:
                return self._page("after", request, self.orders, "number")
            case "GET", ["orders", number]:
                return self._order(int(number))
            case "GET", ["leader"]:
                return self._data({"leader": 3, "replicas": [{"id": 3, "state": "level"}]})
            case "GET", ["cache"]:
                counts = dict.fromkeys(("size", "capacity", "hits", "misses", "evictions", "invalidations"), 0)
                return self._data({"entries": [], **counts})
        return error(404, "there is no such page")

    def _data(self, data: Any, code: int = 200, headers: dict[str, str] | None = None) -> httpx.Response:
        return httpx.Response(code, json={"data": data}, headers=headers)

    def _stock(self, name: str) -> dict[str, Any]:
        return {"name": name, "price": 152.25, "quantity": self.stocks[name]}

    def _look_up(self, name: str) -> httpx.Response:
        if name not in self.stocks:
            return error(404, "there is no such stock")
        version = max((order["number"] for order in self.orders if order["name"] == name), default=0)
        return self._data(self._stock(name), headers={"x-cache": self.cache, "etag": f'"1-{version}"'})

    def _order(self, number: int) -> httpx.Response:
        if not 1 <= number <= len(self.orders):
            return error(404, "there is no such order")
        return self._data(self.orders[number - 1])

    def _page(self, after: str, request: httpx.Request, items: list[dict[str, Any]], by: str) -> httpx.Response:
        start: Any = request.url.params.get(after, "" if by == "name" else "0")
        last = start if by == "name" else int(start)
        size = min(int(request.url.params.get("limit", "100")), self.page)
        rest = [item for item in items if item[by] > last]
        more = rest[size - 1][by] if len(rest) > size else None
        return httpx.Response(200, json={"data": rest[:size], "next": more})

    def _trade(self, request: httpx.Request) -> httpx.Response:
        key, trade = request.headers["idempotency-key"], json.loads(request.content)
        if key not in self.answers:
            self.answers[key] = (trade, self._execute(trade))
        before, answer = self.answers[key]
        return answer if before == trade else error(422, "the idempotency key was used for another trade")

    def _execute(self, trade: dict[str, Any]) -> httpx.Response:
        if trade["name"] not in self.stocks:
            return error(404, "there is no such stock")
        change = trade["quantity"] if trade["type"] == "sell" else -trade["quantity"]
        if self.stocks[trade["name"]] + change < 0:
            return error(409, "not enough stock")
        self.stocks[trade["name"]] += change
        self.orders.append({"number": len(self.orders) + 1, **trade})
        return self._data(self.orders[-1], 201)


class FakeTime:
    """A clock that moves only when somebody sleeps, or the test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        """Seconds."""
        return self.now_s

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return 1_800_000_000_000 + int(self.now_s * 1_000)

    @property
    def sleep(self) -> Callable[[float], Awaitable[None]]:
        """Instead of asyncio.sleep."""

        async def sleep(seconds: float) -> None:
            self.sleeps.append(seconds)
            self.now_s += seconds

        return sleep
