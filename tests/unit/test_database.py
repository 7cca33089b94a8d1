"""One SQLite file: durable or not at all, locked for one process, and honest when the disk is not."""

import asyncio
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import apsw
import pytest

from services.common.database import Database, DatabaseLocked, DiskFull
from services.common.durability import Durability
from services.common.errors import IntegrityFailure
from services.common.runtime import AdaptiveDisk
from tests.support.order_disk import failing_files

SCHEMA = "CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "some.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database(path, SCHEMA)
    yield opened
    opened.close()


@pytest.mark.parametrize(("durability", "expected"), [("disk", 2), ("process", 1)])  # FULL, NORMAL
def test_a_commit_is_fsynced_unless_only_processes_are_to_be_outlived(
    path: Path, durability: Durability, expected: int
) -> None:
    database = Database(path, SCHEMA, durability)
    with database.transaction() as writer:
        assert writer.pragma("synchronous") == expected
    database.close()


def insert(database: Database, *texts: str) -> None:
    with database.transaction() as writer:
        writer.executemany("INSERT INTO rows (text) VALUES (?)", [(text,) for text in texts])


def texts(database: Database) -> list[str]:
    return [text for (text,) in database.read("SELECT text FROM rows ORDER BY id")]


def image(database: Database, to: Path) -> Path:
    """What a process that is killed now leaves behind."""
    to.mkdir()
    for suffix in ("", "-wal"):
        file = database.path.with_name(database.path.name + suffix)
        if file.exists():
            shutil.copy(file, to / file.name)
    return to / database.path.name


def after_kill(database: Database, to: Path) -> list[str]:
    opened = Database(image(database, to), SCHEMA)
    try:
        return texts(opened)
    finally:
        opened.close()


def test_every_commit_is_synced_when_the_file_is_open(database: Database) -> None:
    with database.transaction() as writer:
        assert writer.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        assert writer.execute("PRAGMA synchronous").fetchall() == [(2,)]


def test_sqlite_is_past_the_wal_reset_bug() -> None:
    assert tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) >= (3, 51, 3)


def test_rows_are_there_when_it_is_opened_again(path: Path) -> None:
    database = Database(path, SCHEMA)
    insert(database, "a", "b")
    database.close()
    database = Database(path, SCHEMA)
    assert texts(database) == ["a", "b"]
    database.close()


def test_rows_are_there_when_the_process_was_killed_after_a_commit(database: Database, tmp_path: Path) -> None:
    insert(database, "a")
    insert(database, "b")
    assert after_kill(database, tmp_path / "image") == ["a", "b"]


def test_nothing_is_there_when_the_process_was_killed_before_the_commit(database: Database, tmp_path: Path) -> None:
    insert(database, "a")
    with database.transaction() as writer:
        writer.execute("INSERT INTO rows (text) VALUES ('b')")
        assert texts(database) == ["a"], "the reader sees what is committed"
        assert after_kill(database, tmp_path / "image") == ["a"]
    assert texts(database) == ["a", "b"]


