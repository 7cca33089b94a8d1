"""What is durable of the catalog: an interface, and its embedded implementation on SQLite."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import apsw
from pydantic import TypeAdapter

from services.catalog.inventory import Inventory, Plan
from services.common.database import Database
from services.common.digest import follows, head_at
from services.common.durability import Durability
from services.common.errors import IntegrityFailure
from services.common.models import MAX_STOCK, Entry, Head, Stock

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stocks (
    name TEXT PRIMARY KEY, price INTEGER NOT NULL, quantity INTEGER NOT NULL, version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (position INTEGER PRIMARY KEY, entry TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, url TEXT NOT NULL) WITHOUT ROWID;
"""

_STOCKS = TypeAdapter(list[Stock])


@dataclass(frozen=True)
class Saved:
    """What a catalog finds when it starts. `is_rebuilt`: sessions may be open that no record names."""

    inventory: Inventory
    sessions: dict[str, str]
    is_rebuilt: bool


class Store(Protocol):
    """The catalog's durable state. Whatever returns is on the disk."""

    def load(self) -> Saved | None:
        """What was saved; None for a new or lost database. Raises IntegrityFailure when it contradicts itself."""

    def create(self, inventory: Inventory) -> None:
        """Save a rebuilt inventory, with the mark that sessions from before may be open."""

    def commit(self, plan: Plan, base: Head) -> None:
        """Save a decision, and forget the entries up to `base`."""

    def record_session(self, session: str, url: str) -> None:
        """Remember that this session may be open."""

    def remove_sessions(self, sessions: Iterable[str]) -> None:
        """Forget sessions that are over for certain."""

    def clear_mark(self) -> None:
        """Forget the mark of `create`: all sessions from before are over."""

    def close(self) -> None:
        """Let go of the file."""


class SqliteStore:
    """The embedded store: one file, held under an exclusive lock for the life of the process."""

    def __init__(self, path: Path, durability: Durability = "disk") -> None:
        self._database = Database(path, SCHEMA, durability)

    def load(self) -> Saved | None:
        """See `Store.load`."""
        meta: dict[str, str] = dict(self._database.read("SELECT name, value FROM meta"))
        if "generation" not in meta:
            return None
        try:
            inventory = self._read_inventory(meta)
            _check(inventory, Head.model_validate_json(meta["head"]))
        except (AssertionError, KeyError, ValueError) as error:
            message = f"{self._database.path.name} contradicts itself; delete it, it is rebuilt from the replicas"
            raise IntegrityFailure(message) from error
        sessions: dict[str, str] = dict(self._database.read("SELECT id, url FROM sessions"))
        return Saved(inventory, sessions, is_rebuilt="rebuilt" in meta)

    def _read_inventory(self, meta: Mapping[str, str]) -> Inventory:
        return Inventory(
            generation=int(meta["generation"]),
            initial=_STOCKS.validate_json(meta["initial"]),
            stocks=[
                Stock(name=name, price=price, quantity=quantity, version=version)
                for name, price, quantity, version in self._database.read(
                    "SELECT name, price, quantity, version FROM stocks"
                )
            ],
            base=Head.model_validate_json(meta["base"]),
            entries=[
                Entry.model_validate_json(entry)
                for (entry,) in self._database.read("SELECT entry FROM entries ORDER BY position")
            ],
        )

    def create(self, inventory: Inventory) -> None:
        """See `Store.create`."""
        with self._database.transaction() as writer:
            writer.execute("DELETE FROM meta; DELETE FROM stocks; DELETE FROM entries; DELETE FROM sessions")
            _put(writer, "generation", str(inventory.generation))
            _put(writer, "initial", _STOCKS.dump_json(inventory.initial).decode())
            _put(writer, "base", inventory.base.model_dump_json())
            _put(writer, "head", inventory.head.model_dump_json())
            _put(writer, "rebuilt", "yes")
            _put_stocks(writer, inventory.stocks.values())
            _put_entries(writer, inventory.after(inventory.base.position))

    def commit(self, plan: Plan, base: Head) -> None:
        """See `Store.commit`."""
        with self._database.transaction() as writer:
            _put_entries(writer, plan.entries)
            _put_stocks(writer, plan.stocks.values())
            _put(writer, "head", plan.head.model_dump_json())
            _put(writer, "base", base.model_dump_json())
            writer.execute("DELETE FROM entries WHERE position <= ?", (base.position,))

    def record_session(self, session: str, url: str) -> None:
        """See `Store.record_session`."""
        with self._database.transaction() as writer:
            writer.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?)", (session, url))

    def remove_sessions(self, sessions: Iterable[str]) -> None:
        """See `Store.remove_sessions`."""
        with self._database.transaction() as writer:
            writer.executemany("DELETE FROM sessions WHERE id = ?", [(session,) for session in sessions])

    def clear_mark(self) -> None:
        """See `Store.clear_mark`."""
        with self._database.transaction() as writer:
            writer.execute("DELETE FROM meta WHERE name = 'rebuilt'")

    def close(self) -> None:
        """See `Store.close`."""
        self._database.close()


def _check(inventory: Inventory, head: Head) -> None:
    """Raise ValueError when what was read cannot have been written together."""
    before = inventory.base
    for entry in inventory.after(before.position):
        if not follows(entry, before):
            raise ValueError(f"position {entry.position} does not follow the one before")
        before = head_at(entry, before)
    if before != head:
        raise ValueError("the entries do not end at the head")
    if {s.name: s.price for s in inventory.stocks.values()} != {s.name: s.price for s in inventory.initial}:
        raise ValueError("the stocks are not those that the bazaar began with")
    if not all(0 <= stock.quantity <= MAX_STOCK for stock in inventory.stocks.values()):
        raise ValueError("a quantity is out of bounds")


def _put(writer: apsw.Connection, name: str, value: str) -> None:
    writer.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _put_stocks(writer: apsw.Connection, stocks: Iterable[Stock]) -> None:
    rows = [(stock.name, stock.price, stock.quantity, stock.version) for stock in stocks]
    writer.executemany("INSERT OR REPLACE INTO stocks VALUES (?, ?, ?, ?)", rows)


def _put_entries(writer: apsw.Connection, entries: Iterable[Entry]) -> None:
    # A plain INSERT: a position that exists already must never be written again.
    rows = [(entry.position, entry.model_dump_json()) for entry in entries]
    writer.executemany("INSERT INTO entries VALUES (?, ?)", rows)
