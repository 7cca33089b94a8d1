"""The disk that the simulation gives to services: it loses what was not fsynced, and nothing else."""

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.common.database import Database
from tests.simulation.storage import CuttingVFS, Storage

SCHEMA = "CREATE TABLE IF NOT EXISTS number (value INTEGER PRIMARY KEY)"


@pytest.fixture
def storage() -> Iterator[Storage]:
    storage = Storage()
    vfs = CuttingVFS(storage)
    yield storage
    vfs.unregister()


def add(database: Database, *values: int) -> None:
    with database.transaction() as writer:
        writer.executemany("INSERT INTO number VALUES (?)", [(value,) for value in values])


def numbers(path: Path) -> list[int]:
    database = Database(path, SCHEMA)
    try:
        return [row[0] for row in database.read("SELECT value FROM number ORDER BY value")]
    finally:
        database.close()


def kill(database: Database, storage: Storage) -> None:
    storage.freeze(database.path)
    database.close()
    storage.thaw(database.path)


def test_what_was_committed_is_there_when_the_process_was_killed(tmp_path: Path, storage: Storage) -> None:
    database = Database(tmp_path / "a.db", SCHEMA)
    add(database, 1, 2)

    kill(database, storage)

    assert (tmp_path / "a.db-wal").stat().st_size > 0, "a killed process tidies nothing up"
    assert numbers(tmp_path / "a.db") == [1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_what_was_committed_is_there_when_the_power_was_cut(tmp_path: Path, storage: Storage, seed: int) -> None:
    chance = random.Random(seed)
    path = tmp_path / "a.db"
    for value in range(5):
        database = Database(path, SCHEMA)
        add(database, value)
        kill(database, storage)
        storage.cut_power(path, chance)

        assert numbers(path) == list(range(value + 1))


def test_a_commit_without_fsync_is_lost_when_the_power_is_cut(tmp_path: Path, storage: Storage) -> None:
    lost = 0
    for seed in range(20):
        path = tmp_path / f"{seed}.db"
        database = Database(path, SCHEMA)
        add(database, 1)
        database._writer.execute("PRAGMA synchronous = OFF")
        add(database, 2)
        kill(database, storage)

        assert storage.cut_power(path, random.Random(seed)) > 0

        found = numbers(path)
        assert found in ([1], [1, 2]), "a transaction is there as a whole or not at all"
        lost += found == [1]
    assert lost > 0


@pytest.mark.parametrize("writes", range(5))
@pytest.mark.parametrize("power", [False, True])
def test_a_torn_transaction_is_there_as_a_whole_or_not_at_all(
    tmp_path: Path, storage: Storage, writes: int, power: bool
) -> None:
    path = tmp_path / "a.db"
    database = Database(path, SCHEMA)
    add(database, 1)
    storage.tear(path, writes)
    with suppress(Exception):
        add(database, 2, 3)
    kill(database, storage)
    if power:
        storage.cut_power(path, random.Random(writes))

    assert numbers(path) in ([1], [1, 2, 3])
