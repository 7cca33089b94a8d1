"""A replica's database: what is written is read again, by this process or the next, and by one process only."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import apsw
import pytest

from services.common.database import DatabaseLocked, DiskFull
from services.common.errors import IntegrityFailure
from services.common.models import MAX_NUMBER, MAX_QUANTITY, MAX_STOCK, Entry, Order, Stock
from services.order.store import LogStore
from tests.support.order_chain import STOCKS, Chain
from tests.support.order_disk import failing_files

EVERY_CHARACTER = "".join(map(chr, range(0x21, 0x7F)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "order-1.db"


@pytest.fixture
def store(path: Path) -> Iterator[LogStore]:
    store = LogStore(path)
    yield store
    store.close()


def _entry(position: int, **changes: object) -> Entry:
    return (
        Chain()
        .add()[0]
        .model_copy(
            update={
                "position": position,
                "number": position,
                "key": f"key-{position}",
                "digest": f"{position}",
                **changes,
            }
        )
    )


def test_nothing_is_found_when_the_database_is_new(store: LogStore) -> None:
    assert store.generation() is None
    assert store.initial() == []
    assert store.last() is None
    assert store.find(["key-1"]) == []
    assert store.at(1) is None
    assert store.order(1) is None
    assert store.after(0, 10) == []
    assert store.orders(0, 10) == []


def test_every_field_comes_back_when_the_database_is_opened_again(path: Path) -> None:
    entries = [
        _entry(1, key=EVERY_CHARACTER[:64], quantity=MAX_QUANTITY, price=10**12, at=2**53),
        _entry(2, key=EVERY_CHARACTER[-64:], number=None, type="sell", name="A-._z9"),
        _entry(3, key="'; DROP TABLE log; --", number=2),
    ]
    stocks = [Stock(name="x" * 64, price=1, quantity=MAX_STOCK), *STOCKS]
    store = LogStore(path)
    store.adopt(2**40, stocks)
    store.append(entries)
    store.close()

    store = LogStore(path)
    assert store.generation() == 2**40
    assert store.initial() == stocks
    assert store.after(0, 10) == entries
    assert [found for entry in entries for found in store.find([entry.key])] == entries
    assert [store.at(entry.position) for entry in entries] == entries
    store.close()


def test_the_head_counts_accepted_orders_when_the_last_entry_is_a_refusal(store: LogStore) -> None:
    chain = Chain()
    chain.add(3)
    chain.add(2, accepted=False)
    store.append(chain.entries)
    assert store.last() == chain.head()
    assert chain.head().number == 3


def test_the_number_of_the_head_is_0_when_every_entry_is_a_refusal(store: LogStore) -> None:
    chain = Chain()
    chain.add(2, accepted=False)
    store.append(chain.entries)
    assert store.last() == chain.head()
    assert chain.head().number == 0


def test_pages_are_in_order_and_bounded_when_entries_are_read(store: LogStore) -> None:
    chain = Chain()
    for _ in range(10):
        chain.add()
        chain.add(accepted=False)
    store.append(chain.entries)
    assert store.after(0, 3) == chain.after(0, 3)
    assert store.after(18, 3) == chain.after(18)
    assert store.after(20, 3) == []
    assert store.after(MAX_NUMBER, 3) == []
    assert [order.number for order in store.orders(4, 3)] == [5, 6, 7]
    assert [order.number for order in store.orders(9, 3)] == [10]
    assert store.orders(10, 3) == []
    assert store.order(10) == Order(number=10, name="GameStart", type="buy", quantity=1)
    assert store.order(11) is None


def test_keys_differ_when_only_their_case_does(store: LogStore) -> None:
    store.append([_entry(1, key="abc"), _entry(2, key="ABC")])
    (upper,), (lower,) = store.find(["ABC"]), store.find(["abc"])
    assert (lower.position, upper.position) == (1, 2)
    assert store.find(["Abc"]) == []


@pytest.mark.parametrize("twice", ["position", "key", "number"])
def test_nothing_of_a_batch_is_written_when_one_of_it_is_there_already(store: LogStore, twice: str) -> None:
    first, second, third = _entry(1), _entry(2), _entry(3)
    store.append([first])
    with pytest.raises(apsw.ConstraintError):
        store.append([second, third.model_copy(update={twice: getattr(first, twice)})])
    assert store.after(0, 10) == [first]
    store.append([second, third])
    assert store.after(0, 10) == [first, second, third]


def test_the_last_generation_counts_when_several_were_adopted(store: LogStore) -> None:
    store.adopt(1, STOCKS)
    store.append([_entry(1)])
    store.adopt(2, STOCKS[:1])
    assert (store.generation(), store.initial()) == (2, STOCKS[:1])
    assert store.after(0, 10) == [_entry(1)]


# One process only.

HOLD = """
import sys, pathlib, time
from services.order.store import LogStore
store = LogStore(pathlib.Path(sys.argv[1]))
print("open", flush=True)
time.sleep(60)
"""


def _open_elsewhere(path: Path) -> "subprocess.Popen[bytes]":
    holder = subprocess.Popen(  # the interpreter that runs this test
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"open\n"
    return holder


def test_a_second_process_is_refused_until_the_first_is_killed(path: Path) -> None:
    with _open_elsewhere(path) as holder:
        with pytest.raises(DatabaseLocked, match=r"order-1\.db"):
            LogStore(path)
        holder.send_signal(signal.SIGSTOP)  # one that sleeps holds it as well
        with pytest.raises(DatabaseLocked):
            LogStore(path)
        holder.kill()
        holder.wait()
    LogStore(path).close()


def test_a_second_store_is_refused_without_harm_to_the_first(path: Path, store: LogStore) -> None:
    for _ in range(3):
        with pytest.raises(DatabaseLocked):
            LogStore(path)
    store.append([_entry(1)])
    assert store.after(0, 1) == [_entry(1)]


def test_two_replicas_are_let_in_when_they_share_a_folder(tmp_path: Path, store: LogStore) -> None:
    other = LogStore(tmp_path / "order-2.db")
    other.append([_entry(1)])
    other.close()
    assert store.last() is None


# A disk that fails.


def _with_room_for(path: Path, pages: int) -> LogStore:
    """A store whose file may grow by so many pages, as on a full disk."""
    store = LogStore(path)
    writer = store._database._writer
    count = next(iter(writer.execute("PRAGMA page_count")))[0]
    writer.execute(f"PRAGMA max_page_count = {count + pages}")
    return store


@pytest.mark.parametrize("pages", [0, 1, 5])
def test_disk_full_is_told_and_nothing_is_written_when_there_is_no_room(path: Path, pages: int) -> None:
    chain = Chain()
    chain.add(1_000)
    store = _with_room_for(path, pages)
    with pytest.raises(DiskFull):
        store.append(chain.entries)
    assert store.last() is None
    store.close()
    store = LogStore(path)
    assert store.last() is None
    store.append(chain.entries)
    assert store.last() == chain.head()
    store.close()


@pytest.mark.parametrize("what", ["fsync", "write"])
def test_the_file_is_not_trusted_and_nothing_was_written_when_the_disk_fails(
    path: Path, what: Literal["fsync", "write"]
) -> None:
    chain = Chain()
    with failing_files() as files:
        store = LogStore(path)
        store.append(chain.add(2))
        files.fails = what
        with pytest.raises(IntegrityFailure, match=r"order-1\.db"):
            store.append(chain.add())
        files.fails = None
        assert store.last() == chain.head(2)
        store.close()


def test_a_file_that_is_no_database_cannot_be_trusted(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1_000)
    with pytest.raises(IntegrityFailure, match=r"order-1\.db"):
        LogStore(path)


def test_a_reader_sees_what_was_committed_when_another_thread_wrote_it(store: LogStore) -> None:
    async def run() -> None:
        chain = Chain()
        for _ in range(20):
            await asyncio.to_thread(store.append, chain.add(5))
            assert store.last() == chain.head()

    asyncio.run(run())
