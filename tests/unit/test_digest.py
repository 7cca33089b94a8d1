"""The digest chain: what it covers, and what it lets follow."""

import hashlib
import json
from typing import Any

import pytest

from services.common.digest import empty_head, entry_digest, follows, head_at, initial_digest
from services.common.models import Entry, Head, Stock
from tests.support.catalog_entries import STOCKS, buy, chain, entry_after, head_of

LOG = chain([buy("a", 3), buy("b", 1_000_000), buy("c", 2)], refused=frozenset({"b"}))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def test_digest_of_the_stocks_is_over_their_canonical_json_by_name() -> None:
    # Written out: other versions of this code, and other languages, must come to the same digest.
    assert initial_digest(reversed(STOCKS)) == sha256('[["FishCo",2050,50],["GameStart",1599,100]]')
    assert initial_digest([]) == sha256("[]")


def test_digest_of_an_entry_is_over_the_digest_before_and_its_canonical_json() -> None:
    before = initial_digest(STOCKS)
    first = '{"at":1760000000000,"key":"a","name":"GameStart","number":1,"position":1,"price":1599,"quantity":3'
    assert LOG[0].digest == sha256(before + first + ',"type":"buy"}')
    second = (
        '{"at":1760000000000,"key":"b","name":"GameStart","number":null,"position":2,"price":1599,"quantity":1000000'
    )
    assert LOG[1].digest == sha256(LOG[0].digest + second + ',"type":"buy"}')


def test_digest_is_ascii_when_a_key_holds_quotes_and_backslashes() -> None:
    entry = entry_after(empty_head(STOCKS), buy('"\\~!'))
    named = {name: value for name, value in entry.model_dump().items() if name != "digest"}
    canonical = json.dumps(named, sort_keys=True, separators=(",", ":"))
    assert entry.digest == sha256(initial_digest(STOCKS) + canonical)
    assert entry.digest == entry_digest(initial_digest(STOCKS), entry)
    assert follows(entry, empty_head(STOCKS))


def test_digest_of_the_stocks_is_the_same_when_only_versions_differ() -> None:
    traded = [stock.model_copy(update={"version": 7}) for stock in STOCKS]
    assert initial_digest(traded) == initial_digest(STOCKS)


@pytest.mark.parametrize("change", [{"name": "Other"}, {"price": 2_051}, {"quantity": 49}])
def test_digest_of_the_stocks_differs_when_one_of_them_does(change: dict[str, Any]) -> None:
    other: list[Stock] = [STOCKS[0].model_copy(update=change), *STOCKS[1:]]
    assert initial_digest(other) != initial_digest(STOCKS)
    assert initial_digest(STOCKS[1:]) != initial_digest(STOCKS)


CHANGES: list[dict[str, Any]] = [
    {"position": 2},
    {"number": 2},
    {"number": None},
    {"key": "b"},
    {"name": "FishCo"},
    {"type": "sell"},
    {"quantity": 4},
    {"price": 1_600},
    {"at": 1},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_digest_differs_when_any_field_does(change: dict[str, Any]) -> None:
    before = initial_digest(STOCKS)
    changed: Entry = LOG[0].model_copy(update=change)
    assert entry_digest(before, changed) != LOG[0].digest
    assert not follows(changed, empty_head(STOCKS))


def test_digest_differs_when_the_one_before_does() -> None:
    assert entry_digest("0" * 64, LOG[0]) != LOG[0].digest
    assert not follows(LOG[0], Head(position=0, number=0, digest="0" * 64))


def test_a_log_follows_step_by_step_when_it_is_whole() -> None:
    head = empty_head(STOCKS)
    assert head == Head(position=0, number=0, digest=initial_digest(STOCKS))
    for entry in LOG:
        assert follows(entry, head)
        head = head_at(entry, head)
    assert head == head_of(LOG) == Head(position=3, number=2, digest=LOG[2].digest)


def test_the_count_of_orders_stays_when_an_entry_is_refused() -> None:
    assert head_of(LOG[:2]) == Head(position=2, number=1, digest=LOG[1].digest)


def test_nothing_follows_when_an_entry_is_left_out_repeated_or_swapped() -> None:
    assert not follows(LOG[1], head_of([]))
    assert not follows(LOG[0], head_of(LOG[:1]))
    assert not follows(LOG[2], head_of(LOG[:1]))


@pytest.mark.parametrize("change", [{"position": 3}, {"number": 2}, {"position": 0}, {"number": 0}])
def test_nothing_follows_when_position_or_number_leave_a_gap_under_a_right_digest(change: dict[str, Any]) -> None:
    head = empty_head(STOCKS)
    forged: Entry = LOG[0].model_copy(update=change)
    forged = forged.model_copy(update={"digest": entry_digest(head.digest, forged)})
    assert not follows(forged, head)
