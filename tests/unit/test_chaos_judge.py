"""A run's clients write down what they are told, and the judge finds what the disks contradict."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from eval.chaos.judge import problems_on_disk, read_evidence
from eval.chaos.load import Customer
from eval.witness import History, Witness
from services.catalog.inventory import Inventory, fold
from services.catalog.sqlite_store import SqliteStore
from services.cluster.topology import Settings, plan
from services.common.digest import empty_head, entry_digest, head_at
from services.common.models import Entry, Stock
from services.order.store import LogStore
from tests.support.fake_front_end import FakeFrontEnd, error

PLENTY = 10_000
INITIAL = [Stock(name=name, price=15_225, quantity=PLENTY) for name in ("FishCo", "GameStart")]
CLUSTER = plan(Settings(replicas=2))
OPERATIONS = 200


async def trade_with(front_end: FakeFrontEnd, operations: int = OPERATIONS) -> History:
    """What one client writes down that speaks to `front_end`."""
    history = History()
    url = "http://front-end-1"
    async with Witness("client-1", history, url, transport=front_end.transport, patience_s=1) as witness:
        customer = Customer([witness, witness], [stock.name for stock in INITIAL], random.Random(7))
        for _ in range(operations):
            await customer.act()
    return history


def log_of(front_end: FakeFrontEnd) -> list[Entry]:
    """The log behind what `front_end` told."""
    keys = {answer.json()["data"]["number"]: key for key, (_, answer) in front_end.answers.items()}
    head, log = empty_head(INITIAL), []
    for order in front_end.orders:
        content = {**order, "position": order["number"], "key": keys[order["number"]], "price": 15_225, "at": 0}
        draft = Entry.model_validate(content | {"digest": ""})
        log.append(draft.model_copy(update={"digest": entry_digest(head.digest, draft)}))
        head = head_at(log[-1], head)
    return log


@pytest.fixture
def front_end() -> FakeFrontEnd:
    """Has enough of everything, so that nothing is refused."""
    return FakeFrontEnd({stock.name: stock.quantity for stock in INITIAL})


@pytest.fixture
async def history(front_end: FakeFrontEnd) -> History:
    """What a client wrote down."""
    return await trade_with(front_end)


@pytest.fixture
def data_dir(tmp_path: Path, front_end: FakeFrontEnd, history: History) -> Path:
    """The disks of a bazaar that told exactly that."""
    log = log_of(front_end)
    for service in CLUSTER.of("order"):
        store = LogStore(tmp_path / f"{service.name}.db")
        store.adopt(1, INITIAL)
        store.append(log)
        store.close()
    catalog = SqliteStore(tmp_path / "catalog.db")
    catalog.create(
        Inventory(
            generation=1,
            initial=INITIAL,
            stocks=list(fold(INITIAL, log).values()),
            base=empty_head(INITIAL),
            entries=log,
        )
    )
    catalog.close()
    return tmp_path


def alter(data_dir: Path, name: str, statement: str) -> None:
    with closing(sqlite3.connect(data_dir / f"{name}.db")) as database, database:
        assert database.execute(statement).rowcount > 0


def test_every_kind_of_operation_is_written_down(history: History) -> None:
    assert history.errors == []
    assert {(each.kind, each.status) for each in history.operations} == {
        ("look_up", 200),
        ("trade", 201),
        ("trade", 422),
        ("order", 200),
        ("order", 404),
    }
    keys = [each.key for each in history.operations if each.kind == "trade"]
    assert len(set(keys)) < len(keys), "some keys were sent again"
    assert all(each.began < each.ended for each in history.operations)


def test_run_passes_when_the_disks_hold_what_was_told(data_dir: Path, history: History) -> None:
    assert problems_on_disk(data_dir, CLUSTER, history.operations) == []
    evidence = read_evidence(data_dir, CLUSTER, history.operations)
    assert (list(evidence.logs), evidence.initial, evidence.starts) == (["order-1", "order-2"], INITIAL, {1: 0})


@pytest.mark.parametrize(
    ("name", "statement", "word"),
    [
        ("order-2", "DELETE FROM log WHERE position = (SELECT max(position) FROM log)", "K5"),
        ("order-2", "UPDATE log SET quantity = quantity + 1 WHERE position = 3", "K4"),
        ("order-1", "DELETE FROM log WHERE position = 3", "K4"),
        ("catalog", "UPDATE stocks SET quantity = quantity + 1 WHERE name = 'FishCo'", "K5"),
        ("catalog", "DELETE FROM entries WHERE position = 3", "K4"),
        ("catalog", "DELETE FROM meta", "K4"),
    ],
)
def test_run_fails_when_a_disk_was_altered_since(
    data_dir: Path, history: History, name: str, statement: str, word: str
) -> None:
    alter(data_dir, name, statement)
    problems = problems_on_disk(data_dir, CLUSTER, history.operations)
    assert any(word in problem for problem in problems), problems


def forget_an_order(history: History) -> None:
    """As if a client had been told of an order that no log has."""
    trade = next(each for each in history.operations if each.status == 201)
    trade.key = "another-key"


def read_the_past(history: History) -> None:
    """As if a look-up had been answered from a cache that missed an invalidation."""
    look_ups = [each for each in history.operations if each.kind == "look_up" and each.name == "FishCo"]
    look_ups[-1].seen = look_ups[0].seen


def miss_an_order(history: History) -> None:
    """As if an order query had not found an order that was acknowledged."""
    query = [each for each in history.operations if each.kind == "order" and each.status == 200][-1]
    query.status = 404


@pytest.mark.parametrize("spoil", [forget_an_order, read_the_past, miss_an_order])
def test_run_fails_when_a_client_was_told_otherwise(
    data_dir: Path, history: History, spoil: Callable[[History], None]
) -> None:
    spoil(history)
    assert problems_on_disk(data_dir, CLUSTER, history.operations) != []


@pytest.mark.parametrize(
    ("fault", "status"),
    [(error(503), 503), (httpx.ReadError("reset"), 504), (error(400), 400)],
    ids=["not available", "unknown", "rejected"],
)
async def test_error_is_noted_when_a_client_sees_one(fault: httpx.Response | Exception, status: int) -> None:
    front_end = FakeFrontEnd({stock.name: stock.quantity for stock in INITIAL})
    front_end.faults.extend([fault] * 1_000)
    history = await trade_with(front_end, operations=1)
    seen = history.operations[0]
    wanted = {504: 503}.get(status, status) if seen.kind != "trade" else status
    assert (seen.status, len(history.errors)) == (wanted, 1)
