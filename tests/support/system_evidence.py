"""What a bazaar holds, read straight from its database files, and whether that is what its customers were told.

Written from the design alone: no code of the services is used here, so a mistake made there is not made again.
"""

import csv
import hashlib
import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from tests.support.system_ledger import Ledger, Seen, Told

STOCKS_FILE = Path(__file__).parents[2] / "services" / "catalog" / "stocks.csv"
MOST_STOCK = 10**15


class Stock(NamedTuple):
    """Price in cents; `version` is the position of the last accepted entry."""

    price: int
    quantity: int
    version: int = 0


class Row(NamedTuple):
    """One row of a replica's log, as it stands in the file."""

    position: int
    number: int | None
    key: str
    name: str
    type: str
    quantity: int
    price: int
    at: int
    digest: str


class CatalogFile(NamedTuple):
    """What the catalog's file holds of the past: the stocks, and its head as JSON."""

    stocks: dict[str, Stock]
    head: dict[str, object]


def read_log(path: Path) -> list[Row]:
    """A replica's whole log."""
    with closing(_open(path)) as database:
        query = "SELECT position, number, key, name, type, quantity, price, at, digest FROM log ORDER BY position"
        return [Row(*row) for row in database.execute(query)]


def read_catalog(path: Path) -> CatalogFile:
    """The catalog's state."""
    with closing(_open(path)) as database:
        database.execute("BEGIN")  # one moment for both
        stocks = database.execute("SELECT name, price, quantity, version FROM stocks")
        found = {name: Stock(*rest) for name, *rest in stocks}
        (head,) = database.execute("SELECT value FROM meta WHERE name = 'head'").fetchone()
        return CatalogFile(found, json.loads(head))


def initial_stocks(path: Path = STOCKS_FILE) -> dict[str, Stock]:
    """The stocks that a new bazaar begins with."""
    with path.open(encoding="utf-8", newline="") as file:
        return {
            row["name"]: Stock(int(Decimal(row["price"]) * 100), int(row["quantity"])) for row in csv.DictReader(file)
        }


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)


class History:
    """One log played over the stocks of the beginning. `problems`: where it breaks a rule, in words."""

    def __init__(self, initial: Mapping[str, Stock], log: Sequence[Row]) -> None:
        self.problems: list[str] = []
        self.stocks = dict(initial)
        self.orders: dict[int, Row] = {}
        self.of_key: dict[str, Row] = {}
        self.states = {name: [(0, stock.quantity)] for name, stock in initial.items()}
        """Each stock's quantities: from which position on, how many."""
        self.digest = _sha([[name, stock.price, stock.quantity] for name, stock in sorted(initial.items())])
        for position, row in enumerate(log, start=1):
            self._take(position, row)

    @property
    def head(self) -> dict[str, object]:
        """The log's head, as the catalog writes it down."""
        return {"position": len(self.of_key), "number": len(self.orders), "digest": self.digest}

    def _take(self, position: int, row: Row) -> None:
        content = row._asdict()
        self.digest = _sha({key: value for key, value in content.items() if key != "digest"}, after=self.digest)
        if row.position != position or row.digest != self.digest:
            self.problems.append(f"{row} does not follow the entry before it")
        if row.key in self.of_key:
            self.problems.append(f"the key of {row} was executed before")
        self.of_key[row.key] = row
        stock = self.stocks[row.name]
        after = stock.quantity + (row.quantity if row.type == "sell" else -row.quantity)
        is_possible = 0 <= after <= MOST_STOCK
        if is_possible != (row.number is not None) or row.price != stock.price:
            self.problems.append(f"{row} should have been {'accepted' if is_possible else 'refused'}: {stock}")
        if row.number is None:
            return
        if row.number != len(self.orders) + 1:
            self.problems.append(f"{row} is accepted order number {len(self.orders) + 1}")
        self.orders[row.number] = row
        self.stocks[row.name] = Stock(stock.price, after, position)
        self.states[row.name].append((position, after))


def contradictions(history: History, ledger: Ledger) -> list[str]:
    """Where a log is not what customers were told."""
    problems = list(ledger.problems)
    placed = []
    for told in ledger.told:
        row = history.of_key.get(told.trade.key)
        if row is None:
            problems.append(f"lost: {told}")
        elif _content(row) != (told.number, told.trade.name, told.trade.type, told.trade.quantity):
            problems.append(f"told {told}, the log has {row}")
        else:
            placed.append((row.position, told))
    problems += _out_of_order(placed)
    for name in history.states:
        of_name = [(position, told) for position, told in placed if told.trade.name == name and told.number is not None]
        seen = [each for each in ledger.seen if each.name == name]
        problems += _stale_reads(history.states[name], of_name, seen)
    return problems


def _content(row: Row) -> tuple[int | None, str, str, int]:
    return row.number, row.name, row.type, row.quantity


def _out_of_order(placed: Iterable[tuple[int, Told]]) -> list[str]:
    """A trade that was answered before another one was asked for must stand before it."""
    problems = []
    first_answer = float("inf")
    for position, told in sorted(placed, key=lambda pair: -pair[0]):
        if first_answer < told.sent:
            problems.append(f"asked for after a later entry was answered: position {position}, {told}")
        first_answer = min(first_answer, told.answered)
    return problems


def _stale_reads(
    states: Sequence[tuple[int, int]], placed: Sequence[tuple[int, Told]], seen: Sequence[Seen]
) -> list[str]:
    """Look-ups of one stock that fit no moment between their question and their answer.

    The moments of look-ups that follow one another must follow one another too: each takes the earliest that fits.
    """
    problems = []
    chosen: list[tuple[Seen, int]] = []
    for read in sorted(seen, key=lambda each: each.sent):
        earliest = max(
            [position for position, told in placed if told.answered < read.sent]
            + [moment for other, moment in chosen if other.answered < read.sent],
            default=0,
        )
        latest = min((position - 1 for position, told in placed if told.sent > read.answered), default=states[-1][0])
        moment = _moment(states, read.quantity, earliest, max(latest, earliest))
        if moment is None:
            problems.append(f"no such quantity at positions {earliest} to {latest}: {read}")
        else:
            chosen.append((read, moment))
    return problems


def _moment(states: Sequence[tuple[int, int]], quantity: int, earliest: int, latest: int) -> int | None:
    """The first position from `earliest` to `latest` at which there were so many."""
    first = bisect_right(states, earliest, key=lambda state: state[0]) - 1
    for since, there in states[first:]:
        if since > latest:
            return None
        if there == quantity:
            return max(since, earliest)
    return None


def _sha(value: object, after: str = "") -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256((after + text).encode("ascii")).hexdigest()
