"""What the public API's description says beyond the models: statuses, headers, and an introduction for new users."""

from typing import Any

from services.common.models import KEY_PATTERN, MAX_NUMBER, NAME_PATTERN, ErrorData

Responses = dict[int | str, dict[str, Any]]

DESCRIPTION = """
Look up stocks, buy and sell them, and look up your orders. Nothing that was acknowledged here is lost, doubled or
contradicted, whichever machine dies.

**Try it:** open *GET /stocks*, press *Try it out* and *Execute*; take a name to *POST /orders* and buy a few; read the
order back under its number; look at *GET /leader* and *GET /cache* to see who served you.

**Errors** all look like `{"error": {"code": 404, "message": "..."}}`. After a **429** or **503** nothing was executed:
wait for `Retry-After` seconds and try again. After a **504**, or a connection that broke, the outcome is unknown: send
the same trade again with the same `Idempotency-Key`. The same key gives the same order, however often it is sent.

Beside what stands at each call, any request can be refused at the door: **400** when it is not valid HTTP, **405** for
another method, **408** when it does not arrive in time, **413**, **414** or **431** when it is too large, **503** when
there are too many connections or requests; and **500** is a fault of ours.
"""

TAGS = [
    {"name": "stocks", "description": "What is for sale."},
    {"name": "orders", "description": "Buying, selling, and what came of it."},
    {"name": "inside", "description": "How the bazaar serves you: the leader and the cache."},
    {"name": "operations", "description": "For those who run it."},
]

_MEANINGS = {
    400: "The body is not JSON.",
    404: "There is no such thing.",
    409: "Not enough stock. Final for this key: a new try needs a new one.",
    413: "The body is too large.",
    415: "The body is not application/json, or it is compressed.",
    422: "The request makes no sense, or its key was used for another trade.",
    429: "Too many trades from your address were refused lately. This one was certainly not executed.",
    503: "Not available at the moment. This request was certainly not executed.",
    504: "The outcome is unknown. Ask again with the same key.",
}


def header(text: str, **schema: Any) -> dict[str, Any]:
    """A header that comes with an answer."""
    return {"description": text, "schema": {"type": "string", **schema}}


RETRY_AFTER = {"Retry-After": header("seconds to wait before the next try", examples=["1"])}
KEY = {"Idempotency-Key": header("the trade's key: the one that was sent, or one made here")}
CACHE_HEADERS = {
    "X-Cache": header("whether the cache answered; off when there is none", enum=["hit", "miss", "off"]),
    "ETag": header("changes with every trade of the stock", examples=['"1-42"']),
    "Cache-Control": header("caches on the way must ask again", enum=["no-cache"]),
}


def errors(*codes: int, headers: dict[str, Any] | None = None) -> Responses:
    """These statuses have the one error shape."""
    found: Responses = {}
    for code in codes:
        carried = {**(headers or {}), **(RETRY_AFTER if code in {429, 503} else {})}
        found[code] = {"model": ErrorData, "description": _MEANINGS[code]}
        if carried:
            found[code]["headers"] = carried
    return found


STOCK_NAME: dict[str, Any] = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "a stock's name; 404 when there is none of this name, and when it is no name at all",
    "schema": {"type": "string", "pattern": NAME_PATTERN},
    "example": "GameStart",
}
IF_NONE_MATCH: dict[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "an ETag, several, or *: the answer is 304 without a body when the stock is unchanged",
    "schema": {"type": "string"},
}
ORDER_NUMBER: dict[str, Any] = {
    "name": "number",
    "in": "path",
    "required": True,
    "description": "the order's number",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_NUMBER, "title": "Number"},
    "example": 1,
}
IDEMPOTENCY_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "made once for a trade and sent again with every retry; one is made for you if you send none",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
}
TRADE_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/TradeRequest"}}},
}
PLACED_HEADERS = {
    **KEY,
    "Location": header("where the order can be read", examples=["/orders/17"]),
    "Idempotency-Replayed": header("`true` when the key you sent had been executed before", enum=["true"]),
}
