"""The databases that the benchmark makes are those that the services themselves would have written."""

import re
from pathlib import Path

import pytest

from eval.bench import logs
from eval.bench.logs import QUANTITY, check_room, make_stocks, rows, write_databases
from services.catalog.inventory import fold
from services.catalog.sqlite_store import SqliteStore
from services.cluster.errors import CannotDo
from services.common.digest import empty_head, follows, head_at
from services.common.models import KEY_PATTERN, NAME_PATTERN
from services.order.store import LogStore


@pytest.mark.parametrize("orders", [0, 1, 2, 7, 12, 23])
@pytest.mark.parametrize("stocks", [1, 3, 5])
def test_every_log_is_a_chain_and_the_stocks_add_up_when_databases_are_made(
    tmp_path: Path, orders: int, stocks: int
) -> None:
    initial = make_stocks(stocks)
    write_databases(tmp_path, initial, orders)
    chains = []
    head = empty_head(initial)
    for i in (1, 2, 3):
        store = LogStore(tmp_path / f"order-{i}.db")
        assert (store.generation(), store.initial()) == (1, initial)
        chains.append(store.after(0, 1_000))
        last = store.last()
        store.close()
        head = empty_head(initial)
        for entry in chains[-1]:
            assert follows(entry, head)
            head = head_at(entry, head)
        assert (last or empty_head(initial)) == head
        assert (head.position, head.number) == (orders, orders)
    assert chains[0] == chains[1] == chains[2]
    catalog = SqliteStore(tmp_path / "catalog.db")
    saved = catalog.load()
    catalog.close()
    assert saved is not None
    assert not saved.is_rebuilt
    assert (saved.inventory.generation, saved.inventory.base, saved.inventory.head) == (1, head, head)
    assert saved.inventory.stocks == fold(initial, chains[0])


def test_keys_and_names_are_valid_and_keys_in_order_when_rows_are_made() -> None:
    made = list(rows(make_stocks(3), 300))
    keys = [row[2] for row in made]
    assert all(re.fullmatch(KEY_PATTERN, each) for each in keys)
    assert keys == sorted(set(keys))
    assert all(re.fullmatch(NAME_PATTERN, row[3]) for row in made)


def test_quantities_outlast_any_load_when_stocks_are_made() -> None:
    stocks = make_stocks(100_000)
    assert len({stock.name for stock in stocks}) == 100_000
    assert {stock.quantity for stock in stocks} == {QUANTITY}


def test_nothing_is_written_when_the_disk_has_no_room(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match="TMPDIR"):
        check_room(tmp_path, 10**15)


def test_one_line_says_why_when_the_command_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["logs", str(tmp_path), "3", str(10**15)])
    with pytest.raises(SystemExit, match="need"):
        logs.main()
