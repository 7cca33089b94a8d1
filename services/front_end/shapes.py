"""How a stock looks from outside, made once and kept: a cached look-up then costs no serialisation at all.

The bytes are put together by hand because a price is integer cents inside and a JSON number with exactly two decimals
outside, which no float is sure to become. A name needs no escaping: its characters are `[A-Za-z0-9._-]`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from services.common.models import Order, Stock, StockAnswer

Headers = tuple[tuple[bytes, bytes], ...]


def stock_json(stock: Stock) -> bytes:
    """A stock as JSON: `{"name":"X","price":152.25,"quantity":100}`."""
    assert stock.price >= 0, "a price in cents is not negative"
    units, cents = divmod(stock.price, 100)
    return f'{{"name":"{stock.name}","price":{units}.{cents:02d},"quantity":{stock.quantity}}}'.encode("ascii")


def stocks_json(stocks: Iterable[Stock]) -> bytes:
    """Stocks as a JSON array."""
    return b"[" + b",".join(map(stock_json, stocks)) + b"]"


def order_json(order: Order) -> bytes:
    """The answer that tells an order: `{"data":{"number":17,"name":"X","type":"buy","quantity":3}}`."""
    trade = f'"name":"{order.name}","type":"{order.type}","quantity":{order.quantity}'
    return f'{{"data":{{"number":{order.number},{trade}}}}}'.encode("ascii")


@dataclass(frozen=True, slots=True)
class StockPage:
    """A stock as the catalog answered it, with the answer to every look-up it serves.

    head: the catalog's head when it answered. headers: of the answer 200, headers_unchanged: of 304, but for X-Cache.
    """

    stock: Stock
    generation: int
    head: int
    etag: str
    body: bytes
    headers: Headers
    headers_unchanged: Headers

    @classmethod
    def of(cls, answer: StockAnswer) -> "StockPage":
        """Make the page once, when the catalog's answer arrives."""
        etag = f'"{answer.generation}-{answer.stock.etag}"'
        body = b'{"data":' + stock_json(answer.stock) + b"}"
        unchanged = (
            (b"etag", etag.encode("ascii")),
            (b"cache-control", b"no-cache"),  # no cache on the way may answer: only this one is told of trades
        )
        content = ((b"content-length", b"%d" % len(body)), (b"content-type", b"application/json"))
        return cls(answer.stock, answer.generation, answer.head, etag, body, content + unchanged, unchanged)


def is_matched(etag: str, if_none_match: str) -> bool:
    """Whether a header `If-None-Match` names `etag`: a list, `*`, or a weak tag (RFC 9110, 13.1.2)."""
    return any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in if_none_match.split(","))