def test_only_whole_transactions_are_there_when_the_log_was_cut_anywhere(database: Database, tmp_path: Path) -> None:
    for i in range(4):
        insert(database, f"{i}-1", f"{i}-2")
    copy = image(database, tmp_path / "image")
    log = copy.with_name(copy.name + "-wal").read_bytes()
    seen = set()
    for end in range(0, len(log), 1_024 + 7):
        cut = tmp_path / f"cut-{end}"
        cut.mkdir()
        shutil.copy(copy, cut / copy.name)
        (cut / (copy.name + "-wal")).write_bytes(log[:end])
        opened = Database(cut / copy.name, SCHEMA)
        rows = texts(opened)
        opened.close()
        assert rows == [f"{i}-{j}" for i in range(len(rows) // 2) for j in (1, 2)]
        seen.add(len(rows))
    assert len(seen) > 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_nothing_is_written_when_the_body_raises(database: Database, error: type[BaseException]) -> None:
    def fail() -> None:
        with database.transaction() as writer:
            writer.execute("INSERT INTO rows (text) VALUES ('a')")
            raise error

    with pytest.raises(error):
        fail()
    assert texts(database) == []
    insert(database, "b")
    assert texts(database) == ["b"]


def test_nothing_is_written_when_one_row_breaks_a_rule(database: Database) -> None:
    insert(database, "a")
    with pytest.raises(apsw.ConstraintError):
        insert(database, "b", "a")
    assert texts(database) == ["a"]


# One process.


def test_opening_is_refused_when_it_is_open_already(database: Database, path: Path) -> None:
    with pytest.raises(DatabaseLocked, match=r"some\.db"):
        Database(path, SCHEMA)
    insert(database, "a")


def test_nothing_is_read_or_written_when_another_has_the_lock(database: Database, path: Path, tmp_path: Path) -> None:
    insert(database, "a")
    before = (path.read_bytes(), path.with_name("some.db-wal").read_bytes())
    with pytest.raises(DatabaseLocked):
        Database(path, "DROP TABLE rows;" + SCHEMA)
    assert (path.read_bytes(), path.with_name("some.db-wal").read_bytes()) == before
    assert texts(database) == ["a"]


CHILD = """
import os, sys
from pathlib import Path
from services.common.database import Database
database = Database(Path(sys.argv[1]), "")
with database.transaction() as writer:
    writer.execute("INSERT INTO rows (text) VALUES ('from the other process')")
if sys.argv[2] == "dies":
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO rows (text) VALUES ('never committed')")
print("open", flush=True)
sys.stdin.read()
os._exit(9)
"""


def start(path: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_process_is_refused_until_the_first_has_died(path: Path) -> None:
    database = Database(path, SCHEMA)
    insert(database, "a")
    _, said = start(path, "waits").communicate()
    assert "DatabaseLocked: another process has some.db open" in said
    database.close()
    with start(path, "dies") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(DatabaseLocked):
            Database(path, SCHEMA)
        other.kill()
    database = Database(path, SCHEMA)
    assert texts(database) == ["a", "from the other process"]
    insert(database, "b")
    database.close()


def test_the_lock_outlives_the_file_when_that_is_deleted_while_it_is_open(database: Database, path: Path) -> None:
    path.unlink()
    with pytest.raises(DatabaseLocked):
        Database(path, SCHEMA)
    assert not path.exists()


# A disk that fails.


def fill(database: Database) -> None:
    """Let the file grow by no page more."""
    with database.transaction() as writer:
        writer.execute("INSERT INTO rows (text) VALUES ('before')")
        [(pages,)] = writer.execute("PRAGMA page_count").fetchall()
    database._writer.execute(f"PRAGMA max_page_count = {pages}")


def test_disk_full_and_nothing_written_when_there_is_no_room(database: Database, path: Path) -> None:
    fill(database)
    with pytest.raises(DiskFull, match=r"some\.db"):
        insert(database, "small", "x" * 100_000)
    assert texts(database) == ["before"]
    insert(database, "small")  # it still works for what fits
    assert texts(database) == ["before", "small"]


def test_disk_full_when_the_room_runs_out_with_the_file_itself(path: Path) -> None:
    """As when a quota is reached: every write fails, those of the roll-back as well."""
    database = Database(path, SCHEMA)
    fill(database)
    for _ in range(3):
        with pytest.raises(DiskFull):
            insert(database, *(f"{i:0100}" for i in range(1_000)))
    assert texts(database) == ["before"]
    database.close()


@contextmanager
def no_file_grows() -> Iterator[None]:
    """No file may grow beyond 4 KiB (Python ignores the signal that goes with it)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("rows", [1, 20_000], ids=["at the commit", "in the body"])
def test_disk_full_and_nothing_written_when_files_may_not_grow(database: Database, tmp_path: Path, rows: int) -> None:
    insert(database, "before")
    with database.transaction() as writer:
        writer.execute("PRAGMA cache_size = 10")  # so that a large body is written before its end
    with no_file_grows(), pytest.raises(DiskFull, match="unharmed"):
        insert(database, *(f"{i:0100}" for i in range(rows)))
    assert after_kill(database, tmp_path / "image") == ["before"]


def test_disk_full_when_there_is_no_room_to_open_it(database: Database, tmp_path: Path) -> None:
    """Opening needs room for the `-shm` file. SQLite calls that an I/O error; nothing is wrong with the data."""
    insert(database, "before")
    copy = image(database, tmp_path / "image")
    with no_file_grows(), pytest.raises(DiskFull, match="unharmed"):
        Database(copy, SCHEMA)
    opened = Database(copy, SCHEMA)
    assert texts(opened) == ["before"]
    opened.close()


@pytest.mark.parametrize("rows", [1, 20_000], ids=["at the commit", "in the body"])
@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_integrity_failure_and_nothing_written_when_a_write_fails(
    path: Path, fails: Literal["write", "fsync"], rows: int
) -> None:
    with failing_files() as files:
        database = Database(path, SCHEMA)
        insert(database, "before")
        with database.transaction() as writer:
            writer.execute("PRAGMA cache_size = 10")  # so that a large body is written before its end
        files.fails = fails
        with pytest.raises(IntegrityFailure, match="delete it"):
            insert(database, *(f"{i:0100}" for i in range(rows)))
        assert texts(database) == ["before"]
        files.fails = None
        database.close()


@pytest.mark.parametrize("content", [b"this is no database" * 1_000, b"\x00" * 8_192], ids=["text", "zeros"])
def test_integrity_failure_when_the_file_is_no_database(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(IntegrityFailure, match=r"some\.db cannot be trusted"):
        Database(path, SCHEMA)


def test_file_can_be_replaced_in_the_same_process_when_it_was_no_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 1_000)
    with pytest.raises(IntegrityFailure):
        Database(path, SCHEMA)
    path.unlink()
    Database(path, SCHEMA).close()


def test_integrity_failure_when_a_page_is_damaged(path: Path) -> None:
    database = Database(path, SCHEMA)
    insert(database, *(f"{i:0200}" for i in range(1_000)))
    database.close()
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4_096):
        data[page * 4_096 : page * 4_096 + 64] = b"\xa5" * 64
    path.write_bytes(data)
    database = Database(path, "")
    with pytest.raises(IntegrityFailure, match="delete it"):
        texts(database)
    with pytest.raises(IntegrityFailure):
        insert(database, "new")
    database.close()


def test_integrity_failure_when_the_file_is_cut_short(path: Path) -> None:
    database = Database(path, SCHEMA)
    insert(database, *(f"{i:0200}" for i in range(1_000)))
    database.close()
    path.write_bytes(path.read_bytes()[: 3 * 4_096])
    with pytest.raises(IntegrityFailure):
        texts(Database(path, ""))


def test_database_is_new_when_only_its_log_was_left(path: Path) -> None:
    """Who deletes some.db and not some.db-wal gets an empty database, and no page of the old one."""
    database = Database(path, SCHEMA)
    insert(database, "old")
    copy = image(database, path.parent / "image")
    database.close()
    assert copy.with_name("some.db-wal").stat().st_size > 0
    copy.unlink()
    database = Database(copy, SCHEMA)
    assert texts(database) == []
    insert(database, "new")
    assert texts(database) == ["new"]
    database.close()


# The disk that does the work: on the event loop while it is quick, on a thread while it is not.


class Clock:
    """Each piece of work takes as long as it says by advancing this."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> int:
        self.now += seconds
        return threading.get_ident()


async def test_work_is_done_on_the_loop_only_while_the_disk_is_quick() -> None:
    clock = Clock()
    disk = AdaptiveDisk(clock)
    here = threading.get_ident()
    on_loop = [await disk.run(clock.work, seconds) == here for seconds in (0.001, 0.5, 0.5, 0.001, 0.001, 0.5)]
    assert on_loop == [True, True, False, False, True, True]
    disk.close()


async def test_work_is_done_in_order_when_many_want_the_disk() -> None:
    clock = Clock()
    disk = AdaptiveDisk(clock)
    done: list[int] = []
    await disk.run(clock.work, 1.0)
    waiting = [asyncio.ensure_future(disk.run(done.append, i)) for i in range(25)]
    await asyncio.sleep(0)
    waiting += [asyncio.ensure_future(disk.run(done.append, i)) for i in range(25, 50)]
    await asyncio.gather(*waiting)
    assert done == list(range(50))
    disk.close()


async def test_work_is_finished_when_its_caller_is_cancelled() -> None:
    clock = Clock()
    disk = AdaptiveDisk(clock)
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        go_on.wait()
        done.append("finished")

    await disk.run(clock.work, 1.0)  # so slow that the next one is given to the thread
    caller = asyncio.create_task(disk.run(work))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    following = asyncio.ensure_future(disk.run(done.append, "next"))
    await asyncio.sleep(0)
    assert done == [], "what comes later waits, though the caller is gone"
    go_on.set()
    await following
    assert done == ["finished", "next"]
    disk.close()


async def test_the_error_reaches_the_caller_when_the_work_fails(database: Database) -> None:
    disk = AdaptiveDisk()
    with pytest.raises(apsw.ConstraintError):
        await disk.run(insert, database, "a", "a")
    await disk.run(insert, database, "a")
    assert texts(database) == ["a"]
    disk.close()
