"""The public API. It parses, calls and shapes the answer; it decides nothing.

What a route documents and what it does are kept together. The three calls that the bazaar exists for are direct routes:
they read their own parameters. The name of a stock in a path is not judged at all, because anything that is no stock's
name is simply not found.
"""

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from pydantic import Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema

from services.common.app import error_response
from services.common.direct import direct
from services.common.errors import BazaarError, InvalidRequest
from services.common.logs import get_log
from services.common.models import (
    NAME_PATTERN,
    CacheData,
    Key,
    LeaderData,
    LeaderView,
    Order,
    OrderData,
    OrdersData,
    StockData,
    StocksData,
    Trade,
    TradeRequest,
)
from services.common.strict import read_body, read_value
from services.front_end.front_end import FrontEnd
from services.front_end.numbers import AfterNumber, Limit, OrderNumber
from services.front_end.openapi import (
    CACHE_HEADERS,
    IDEMPOTENCY_KEY,
    IF_NONE_MATCH,
    KEY,
    ORDER_NUMBER,
    PLACED_HEADERS,
    STOCK_NAME,
    TRADE_BODY,
    errors,
)
from services.front_end.shapes import StockPage, is_matched, order_json, stocks_json
from services.front_end.stocks import How

log = get_log(__name__)

AfterName = Annotated[
    Annotated[str, Field(pattern=NAME_PATTERN)] | SkipJsonSchema[None],
    Query(description="only stocks whose names come later"),
]
_WANTED = TypeAdapter(TradeRequest)
_KEY: TypeAdapter[str] = TypeAdapter(Key)
_NUMBER: TypeAdapter[int] = TypeAdapter(OrderNumber)

X_CACHE: dict[How, tuple[bytes, bytes]] = {
    "hit": (b"x-cache", b"hit"),
    "miss": (b"x-cache", b"miss"),
    "off": (b"x-cache", b"off"),
}


class StockResponse(Response):
    """An answer whose bytes and headers were made when the stock was fetched."""

    def __init__(self, page: StockPage, how: How, if_none_match: str | None) -> None:
        is_unchanged = if_none_match is not None and is_matched(page.etag, if_none_match)
        self.status_code = 304 if is_unchanged else 200
        self.body = b"" if is_unchanged else page.body
        self.background = None
        self.raw_headers = [*(page.headers_unchanged if is_unchanged else page.headers), X_CACHE[how]]


def json_response(body: str | bytes) -> Response:
    """An answer whose JSON is made already."""
    return Response(body, media_type="application/json")


def add_stock_routes(app: FastAPI, front_end: FrontEnd) -> None:
    """Looking up stocks."""

    @direct(
        app,
        "GET",
        "/stocks/{name}",
        tags=["stocks"],
        response_model=StockData,
        responses={
            200: {"headers": CACHE_HEADERS},
            304: {"description": "The stock is unchanged.", "headers": CACHE_HEADERS},
            **errors(404, 503),
        },
        openapi_extra={"parameters": [STOCK_NAME, IF_NONE_MATCH]},
    )
    async def look_up_stock(request: Request) -> Response:
        """Look up a stock: its price and how many are for sale at this moment."""
        page, how = await front_end.stocks.look_up(request.path_params["name"])
        request.scope["cache"] = how  # for the metrics
        tags = [value for name, value in request.scope["headers"] if name == b"if-none-match"]
        return StockResponse(page, how, b",".join(tags).decode("latin-1") if tags else None)

    @app.get("/stocks", tags=["stocks"], response_model=StocksData, responses=errors(422, 503))
    async def list_stocks(after: AfterName = None, limit: Limit = 100) -> Response:
        """List the stocks by name. `next` is the name to ask after for more, null at the end."""
        found = await front_end.stocks.page(after or "", limit + 1)
        page = found[:limit]
        following = b'"' + page[-1].name.encode("ascii") + b'"' if len(found) > limit else b"null"
        return json_response(b'{"data":' + stocks_json(page) + b',"next":' + following + b"}")


