"""What is durable of the catalog: all of a decision or nothing, the sessions, the mark, and one process on the file."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from services.catalog.inventory import Inventory, Plan, fold
from services.catalog.sqlite_store import SqliteStore
from services.catalog.store import Saved
from services.cluster.service_log import last_critical
from services.common.database import DatabaseLocked, DiskFull
from services.common.digest import empty_head
from services.common.errors import IntegrityFailure
from services.common.models import Head, Stock, Trade
from tests.support.catalog_entries import AT, STOCKS, buy, chain, head_of, request, sell


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(path)
    yield opened
    opened.close()


def new() -> Inventory:
    return Inventory(1, STOCKS, STOCKS, empty_head(STOCKS), [])


def plan(inventory: Inventory, *trades: Trade) -> Plan:
    return inventory.plan(request(*trades, head=inventory.head), AT)


def commit(store: SqliteStore, inventory: Inventory, *trades: Trade, base: Head | None = None) -> None:
    made = plan(inventory, *trades)
    store.commit(made, base or inventory.base)
    inventory.apply(made)


def load(store: SqliteStore) -> Saved:
    saved = store.load()
    assert saved is not None
    return saved


def same(one: Inventory, other: Inventory) -> None:
    assert one.generation == other.generation
    assert one.initial == other.initial
    assert one.stocks == other.stocks
    assert one.base == other.base
    assert one.head == other.head
    assert one.after(one.base.position) == other.after(other.base.position)


def after_kill(path: Path, to: Path) -> Saved | None:
    """What the next process would find if this one were killed now."""
    to.mkdir()
    for suffix in ("", "-wal"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            shutil.copy(file, to / file.name)
    store = SqliteStore(to / path.name)
    try:
        return store.load()
    finally:
        store.close()


# Round trips.


def test_nothing_is_found_when_the_database_is_new(store: SqliteStore) -> None:
    assert store.load() is None


def test_a_new_bazaar_is_found_with_its_mark_when_it_was_created(store: SqliteStore) -> None:
    store.create(new())
    saved = load(store)
    same(saved.inventory, new())
    assert saved.is_rebuilt
    assert saved.sessions == {}


def test_everything_is_found_when_a_rebuilt_state_was_created(store: SqliteStore) -> None:
    entries = chain([buy("a", 3), buy("b", 1_000), sell("c", 5), buy("d", 2, name="FishCo")], refused=frozenset("b"))
    stocks = fold(STOCKS, entries)
    inventory = Inventory(7, STOCKS, stocks.values(), head_of(entries[:2]), entries[2:])
    store.create(inventory)
    same(load(store).inventory, inventory)


def test_everything_is_found_when_decisions_were_committed(store: SqliteStore) -> None:
    inventory = new()
    store.create(inventory)
    commit(store, inventory, buy("a", 3), buy("b", 98), sell('"\\', 5, name="FishCo"))
    commit(store, inventory, buy("c", 1_000))
    saved = load(store).inventory
    same(saved, inventory)
    assert saved.stocks["GameStart"] == Stock(name="GameStart", price=1_599, quantity=97, version=1)
    assert [entry.number for entry in saved.after(0)] == [1, None, 2, None]


def test_a_loaded_state_decides_on_when_the_store_is_opened_again(path: Path) -> None:
    store = SqliteStore(path)
    inventory = new()
    store.create(inventory)
    commit(store, inventory, buy("a", 3))
    store.close()
    store = SqliteStore(path)
    again = load(store).inventory
    commit(store, again, buy("b", 97), buy("c", 1))
    same(load(store).inventory, again)
    assert again.head.number == 2
    store.close()


def test_entries_up_to_base_are_forgotten_when_the_next_decision_is_committed(store: SqliteStore, path: Path) -> None:
    inventory = new()
    store.create(inventory)
    commit(store, inventory, *(buy(f"k{i}") for i in range(5)))
    for replica_id in (1, 2, 3):
        inventory.report(replica_id, 3, (1, 2, 3))
    commit(store, inventory, buy("last"))
    saved = load(store).inventory
    same(saved, inventory)
    assert saved.base.position == 3
    assert [entry.position for entry in saved.after(3)] == [4, 5, 6]
    with apsw.Connection(str(path)) as reader:
        assert reader.execute("SELECT min(position), count(*) FROM entries").fetchall() == [(4, 3)]


def test_initial_stocks_stay_when_stocks_change(store: SqliteStore) -> None:
    """H17: they are what a later rebuild and every check start from."""
    inventory = new()
    store.create(inventory)
    commit(store, inventory, buy("a", 50))
    assert load(store).inventory.initial == STOCKS


@pytest.mark.parametrize("generation", [1, 2**62])
def test_generation_is_kept(store: SqliteStore, generation: int) -> None:
    store.create(Inventory(generation, STOCKS, STOCKS, empty_head(STOCKS), []))
    assert load(store).inventory.generation == generation


def test_nothing_of_before_is_left_when_a_state_is_created_over_another(store: SqliteStore) -> None:
    inventory = new()
    store.create(inventory)
    commit(store, inventory, buy("a"), buy("b"))
    store.record_session("session-1", "http://127.0.0.1:8021")
    store.clear_mark()
    other = [Stock(name="Only", price=1, quantity=1)]
    store.create(Inventory(2, other, other, empty_head(other), []))
    saved = load(store)
    assert saved.inventory.stocks == {"Only": other[0]}
    assert saved.inventory.head == empty_head(other)
    assert saved.sessions == {}
    assert saved.is_rebuilt


def test_a_position_is_never_written_twice(store: SqliteStore) -> None:
    inventory = new()
    store.create(inventory)
    made = plan(inventory, buy("a"))
    store.commit(made, inventory.base)
    with pytest.raises(apsw.ConstraintError):
        store.commit(plan(inventory, buy("b")), inventory.base)
    inventory.apply(made)
    same(load(store).inventory, inventory)


# Sessions and the mark.


def test_sessions_are_found_until_they_are_removed(store: SqliteStore) -> None:
    store.create(new())
    store.record_session("one", "http://127.0.0.1:8021")
    store.record_session("two", "http://127.0.0.1:8022")
    store.record_session("two", "http://127.0.0.1:8023")
    assert load(store).sessions == {"one": "http://127.0.0.1:8021", "two": "http://127.0.0.1:8023"}
    store.remove_sessions(["one", "unknown"])
    store.remove_sessions([])
    assert load(store).sessions == {"two": "http://127.0.0.1:8023"}


def test_odd_session_ids_do_no_harm(store: SqliteStore) -> None:
    store.create(new())
    odd = "'; DROP TABLE sessions; --\x00é"
    store.record_session(odd, odd)
    store.remove_sessions(["' OR 1=1 --"])
    assert load(store).sessions == {odd: odd}


def test_the_mark_stands_until_it_is_cleared_and_stays_cleared(store: SqliteStore) -> None:
    inventory = new()
    store.create(inventory)
    commit(store, inventory, buy("a"))
    assert load(store).is_rebuilt, "a decision does not clear it"
    store.clear_mark()
    assert not load(store).is_rebuilt
    commit(store, inventory, buy("b"))
    store.clear_mark()
    assert not load(store).is_rebuilt


# Killed.


def test_all_or_nothing_is_found_when_it_was_killed_around_the_commit(
    store: SqliteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inventory = new()
    store.create(inventory)
    commit(store, inventory, *(buy(f"k{i}") for i in range(4)))
    before = load(store).inventory
    for replica_id in (1, 2, 3):
        inventory.report(replica_id, 2, (1, 2, 3))
    made = plan(inventory, buy("x", 5), buy("y", 5, name="FishCo"), buy("z", 1_000))
    images: list[Saved | None] = []

    class Watched(apsw.Connection):
        """Looks at what a kill would leave, before every statement."""

        def execute(self, statements: str, *args: Any, **options: Any) -> apsw.Cursor:
            images.append(after_kill(path, tmp_path / str(len(images))))
            return super().execute(statements, *args, **options)

    watched = Watched(str(path))
    watched.execute("PRAGMA synchronous = FULL")
    monkeypatch.setattr(store._database, "_writer", watched)
    store.commit(made, inventory.base)
    assert len(images) > 5
    for image in images:
        assert image is not None
        same(image.inventory, before)
    inventory.apply(made)
    image = after_kill(path, tmp_path / "after")
    assert image is not None
    same(image.inventory, inventory)
    watched.close()


@pytest.mark.parametrize("work", ["create", "record_session", "remove_sessions", "clear_mark"])
def test_everything_is_found_when_it_was_killed_right_after(
    store: SqliteStore, path: Path, tmp_path: Path, work: str
) -> None:
    store.create(new())
    if work == "record_session":
        store.record_session("one", "url")
    elif work == "remove_sessions":
        store.record_session("one", "url")
        store.remove_sessions(["one"])
    elif work == "clear_mark":
        store.clear_mark()
    image = after_kill(path, tmp_path / "image")
    assert image is not None
    same(image.inventory, new())
    assert image.sessions == ({"one": "url"} if work == "record_session" else {})
    assert image.is_rebuilt == (work != "clear_mark")


def test_a_lost_database_is_new_when_only_its_log_was_left(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    """Who deletes catalog.db but not catalog.db-wal gets a rebuild, not an old state."""
    inventory = new()
    store.create(inventory)
    commit(store, inventory, buy("a"))
    folder = tmp_path / "image"
    folder.mkdir()
    shutil.copy(path.with_name("catalog.db-wal"), folder / "catalog.db-wal")
    opened = SqliteStore(folder / "catalog.db")
    assert opened.load() is None
    opened.create(new())
    same(load(opened).inventory, new())
    opened.close()


# One process.


def test_a_second_store_on_the_file_is_refused(store: SqliteStore, path: Path) -> None:
    """H15."""
    store.create(new())
    with pytest.raises(DatabaseLocked):
        SqliteStore(path)


def run_catalog(folder: Path) -> "subprocess.CompletedProcess[str]":
    """The real command, which must end by itself."""
    command = [sys.executable, "-m", "services.catalog", "--data-dir", str(folder), "--port", "0"]
    return subprocess.run(
        [*command, "--replicas", "1=http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "BAZAAR_LOG_LEVEL": "info"},
    )


def test_a_second_catalog_process_ends_with_status_1_and_one_line(store: SqliteStore, path: Path) -> None:
    """H15, with the real command: it ends before anything is read, asked or listened to."""
    store.create(new())
    before = path.read_bytes()
    ended = run_catalog(path.parent)
    assert ended.returncode == 1
    assert ended.stderr == "another process has catalog.db open; end it first\n"
    assert path.read_bytes() == before


def test_a_catalog_process_ends_with_status_3_and_its_reason_when_its_file_is_damaged(path: Path) -> None:
    """The reason is a critical line of the log, where `bazaar status` looks for it."""
    path.write_bytes(b"this is no database" * 1_000)
    ended = run_catalog(path.parent)
    assert ended.returncode == 3
    reason = last_critical(ended.stderr.splitlines())
    assert reason is not None
    assert "catalog.db cannot be trusted" in reason


# A disk that fails.


def no_more_room(store: SqliteStore) -> None:
    writer = store._database._writer
    [(pages,)] = writer.execute("PRAGMA page_count").fetchall()
    writer.execute(f"PRAGMA max_page_count = {pages}")


def test_disk_full_and_nothing_of_the_decision_is_there_when_there_is_no_room(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    inventory = new()
    store.create(inventory)
    commit(store, inventory, buy("a"))
    no_more_room(store)
    with pytest.raises(DiskFull, match=r"catalog\.db"):
        store.commit(plan(inventory, *(buy(f"key-{i:050}") for i in range(90))), inventory.base)
    same(load(store).inventory, inventory)
    image = after_kill(path, tmp_path / "image")
    assert image is not None
    same(image.inventory, inventory)


def test_disk_full_when_there_is_no_room_for_a_rebuilt_state(store: SqliteStore) -> None:
    no_more_room(store)
    stocks = [Stock(name=f"stock-{i:050}", price=1, quantity=1) for i in range(200)]
    with pytest.raises(DiskFull):
        store.create(Inventory(1, stocks, stocks, empty_head(stocks), []))
    assert store.load() is None


def test_integrity_failure_when_the_file_is_no_database(path: Path) -> None:
    path.write_bytes(b"name,price,quantity\n" * 1_000)
    with pytest.raises(IntegrityFailure, match=r"catalog\.db cannot be trusted .*delete it"):
        SqliteStore(path)


def test_integrity_failure_when_the_file_is_damaged(path: Path) -> None:
    store = SqliteStore(path)
    inventory = new()
    store.create(inventory)
    commit(store, inventory, *(buy(f"k{i}") for i in range(100)))
    store.close()
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4_096):
        data[page * 4_096 : page * 4_096 + 512] = b"\xa5" * 512
    path.write_bytes(data)
    with pytest.raises(IntegrityFailure):
        SqliteStore(path).load()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM entries WHERE position = 2",
        "DELETE FROM entries WHERE position = 3",
        "DELETE FROM entries",
        "UPDATE entries SET entry = '{}' WHERE position = 2",
        "UPDATE entries SET entry = 'x' WHERE position = 2",
        "UPDATE entries SET entry = replace(entry, '\"k1\"', '\"k0\"') WHERE position = 2",
        "UPDATE entries SET entry = replace(entry, '\"quantity\":1', '\"quantity\":9') WHERE position = 2",
        "UPDATE meta SET value = '{}' WHERE name = 'head'",
        "UPDATE meta SET value = 'x' WHERE name = 'generation'",
        "UPDATE meta SET value = '[]x' WHERE name = 'initial'",
        "DELETE FROM meta WHERE name = 'base'",
        "UPDATE meta SET value = replace(value, '\"position\":0', '\"position\":1') WHERE name = 'base'",
        "UPDATE stocks SET quantity = -1 WHERE name = 'GameStart'",
        "UPDATE stocks SET quantity = 'many' WHERE name = 'GameStart'",
        "DELETE FROM stocks WHERE name = 'GameStart'",
    ],
)
def test_integrity_failure_when_the_rows_contradict_each_other(store: SqliteStore, path: Path, damage: str) -> None:
    inventory = new()
    store.create(inventory)
    commit(store, inventory, *(buy(f"k{i}") for i in range(3)))
    with apsw.Connection(str(path)) as other:
        other.execute(damage)
    with pytest.raises(IntegrityFailure, match=r"catalog\.db"):
        store.load()
