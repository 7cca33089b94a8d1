"""A replica's database: generation, initial stocks, and the order log, one row an entry."""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter

from services.common.database import Database, Row
from services.common.durability import Durability
from services.common.models import Entry, Head, Order, Stock

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    position INTEGER PRIMARY KEY, number INTEGER UNIQUE, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    type TEXT NOT NULL, quantity INTEGER NOT NULL, price INTEGER NOT NULL, at INTEGER NOT NULL, digest TEXT NOT NULL
);
"""

COLUMNS = "position, number, key, name, type, quantity, price, at, digest"

_STOCKS = TypeAdapter(list[Stock])


class LogStore:
    """The database file of one replica. `append` and `adopt` belong on a `Disk`."""

    def __init__(self, path: Path, durability: Durability = "disk") -> None:
        self._database = Database(path, SCHEMA, durability)

    def generation(self) -> int | None:
        """The generation, None before the first."""
        rows = self._database.read("SELECT value FROM meta WHERE name = 'generation'")
        return int(rows[0][0]) if rows else None

    def initial(self) -> list[Stock]:
        """The stocks that the bazaar began with."""
        rows = self._database.read("SELECT value FROM meta WHERE name = 'initial'")
        return _STOCKS.validate_json(rows[0][0]) if rows else []

    def last(self) -> Head | None:
        """The head; None for an empty log."""
        query = "SELECT position, (SELECT max(number) FROM log), digest FROM log ORDER BY position DESC LIMIT 1"
        rows = self._database.read(query)
        return Head(position=rows[0][0], number=rows[0][1] or 0, digest=rows[0][2]) if rows else None

    def find(self, keys: list[str]) -> list[Entry]:
        """The entries with these keys."""
        query = f"SELECT {COLUMNS} FROM log WHERE key IN (SELECT value FROM json_each(?))"  # noqa: S608 - a constant
        return [_entry(row) for row in self._database.read(query, (json.dumps(keys),))]

    def at(self, position: int) -> Entry | None:
        """The entry at this position."""
        rows = self._database.read(f"SELECT {COLUMNS} FROM log WHERE position = ?", (position,))  # noqa: S608 - a constant
        return _entry(rows[0]) if rows else None

    def after(self, position: int, limit: int) -> list[Entry]:
        """At most `limit` entries after `position`, in order."""
        query = f"SELECT {COLUMNS} FROM log WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608 - a constant
        return [_entry(row) for row in self._database.read(query, (position, limit))]

    def order(self, number: int) -> Order | None:
        """The order with this number."""
        rows = self._database.read("SELECT number, name, type, quantity FROM log WHERE number = ?", (number,))
        return _order(rows[0]) if rows else None

    def orders(self, after: int, limit: int) -> list[Order]:
        """At most `limit` orders with a number above `after`, in order."""
        query = "SELECT number, name, type, quantity FROM log WHERE number > ? ORDER BY number LIMIT ?"
        return [_order(row) for row in self._database.read(query, (after, limit))]

    def append(self, entries: Iterable[Entry]) -> None:
        """Put entries on the disk. A plain INSERT: no row is ever written twice."""
        rows = [(e.position, e.number, e.key, e.name, e.type, e.quantity, e.price, e.at, e.digest) for e in entries]
        with self._database.transaction() as writer:
            writer.executemany(f"INSERT INTO log ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608

    def adopt(self, generation: int, initial: list[Stock]) -> None:
        """Put a generation on the disk, with the initial stocks."""
        with self._database.transaction() as writer:
            pairs = [("generation", str(generation)), ("initial", _STOCKS.dump_json(initial).decode())]
            writer.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", pairs)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


def _entry(row: Row) -> Entry:
    position, number, key, name, kind, quantity, price, at, digest = row
    return Entry.model_construct(
        position=position,
        number=number,
        key=key,
        name=name,
        type=kind,
        quantity=quantity,
        price=price,
        at=at,
        digest=digest,
    )


def _order(row: Row) -> Order:
    number, name, kind, quantity = row
    return Order.model_construct(number=number, name=name, type=kind, quantity=quantity)
