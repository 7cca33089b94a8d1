"""The CSV file of the initial stocks: a header `name,price,quantity`, then one stock a row.

Prices have at most two decimals; `quantity` may be left out and is 100 then. A bad row is refused with file, line and
reason.
"""

import csv
import re
from collections.abc import Collection
from pathlib import Path

from services.common.models import MAX_STOCK, NAME_PATTERN, Stock

DEFAULT_STOCKS = Path(__file__).with_name("stocks.csv")
DEFAULT_QUANTITY = 100
MAX_STOCKS = 100_000  # in their longest form they fill one message to a replica (`wire.MAX_MESSAGE_BYTES`)
MAX_PRICE = 10**12

_NAME = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z", re.ASCII)
_PRICE = re.compile(r"(\d{1,11})(?:\.(\d{1,2}))?\Z", re.ASCII)
_QUANTITY = re.compile(r"\d{1,16}\Z", re.ASCII)


class BadStocksFile(ValueError):
    """The file cannot be used; the message says where and why."""


def read_stocks(path: Path) -> list[Stock]:
    """The stocks of `path`, by name. Raises BadStocksFile."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            stocks = _read_rows(path, rows)
    except OSError as error:
        raise BadStocksFile(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadStocksFile(f"{path}: is not UTF-8 text") from None
    if not stocks:
        raise BadStocksFile(f"{path}: holds no stock")
    return sorted(stocks.values(), key=lambda stock: stock.name)


def _read_rows(path: Path, rows: "csv.DictReader[str]") -> dict[str, Stock]:
    stocks: dict[str, Stock] = {}
    try:
        columns = rows.fieldnames or []
        if sorted(columns) not in (["name", "price"], ["name", "price", "quantity"]):
            raise BadStocksFile(f"{path}:1: the first line must be name,price,quantity")
        for row in rows:
            try:
                stock = _read_row(row, stocks)
            except ValueError as error:
                raise BadStocksFile(f"{path}:{rows.line_num}: {error}") from None
            stocks[stock.name] = stock
    except csv.Error as error:
        raise BadStocksFile(f"{path}:{rows.line_num}: {error}") from None
    return stocks


def _read_row(row: "dict[str | None, str | list[str] | None]", known: Collection[str]) -> Stock:
    if None in row:
        raise ValueError("too many columns")
    if len(known) == MAX_STOCKS:
        raise ValueError(f"more than {MAX_STOCKS:,} stocks")
    name, price, quantity = (row.get(column, "") for column in ("name", "price", "quantity"))
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError("a name is 1 to 64 characters of A-Z a-z 0-9 . _ -")
    if name in known:
        raise ValueError("this name stands twice")
    match = _PRICE.match(price) if isinstance(price, str) else None
    if match is None:
        raise ValueError("a price is a number above 0 with at most two decimals, like 152.25")
    cents = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    if not 0 < cents <= MAX_PRICE:
        raise ValueError("a price is a number above 0 with at most two decimals, like 152.25")
    return Stock(name=name, price=cents, quantity=_read_quantity(quantity))


def _read_quantity(text: "str | list[str] | None") -> int:
    if not text:
        return DEFAULT_QUANTITY
    if not isinstance(text, str) or not _QUANTITY.match(text) or int(text) > MAX_STOCK:
        raise ValueError("a quantity is a whole number from 0 to 10^15")
    return int(text)
