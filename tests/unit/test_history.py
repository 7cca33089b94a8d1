"""The checkers of the simulation, on histories that are known to be good or bad."""

from typing import Any

import pytest

from eval.history import Evidence, Operation, check
from services.common.digest import empty_head, entry_digest, head_at
from services.common.models import Entry, Head, Stock

INITIAL = [Stock(name="A", price=100, quantity=5), Stock(name="B", price=200, quantity=5)]


def make_log(*trades: tuple[str, str, int, bool]) -> list[Entry]:
    """Entries with keys k1, k2, ..: (name, type, quantity, accepted)."""
    head: Head = empty_head(INITIAL)
    log = []
    for position, (name, kind, quantity, accepted) in enumerate(trades, start=1):
        draft = Entry.model_validate(
            {
                "position": position,
                "number": head.number + 1 if accepted else None,
                "key": f"k{position}",
                "name": name,
                "type": kind,
                "quantity": quantity,
                "price": 100,
                "at": 0,
                "digest": "",
            }
        )
        entry = draft.model_copy(update={"digest": entry_digest(head.digest, draft)})
        log.append(entry)
        head = head_at(entry, head)
    return log


LOG = make_log(("A", "buy", 2, True), ("A", "buy", 4, False), ("A", "sell", 1, True))
STOCKS = [Stock(name="A", price=100, quantity=4, version=3), Stock(name="B", price=200, quantity=5)]


def trade(position: int, began: float, ended: float, **changes: Any) -> Operation:
    entry = LOG[position - 1]
    operation = Operation("c", "trade", began, name=entry.name, key=entry.key, type=entry.type, quantity=entry.quantity)
    operation.ended, operation.status = ended, 201 if entry.number else 409
    operation.seen = {"number": entry.number} if entry.number else {}
    for name, value in changes.items():
        setattr(operation, name, value)
    return operation


def look_up(version: int, quantity: int, began: float, ended: float, generation: int = 1) -> Operation:
    seen = {"quantity": quantity, "etag": f'"{generation}-{version}"'}
    return Operation("c", "look_up", began, name="A", ended=ended, status=200, seen=seen)


def order(number: int, status: int, began: float, ended: float) -> Operation:
    seen: dict[str, Any] = {}
    if status == 200:
        entry = next(entry for entry in LOG if entry.number == number)
        seen = {"number": number, "name": entry.name, "type": entry.type, "quantity": entry.quantity}
    return Operation("c", "order", began, number=number, ended=ended, status=status, seen=seen)


def problems(*operations: Operation, **changes: Any) -> list[str]:
    evidence = Evidence(INITIAL, {"order-1": LOG, "order-2": LOG}, STOCKS, list(operations), {1: 0})
    for name, value in changes.items():
        setattr(evidence, name, value)
    return check(evidence)


def test_a_good_history_passes() -> None:
    assert not problems(
        trade(1, 0, 2),
        look_up(0, 5, 0, 1),
        look_up(1, 3, 1, 3),
        trade(2, 2, 3),
        trade(3, 3, 4),
        look_up(3, 4, 5, 6),
        order(2, 404, 1, 3.5),
        order(2, 200, 4, 5),
    )


@pytest.mark.parametrize(
    ("operations", "word"),
    [
        pytest.param([look_up(1, 3, 0, 1), look_up(0, 5, 2, 3)], "not linearizable", id="a read goes back in time"),
        pytest.param(
            [trade(1, 0, 1), look_up(0, 5, 2, 3)], "not linearizable", id="a read misses an acknowledged trade"
        ),
        pytest.param(
            [look_up(1, 3, 0, 1), trade(1, 2, 3)], "not linearizable", id="a read sees a trade before it was sent"
        ),
        pytest.param([trade(3, 0, 1), trade(1, 2, 3)], "not linearizable", id="numbers against real time"),
        pytest.param(
            [trade(1, 0, 1), order(1, 404, 2, 3)], "not linearizable", id="an acknowledged order is not found"
        ),
        pytest.param([order(2, 200, 0, 1), order(1, 404, 2, 3)], "not linearizable", id="an older order is not found"),
        pytest.param([look_up(1, 4, 0, 1)], "another quantity", id="a read with a wrong quantity"),
        pytest.param([look_up(2, 3, 0, 1)], "does not have", id="a read of a change that never was"),
        pytest.param([trade(1, 0, 1, seen={"number": 7})], "K1", id="another number than acknowledged"),
        pytest.param([trade(1, 0, 1, key="gone")], "K1", id="an acknowledged order is lost"),
        pytest.param([trade(1, 0, 1, quantity=3)], "K1", id="acknowledged for other content"),
        pytest.param([trade(2, 0, 1, status=201, seen={"number": 2})], "K1", id="acknowledged but refused in the log"),
        pytest.param([trade(1, 0, 1, status=409)], "K3", id="refused but executed"),
        pytest.param([trade(1, 0, 1, status=503)], "503 was not definite", id="definite but executed"),
        pytest.param([trade(1, 0, 1, status=500)], "must not be", id="a crash"),
        pytest.param([trade(1, 0, 1, status=422)], "K3", id="called reused but is the same"),
        pytest.param([trade(1, 0, 99)], "K9", id="an answer that took too long"),
    ],
)
def test_a_bad_history_is_found(operations: list[Operation], word: str) -> None:
    found = problems(*operations)

    assert any(word in problem for problem in found), found


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        pytest.param({"logs": {"order-1": LOG, "order-2": LOG[:2]}}, "K5", id="a replica is behind at rest"),
        pytest.param({"logs": {"order-1": LOG, "order-2": make_log(("B", "buy", 1, True))}}, "K4", id="logs differ"),
        pytest.param({"logs": {"order-1": [LOG[0], LOG[0]]}}, "K4", id="an entry stands twice"),
        pytest.param({"stocks": INITIAL}, "K5", id="stocks do not add up"),
        pytest.param(
            {"logs": {"order-1": make_log(("A", "buy", 9, True))}, "stocks": INITIAL}, "decided wrongly", id="oversold"
        ),
    ],
)
def test_bad_logs_are_found(changes: dict[str, Any], word: str) -> None:
    found = problems(**changes)

    assert any(word in problem for problem in found), found


def test_a_read_of_a_vanished_trade_passes_when_the_disk_of_the_catalog_was_lost_since() -> None:
    assert not problems(look_up(9, 3, 0, 1, generation=1), starts={1: 0, 2: 3})


def test_a_definite_answer_is_found_wrong_when_its_trade_was_decided_before_it_was_sent_again() -> None:
    operations = [trade(1, 0, 1, status=503), trade(1, 5, 6)]

    assert "503 was not definite" in problems(*operations, decided_at={"k1": 0.5})[0]
    assert not problems(*operations, decided_at={"k1": 5.5})
    assert not problems(*operations), "nobody knows when it was decided"
    assert not problems(trade(1, 0, 1, status=0), trade(1, 2, 3, status=503), trade(1, 5, 6), decided_at={"k1": 2.5})
