"""The embedded store: what is durable of the catalog in one SQLite file, and the store that is made of it."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import apsw
from pydantic import TypeAdapter

from services.catalog.invalidation import Sessions
from services.catalog.inventory import Inventory, Plan
from services.catalog.store import Outcome, Saved, check_state
from services.common.background import ends_process
from services.common.database import Database
from services.common.durability import Durability
from services.common.errors import IntegrityFailure
from services.common.http import Peer
from services.common.models import Entry, Head, Stock
from services.common.runtime import Runtime

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stocks (
    name TEXT PRIMARY KEY, price INTEGER NOT NULL, quantity INTEGER NOT NULL, version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (position INTEGER PRIMARY KEY, entry TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, url TEXT NOT NULL) WITHOUT ROWID;
"""

_STOCKS = TypeAdapter(list[Stock])

T = TypeVar("T")


class SqliteStore:
    """One file, held under an exclusive lock for the life of the process. Whatever returns is on the disk."""

    def __init__(self, path: Path, durability: Durability = "disk") -> None:
        self._database = Database(path, SCHEMA, durability)

    def load(self) -> Saved | None:
        """What was saved; None for a new or lost database. Raises IntegrityFailure when it contradicts itself."""
        meta: dict[str, str] = dict(self._database.read("SELECT name, value FROM meta"))
        if "generation" not in meta:
            return None
        try:
            inventory = self._read_inventory(meta)
            check_state(inventory, Head.model_validate_json(meta["head"]))
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
        """Save a rebuilt inventory, with the mark that sessions from before may be open."""
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
        """Save a decision, and forget the entries up to `base`."""
        with self._database.transaction() as writer:
            _put_entries(writer, plan.entries)
            _put_stocks(writer, plan.stocks.values())
            _put(writer, "head", plan.head.model_dump_json())
            _put(writer, "base", base.model_dump_json())
            writer.execute("DELETE FROM entries WHERE position <= ?", (base.position,))

    def record_session(self, session: str, url: str) -> None:
        """Remember that this session may be open."""
        with self._database.transaction() as writer:
            writer.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?)", (session, url))

    def remove_sessions(self, sessions: Iterable[str]) -> None:
        """Forget sessions that are over for certain."""
        with self._database.transaction() as writer:
            writer.executemany("DELETE FROM sessions WHERE id = ?", [(session,) for session in sessions])

    def clear_mark(self) -> None:
        """Forget the mark of `create`: all sessions from before are over."""
        with self._database.transaction() as writer:
            writer.execute("DELETE FROM meta WHERE name = 'rebuilt'")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


class EmbeddedStore:
    """The store of a catalog that is alone: see `Store`. file: used on this store's own disk only."""

    is_shared = False
    max_stocks: int | None = None
    trouble: str | None = None
    is_silent = False

    def __init__(self, runtime: Runtime, file: SqliteStore) -> None:
        self.file = file
        self._runtime = runtime
        self._disk = runtime.disk()

    async def load(self) -> Saved | None:
        """See `Store.load`."""
        return await self._disk.run(self.file.load)

    async def claim(self, least: int) -> int:
        """See `Store.claim`: nobody else is there."""
        return least

    async def create(self, inventory: Inventory) -> Saved:
        """See `Store.create`."""
        await self._disk.run(self.file.create, inventory)
        return Saved(inventory, sessions={}, is_rebuilt=True)

    def open_sessions(self, saved: Saved, connect: Callable[[str], Peer]) -> Sessions:
        """See `Store.open_sessions`."""
        return Sessions(
            self._runtime,
            connect,
            saved.inventory.generation,
            announced=saved.inventory.head.position,
            record=lambda session_id, url: self._write(self.file.record_session, session_id, url),
            remove=lambda session_ids: self._write(self.file.remove_sessions, session_ids),
        )

    async def refresh(self, deadline: float = math.inf) -> None:
        """See `Store.refresh`: the state in memory is the committed one."""

    async def commit(self, plan: Plan, base: Head, told: int) -> Outcome:
        """See `Store.commit`: nobody comes in between."""
        await self._disk.run(self.file.commit, plan, base)
        return "committed"

    async def clear_mark(self) -> None:
        """See `Store.clear_mark`."""
        await self._disk.run(self.file.clear_mark)

    async def close(self) -> None:
        """See `Store.close`."""
        self._disk.close()
        self.file.close()

    async def _write(self, work: Callable[..., T], *args: object) -> T:
        with ends_process(self._runtime):
            return await self._disk.run(work, *args)


def _put(writer: apsw.Connection, name: str, value: str) -> None:
    writer.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _put_stocks(writer: apsw.Connection, stocks: Iterable[Stock]) -> None:
    rows = [(stock.name, stock.price, stock.quantity, stock.version) for stock in stocks]
    writer.executemany("INSERT OR REPLACE INTO stocks VALUES (?, ?, ?, ?)", rows)


def _put_entries(writer: apsw.Connection, entries: Iterable[Entry]) -> None:
    # A plain INSERT: a position that exists already must never be written again.
    rows = [(entry.position, entry.model_dump_json()) for entry in entries]
    writer.executemany("INSERT INTO entries VALUES (?, ?)", rows)
