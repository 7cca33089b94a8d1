"""`bazaar verify` over good logs and over logs that are wrong in one way each."""

from collections.abc import Callable, Sequence

import pytest

from services.cluster.verify import Verdict, verify_logs
from services.common.digest import empty_head, entry_digest, head_at
from services.common.models import Entry, Head, Stock, StocksAnswer, Type

INITIAL = [Stock(name="A", price=1_000, quantity=10), Stock(name="B", price=250, quantity=0)]


class Decisions:
    """Makes a right sequence of entries, or one that is wrong where the test says so."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.stocks = {stock.name: stock for stock in INITIAL}
        self.head: Head = empty_head(INITIAL)

    def add(self, type_: Type, name: str, quantity: int, /, **wrong: object) -> "Decisions":
        stock = self.stocks[name]
        after = stock.quantity + (quantity if type_ == "sell" else -quantity)
        position = self.head.position + 1
        content: dict[str, object] = {
            "position": position,
            "number": self.head.number + 1 if after >= 0 else None,
            "key": f"key-{position}",
            "name": name,
            "type": type_,
            "quantity": quantity,
            "price": stock.price,
            "at": 1_700_000_000_000 + position,
            "digest": "",
        }
        entry = Entry.model_validate(content | wrong)
        if "digest" not in wrong:
            entry = entry.model_copy(update={"digest": entry_digest(self.head.digest, entry)})
        if entry.number is not None:
            self.stocks[name] = stock.model_copy(update={"quantity": after, "version": position})
        self.entries.append(entry)
        self.head = head_at(entry, self.head)
        return self

    @property
    def catalog(self) -> StocksAnswer:
        return StocksAnswer(generation=1, head=self.head, stocks=list(self.stocks.values()))


def good() -> Decisions:
    """Orders 1 to 3, and a refusal at position 3."""
    return Decisions().add("buy", "A", 4).add("sell", "B", 5).add("buy", "B", 6).add("buy", "B", 5)


def verify(*logs: Sequence[Entry], catalog: StocksAnswer | None, initial: Sequence[Stock] = INITIAL) -> Verdict:
    return verify_logs(initial, {f"order-{i}": log for i, log in enumerate(logs, 1)}, catalog)


def test_it_passes_when_all_logs_are_the_catalogs_sequence() -> None:
    sequence = good()
    verdict = verify(sequence.entries, sequence.entries, sequence.entries, catalog=sequence.catalog)
    assert verdict.passed
    assert verdict.problems == []
    assert (verdict.orders, verdict.refused, verdict.stocks, verdict.digest) == (3, 1, 2, sequence.head.digest)
    digest = sequence.head.digest[:12]
    assert verdict.summary == f"3 of 3 replicas hold the same 3 orders (digest {digest}), 2 stocks add up"


def test_it_passes_when_nothing_was_ever_traded() -> None:
    assert verify([], [], catalog=Decisions().catalog).passed


def test_it_passes_when_the_logs_are_longer_than_a_page() -> None:
    sequence = Decisions()
    for _ in range(1_100):
        sequence.add("sell", "B", 1).add("buy", "B", 1)
    assert verify(sequence.entries, list(sequence.entries), catalog=sequence.catalog).passed


def test_it_fails_when_there_is_no_log_at_all() -> None:
    verdict = verify(catalog=good().catalog)
    assert not verdict.passed
    assert "no replica" in verdict.summary


def test_a_replica_is_named_when_it_is_behind() -> None:
    sequence = good()
    verdict = verify(sequence.entries, sequence.entries[:2], catalog=sequence.catalog)
    assert verdict.problems == ["order-2 holds 2 entries, there are 4"]
    assert verdict.summary == "not proven: order-2 holds 2 entries, there are 4"


def test_a_replica_is_named_when_it_is_behind_and_the_catalog_is_away() -> None:
    sequence = good()
    verdict = verify(sequence.entries, sequence.entries[:2], catalog=None)
    assert verdict.problems == ["order-2 holds 2 entries, there are 4"]


def test_the_place_is_named_when_two_sound_logs_differ() -> None:
    one = good()
    other = Decisions().add("buy", "A", 4).add("sell", "B", 5).add("buy", "B", 6).add("buy", "A", 1)
    verdict = verify(one.entries, other.entries, one.entries, catalog=one.catalog)
    assert verdict.problems == [
        "order-1 and order-2 differ from position 4 on",
        "order-2 differs from the catalog's sequence: other digest at position 4",
    ]


def test_only_the_odd_one_is_blamed_when_the_first_log_was_tampered_with() -> None:
    sequence = good()
    odd = list(sequence.entries)
    odd[1] = odd[1].model_copy(update={"quantity": 500})
    verdict = verify(odd, sequence.entries, sequence.entries, catalog=sequence.catalog)
    assert verdict.problems == ["order-1: the digest at position 2 does not fit what is there"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda log: [log[0], *log[2:]], "position 3 follows 1"),
        (lambda log: [log[0], log[0], *log[1:]], "position 1 follows 1"),
        (lambda log: [log[0], log[1].model_copy(update={"number": 3}), *log[2:]], "order 3 follows 1"),
        (lambda log: [log[0], log[1].model_copy(update={"digest": "0" * 64}), *log[2:]], "digest at position 2"),
        (lambda log: [log[0], log[1].model_copy(update={"at": 5}), *log[2:]], "digest at position 2"),
    ],
    ids=["gap", "doubled", "number", "digest", "content"],
)
def test_the_place_is_named_when_a_log_is_damaged(spoil: Callable[[list[Entry]], list[Entry]], problem: str) -> None:
    sequence = good()
    verdict = verify(sequence.entries, spoil(sequence.entries), catalog=sequence.catalog)
    assert not verdict.passed
    assert any(each.startswith("order-2: ") and problem in each for each in verdict.problems)


@pytest.mark.parametrize(
    ("sequence", "problem"),
    [
        (Decisions().add("buy", "A", 11, number=1), "accepted, though there were 10"),
        (Decisions().add("buy", "A", 3, number=None), "refused, though it was possible"),
        (Decisions().add("buy", "A", 3, price=999), "another price"),
        (Decisions().add("buy", "A", 3, name="C"), "no stock C"),
        (Decisions().add("buy", "A", 3).add("buy", "A", 3, key="key-1"), "the key at position 2"),
    ],
    ids=["negative", "wrongly refused", "price", "unknown stock", "key twice"],
)
def test_it_fails_when_a_whole_sequence_breaks_a_rule_with_fitting_digests(sequence: Decisions, problem: str) -> None:
    verdict = verify(sequence.entries, sequence.entries, catalog=sequence.catalog)
    assert any(problem in each for each in verdict.problems), verdict.problems


def test_it_fails_when_the_catalog_shows_another_quantity() -> None:
    sequence = good()
    stocks = [stock.model_copy(update={"quantity": stock.quantity + 1}) for stock in sequence.catalog.stocks[:1]]
    catalog = sequence.catalog.model_copy(update={"stocks": [*stocks, *sequence.catalog.stocks[1:]]})
    verdict = verify(sequence.entries, sequence.entries, catalog=catalog)
    assert verdict.problems == [
        "A: the catalog shows 7 at 1000 cents, the log of order-1 adds up to 6 at 1000",
    ]


def test_it_fails_when_the_catalog_has_other_stocks() -> None:
    sequence = good()
    catalog = sequence.catalog.model_copy(update={"stocks": sequence.catalog.stocks[:1]})
    assert "see B" in verify(sequence.entries, catalog=catalog).summary


def test_it_fails_when_the_catalog_dates_a_change_otherwise() -> None:
    sequence = good()
    stocks = [stock.model_copy(update={"version": stock.version + 1}) for stock in sequence.catalog.stocks]
    catalog = sequence.catalog.model_copy(update={"stocks": stocks})
    assert len(verify(sequence.entries, catalog=catalog).problems) == 2


def test_it_fails_when_the_log_does_not_start_from_these_stocks() -> None:
    sequence = good()
    initial = [INITIAL[0].model_copy(update={"quantity": 11}), INITIAL[1]]
    assert not verify(sequence.entries, sequence.entries, catalog=sequence.catalog, initial=initial).passed
