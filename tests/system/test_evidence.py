"""The check after every test must see what it is there for; no process is started here."""

from collections.abc import Callable, Sequence

import pytest

from services.common.digest import entry_digest, initial_digest
from services.common.models import Entry
from services.common.models import Stock as ServiceStock
from tests.support.system_evidence import History, Row, Stock, contradictions
from tests.support.system_ledger import Ledger, Seen, Told, Trade

INITIAL = {"IBM": Stock(price=500, quantity=10)}
TRADES = (("a", "buy", 4, 1), ("b", "buy", 7, None), ("c", "sell", 5, 2), ("d", "buy", 11, 3))
"""Key, type, quantity, number; ten are there at first, then 6, 6, 11, 0."""


def chained(contents: Sequence[tuple[str, str, int, int | None]] = TRADES) -> list[Row]:
    """A log with the digests that the services give it."""
    digest = initial_digest(
        [ServiceStock(name=name, price=s.price, quantity=s.quantity) for name, s in INITIAL.items()]
    )
    log = []
    for position, (key, kind, quantity, number) in enumerate(contents, start=1):
        row = Row(position, number, key, "IBM", kind, quantity, 500, 0, "")
        digest = entry_digest(digest, Entry.model_validate(row._asdict()))
        log.append(row._replace(digest=digest))
    return log


def honest_ledger() -> Ledger:
    """What customers of this log are told; trade i from time i to i + 0.5, look-ups after the second and the last."""
    told = [
        Told(Trade(row.key, row.name, "buy" if row.type == "buy" else "sell", row.quantity), row.number, at, at + 0.5)
        for at, row in enumerate(chained(), start=1)
    ]
    return Ledger(told, [Seen("IBM", 6, 2.6, 2.7), Seen("IBM", 0, 4.6, 4.7)])


def test_nothing_is_found_when_the_log_is_what_customers_were_told() -> None:
    history = History(INITIAL, chained())
    assert history.problems == []
    assert history.stocks == {"IBM": Stock(500, 0, 4)}
    assert contradictions(history, honest_ledger()) == []


@pytest.mark.parametrize(
    "contents",
    [
        (*TRADES, ("a", "sell", 1, 4)),
        (("a", "buy", 11, 1),),
        (("a", "buy", 1, None),),
        (("a", "buy", 1, 2),),
        (("a", "buy", 1, 1), ("b", "buy", 1, 1)),
    ],
    ids=["key twice", "more than there is", "wrongly refused", "gap in the numbers", "number twice"],
)
def test_broken_rule_is_found_when_a_log_has_it(contents: Sequence[tuple[str, str, int, int | None]]) -> None:
    assert len(History(INITIAL, chained(contents)).problems) == 1


@pytest.mark.parametrize(
    "broken",
    [
        lambda log: log[1:],
        lambda log: [log[0], *log[2:]],
        lambda log: [log[0]._replace(quantity=3), *log[1:]],
        lambda log: [log[0]._replace(digest=log[1].digest), *log[1:]],
    ],
    ids=["first one lost", "one lost", "other content", "other digest"],
)
def test_broken_chain_is_found_when_a_log_was_changed(broken: Callable[[list[Row]], list[Row]]) -> None:
    assert History(INITIAL, broken(chained())).problems != []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda ledger: ledger.told.append(Told(Trade("e", "IBM", "buy", 1), 4, 5.0, 5.5)), "lost"),
        (lambda ledger: ledger.told.append(Told(Trade("a", "IBM", "buy", 4), 9, 5.0, 5.5)), "told"),
        (lambda ledger: ledger.told.append(Told(Trade("a", "IBM", "buy", 5), 1, 1.0, 1.5)), "told"),
        (lambda ledger: ledger.told.append(Told(Trade("b", "IBM", "buy", 7), 1, 2.0, 2.5)), "told"),
        (lambda ledger: ledger.told.append(Told(Trade("a", "IBM", "buy", 4), 1, 3.0, 3.5)), "asked for after"),
        (lambda ledger: ledger.seen.append(Seen("IBM", 10, 1.6, 1.7)), "no such quantity"),
        (lambda ledger: ledger.seen.append(Seen("IBM", 11, 2.6, 2.7)), "no such quantity"),
        (lambda ledger: ledger.seen.append(Seen("IBM", 7, 2.6, 2.7)), "no such quantity"),
        (lambda ledger: ledger.seen.extend([Seen("IBM", 11, 3.1, 3.2), Seen("IBM", 6, 3.3, 3.4)]), "no such quantity"),
        (lambda ledger: ledger.problems.append("an error"), "an error"),
    ],
    ids=[
        "order lost",
        "other number",
        "other content",
        "refused one executed",
        "order of time",
        "stale read",
        "read of the future",
        "read of nothing",
        "two reads that go back",
        "error",
    ],
)
def test_contradiction_is_found_when_a_customer_was_told_otherwise(spoil: Callable[[Ledger], None], words: str) -> None:
    ledger = honest_ledger()
    spoil(ledger)
    problems = contradictions(History(INITIAL, chained()), ledger)
    assert len(problems) == 1
    assert words in problems[0]