def add_order_routes(app: FastAPI, front_end: FrontEnd) -> None:
    """Placing orders and reading them."""

    @direct(
        app,
        "POST",
        "/orders",
        tags=["orders"],
        status_code=201,
        response_model=OrderData,
        responses={
            201: {"headers": PLACED_HEADERS},
            **errors(400, 413, 415),  # found before there is a key
            **errors(404, 409, 422, 429, 503, 504, headers=KEY),
        },
        openapi_extra={"parameters": [IDEMPOTENCY_KEY], "requestBody": TRADE_BODY},
    )
    async def place_order(request: Request) -> Response:
        """Buy or sell. The answer comes when the order is safe, within ten seconds; retry with the same key at will."""
        wanted = await read_body(request, _WANTED)
        key = _read_key(request)
        trade = front_end.make_trade(wanted, key)
        host = request.client.host if request.client else ""
        response = await _place(front_end, trade, host, told_key=key is not None)
        response.headers["Idempotency-Key"] = trade.key  # of errors too: whoever sent none needs it to ask again
        return response

    @direct(
        app,
        "GET",
        "/orders/{number}",
        tags=["orders"],
        response_model=OrderData,
        responses=errors(404, 422, 503),
        openapi_extra={"parameters": [ORDER_NUMBER]},
    )
    async def read_order(request: Request) -> Response:
        """Read an order by its number."""
        number = read_value(request.path_params["number"], _NUMBER, "path", "number")
        order = await front_end.forwarder.order(number)
        return json_response(order_json(order))

    @app.get("/orders", tags=["orders"], responses=errors(422, 503))
    async def list_orders(after: AfterNumber = 0, limit: Limit = 100) -> OrdersData:
        """List the orders of all customers by number. `next` is the number to ask after for more, null at the end."""
        answer = await front_end.forwarder.orders(after, limit)
        return OrdersData(data=answer.orders, next=answer.next)


def _read_key(request: Request) -> str | None:
    """The idempotency key that came with a trade, if one did. Raises InvalidRequest or RequestValidationError."""
    keys = [value for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if not keys:
        return None
    if len(keys) > 1:
        raise InvalidRequest("a trade has one Idempotency-Key")
    return read_value(keys[0].decode("latin-1"), _KEY, "header", "Idempotency-Key")


async def _place(front_end: FrontEnd, trade: Trade, host: str, *, told_key: bool) -> Response:
    try:
        outcome = await front_end.trade(trade, host)
    except BazaarError as error:
        return error_response(error)
    except Exception:
        log.exception("a trade crashed")
        return error_response(BazaarError())
    assert outcome.number is not None
    order = Order(number=outcome.number, name=trade.name, type=trade.type, quantity=trade.quantity)
    headers = {"Location": f"/orders/{order.number}"}
    if outcome.replayed and told_key:
        headers["Idempotency-Replayed"] = "true"
    return Response(order_json(order), 201, headers, "application/json")


def add_inside_routes(app: FastAPI, front_end: FrontEnd) -> None:
    """Looking inside: who leads, and what the cache holds."""

    @app.get("/leader", tags=["inside"], responses=errors(503))
    async def read_leader() -> LeaderData:
        """Show which replica leads, null while none does, and how this front-end sees each of them."""
        replicas = front_end.replicas
        return LeaderData(data=LeaderView(leader=replicas.leader, replicas=replicas.views()))

    @app.get("/cache", tags=["inside"], response_model=CacheData, responses=errors(503))
    async def read_cache() -> Response:
        """Show what the cache could answer now, least recently used first, and what it has done so far."""
        cache = front_end.cache
        async with cache.lock:
            pages = cache.pages()
        counts = (len(pages), cache.capacity, cache.hits, cache.misses, cache.evictions, cache.invalidations)
        entries = stocks_json(page.stock for page in pages)
        return json_response(
            b'{"data":{"entries":%b,"size":%d,"capacity":%d,"hits":%d,"misses":%d,"evictions":%d,"invalidations":%d}}'
            % (entries, *counts)
        )

    @app.delete(
        "/cache/{name}",
        tags=["inside"],
        status_code=204,
        responses=errors(404, 503),
        openapi_extra={"parameters": [STOCK_NAME]},
    )
    async def drop_from_cache(request: Request) -> Response:
        """Drop a stock from the cache, whether it is in it or not; the next look-up asks the catalog."""
        await front_end.stocks.drop(request.path_params["name"])
        return Response(status_code=204)
