"""What decides, over plain values: each branch of 3a, the keys, the numbers, the stocks, and what is forgotten."""

from collections.abc import Sequence

import pytest

from services.catalog.inventory import Inventory, Plan, fold
from services.common.digest import empty_head, follows, head_at
from services.common.errors import IntegrityFailure
from services.common.models import MAX_ENTRIES, MAX_QUANTITY, MAX_STOCK, DecideAnswer, Entry, Head, Stock, Trade
from tests.support.catalog_entries import AT, STOCKS, buy, chain, head_of, request, sell

ALL = frozenset({1, 2, 3})
START = empty_head(STOCKS)


def new(initial: Sequence[Stock] = STOCKS, generation: int = 1) -> Inventory:
    return Inventory(generation, list(initial), initial, empty_head(initial), [])


def decide(inventory: Inventory, *trades: Trade, head: Head | None = None, replica_id: int = 3) -> DecideAnswer:
    """Steps 3a to 3f without anything in between."""
    asked = request(*trades, head=head or inventory.head, replica_id=replica_id, generation=inventory.generation)
    answer = inventory.examine(asked)
    if answer is None:
        plan = inventory.plan(asked, AT)
        inventory.apply(plan)
        answer = inventory.answer(plan.since + plan.entries)
    return answer


def of_size(count: int) -> tuple[Inventory, list[Entry]]:
    """A sequence of `count` entries, none of them forgotten."""
    entries = chain([sell(f"k{i}") for i in range(1, count + 1)])
    return Inventory(1, STOCKS, fold(STOCKS, entries).values(), START, entries), entries


# Deciding.


def test_trade_is_accepted_when_there_is_enough() -> None:
    inventory = new()
    answer = decide(inventory, buy("a", 30), sell("b", 5, name="FishCo"))
    assert answer.outcome == "decided"
    first, second = answer.entries
    assert (first.position, first.number, first.key, first.quantity, first.price, first.at) == (
        1,
        1,
        "a",
        30,
        1_599,
        AT,
    )
    assert (second.position, second.number, second.key, second.price) == (2, 2, "b", 2_050)
    assert follows(first, START)
    assert follows(second, head_at(first, START))
    assert inventory.stocks["GameStart"] == Stock(name="GameStart", price=1_599, quantity=70, version=1)
    assert inventory.stocks["FishCo"] == Stock(name="FishCo", price=2_050, quantity=55, version=2)
    assert answer.head == inventory.head == head_of(answer.entries)
    assert answer.generation == 1


def test_trade_is_refused_and_remembered_when_there_is_not_enough() -> None:
    inventory = new()
    answer = decide(inventory, buy("a", 101))
    (entry,) = answer.entries
    assert entry.number is None
    assert follows(entry, START)
    assert inventory.head == Head(position=1, number=0, digest=entry.digest)
    assert inventory.stocks["GameStart"].quantity == 100
    assert inventory.stocks["GameStart"].version == 0, "a refused trade changes no stock"


def test_the_last_piece_is_sold_and_no_more_when_a_batch_wants_more_than_there_is() -> None:
    inventory = new()
    answer = decide(inventory, buy("a", 60), buy("b", 41), buy("c", 40), buy("d", 1))
    assert [entry.number for entry in answer.entries] == [1, None, 2, None]
    assert inventory.stocks["GameStart"].quantity == 0
    assert inventory.stocks["GameStart"].version == 3


def test_a_trade_sees_those_before_it_in_its_batch() -> None:
    inventory = new()
    answer = decide(inventory, buy("a", 101), sell("b", 1), buy("c", 101), buy("d", 1))
    assert [entry.number for entry in answer.entries] == [None, 1, 2, None]
    assert inventory.stocks["GameStart"].quantity == 0


def test_numbers_have_no_gaps_when_refusals_lie_between() -> None:
    inventory = new()
    numbers = []
    for i in range(20):
        quantity = 1 if i % 3 else 1_000
        numbers += [entry.number for entry in decide(inventory, buy(f"k{i}", quantity)).entries]
    assert [number for number in numbers if number is not None] == list(range(1, 14))
    assert inventory.head.position == 20
    assert inventory.head.number == 13


def test_price_and_time_are_those_of_the_decision() -> None:
    inventory = new()
    asked = request(buy("a"), buy("b", name="FishCo"), head=START)
    plan = inventory.plan(asked, 123)
    assert [(entry.price, entry.at) for entry in plan.entries] == [(1_599, 123), (2_050, 123)]


@pytest.mark.parametrize(
    ("before", "quantity", "accepted"),
    [
        (MAX_STOCK - 1, 1, True),
        (MAX_STOCK, 1, False),
        (MAX_STOCK - MAX_QUANTITY, MAX_QUANTITY, True),
        (MAX_STOCK - MAX_QUANTITY + 1, MAX_QUANTITY, False),
    ],
)
def test_a_sale_is_refused_when_it_would_pass_the_limit(before: int, quantity: int, accepted: bool) -> None:
    inventory = new([Stock(name="GameStart", price=1, quantity=before)])
    (entry,) = decide(inventory, sell("a", quantity)).entries
    assert (entry.number is not None) == accepted
    assert inventory.stocks["GameStart"].quantity == before + quantity * accepted <= MAX_STOCK
    (entry,) = decide(inventory, buy("b", 1)).entries
    assert entry.number is not None, "and it can be bought from again"


def test_nothing_changes_when_a_plan_is_made_and_not_applied() -> None:
    inventory = new()
    for _ in range(2):
        plan = inventory.plan(request(buy("a", 30), buy("b", 80), head=START), AT)
        assert [entry.number for entry in plan.entries] == [1, None]
        assert set(plan.stocks) == {"GameStart"}
        assert inventory.head == START
        assert inventory.stocks["GameStart"].quantity == 100
        assert inventory.after(0) == []


def test_only_changed_stocks_are_in_the_plan() -> None:
    inventory = new()
    assert inventory.plan(request(buy("a", 1_000), head=START), AT).stocks == {}
    assert set(inventory.plan(request(buy("a", 1_000), buy("b", name="FishCo"), head=START), AT).stocks) == {"FishCo"}


def test_a_plan_is_not_applied_when_the_state_has_moved_on() -> None:
    inventory = new()
    stale = inventory.plan(request(buy("a"), head=START), AT)
    decide(inventory, buy("b"))
    with pytest.raises(AssertionError):
        inventory.apply(stale)


# Keys.


def test_a_key_is_passed_over_when_it_is_after_the_leaders_head() -> None:
    """H1: decided through one leader, asked again through another that has not heard of it."""
    inventory = new()
    decide(inventory, buy("a", 10), replica_id=2)
    answer = decide(inventory, buy("a", 10), head=START, replica_id=3)
    assert [entry.key for entry in answer.entries] == ["a"]
    assert inventory.stocks["GameStart"].quantity == 90
    assert inventory.head.number == 1


def test_a_late_copy_never_executes_when_the_first_was_refused() -> None:
    """H3: stock came back meanwhile."""
    inventory = new()
    decide(inventory, buy("a", 150), replica_id=2)
    decide(inventory, sell("b", 100), replica_id=2)
    answer = decide(inventory, buy("a", 150), head=START, replica_id=3)
    assert [(entry.key, entry.number) for entry in answer.entries] == [("a", None), ("b", 1)]
    assert inventory.stocks["GameStart"].quantity == 200


def test_a_key_is_passed_over_when_its_content_is_another() -> None:
    """The first one counts; whoever sent the other finds that in the log."""
    inventory = new()
    decide(inventory, buy("a", 10))
    answer = decide(inventory, sell("a", 99, name="FishCo"), head=START)
    assert [(entry.name, entry.type, entry.quantity) for entry in answer.entries] == [("GameStart", "buy", 10)]
    assert inventory.stocks["FishCo"].quantity == 50


def test_a_key_counts_once_when_it_stands_twice_in_a_batch() -> None:
    inventory = new()
    answer = decide(inventory, buy("a", 10), buy("b"), buy("a", 10), sell("a", 99), buy("b"))
    assert [entry.key for entry in answer.entries] == ["a", "b"]
    assert inventory.stocks["GameStart"].quantity == 89


def test_a_key_counts_once_when_it_was_refused_earlier_in_the_batch() -> None:
    inventory = new()
    answer = decide(inventory, buy("a", 101), sell("b", 50), buy("a", 101))
    assert [(entry.key, entry.number) for entry in answer.entries] == [("a", None), ("b", 1)]


def test_new_and_known_keys_are_told_apart_when_they_come_together() -> None:
    inventory = new()
    (a, b) = decide(inventory, buy("a"), buy("b")).entries
    answer = decide(inventory, buy("c"), buy("b"), buy("d"), head=head_of([a]))
    assert [entry.key for entry in answer.entries] == ["b", "c", "d"]
    assert answer.entries[0] == b


def test_nothing_is_committed_when_a_leader_asks_for_a_key_up_to_its_own_head() -> None:
    """It must not: but the sequence would hold the key twice, and the database could not be loaded any more."""
    inventory = new()
    decide(inventory, buy("a"))
    with pytest.raises(AssertionError):
        inventory.plan(request(buy("a"), head=inventory.head), AT)
    assert inventory.head.position == 1


def test_keys_differ_when_only_their_case_does() -> None:
    inventory = new()
    assert [entry.key for entry in decide(inventory, buy("a"), buy("A"), buy("a~"), buy('"')).entries] == [
        "a",
        "A",
        "a~",
        '"',
    ]


# 3a, branch by branch.


def test_everything_after_the_head_is_answered_when_nothing_is_asked_for() -> None:
    inventory, entries = of_size(5)
    for position in range(6):
        answer = decide(inventory, head=head_of(entries[:position]))
        assert answer.outcome == "decided"
        assert answer.entries == entries[position:]
        assert answer.head == inventory.head


def test_other_generation_and_nothing_decided_when_the_replica_is_of_an_older_one() -> None:
    """H4: an answer, or a question, of before the rebuild."""
    inventory = new(generation=3)
    asked = request(buy("a"), head=START, generation=2)
    answer = inventory.examine(asked)
    assert answer is not None
    assert (answer.outcome, answer.generation, answer.entries) == ("other_generation", 3, [])


def test_an_older_generation_is_told_apart_whatever_else_is_wrong() -> None:
    inventory = new(generation=3)
    odd = Head(position=9, number=9, digest="another")
    answer = inventory.examine(request(buy("a"), head=odd, generation=2))
    assert answer is not None
    assert answer.outcome == "other_generation"


def test_integrity_failure_when_the_replica_is_of_a_newer_generation() -> None:
    with pytest.raises(IntegrityFailure, match=r"order-2 has generation 4, this catalog only 3"):
        new(generation=3).examine(request(head=START, replica_id=2, generation=4))


def test_integrity_failure_when_the_replica_has_more_entries() -> None:
    inventory, entries = of_size(2)
    beyond = Head(position=3, number=3, digest=entries[-1].digest)
    with pytest.raises(IntegrityFailure, match=r"order-3 has 3 entries, this catalog only 2"):
        inventory.examine(request(head=beyond))


@pytest.mark.parametrize("position", [0, 1, 3])
def test_diverged_when_another_digest_is_at_the_head(position: int) -> None:
    inventory, entries = of_size(3)
    other = head_of(entries[:position]).model_copy(update={"digest": "0" * 64})
    answer = decide(inventory, buy("a"), head=other)
    assert (answer.outcome, answer.entries) == ("diverged", [])
    assert inventory.head.position == 3


def test_diverged_when_the_replica_began_with_other_stocks() -> None:
    other = [stock.model_copy(update={"quantity": 1}) for stock in STOCKS]
    assert decide(new(), buy("a"), head=empty_head(other)).outcome == "diverged"


def test_fetch_base_when_the_head_is_before_base() -> None:
    inventory, entries = of_size(5)
    for replica_id in ALL:
        inventory.report(replica_id, 3, ALL)
    for position in range(3):
        answer = decide(inventory, buy("a"), head=head_of(entries[:position]))
        assert (answer.outcome, answer.base, answer.entries) == ("fetch_base", 3, [])
    assert inventory.head.position == 5
    answer = decide(inventory, head=head_of(entries[:3]))
    assert (answer.outcome, answer.entries) == ("decided", entries[3:])


def test_the_digest_at_base_still_counts_when_the_entry_is_forgotten() -> None:
    inventory, entries = of_size(5)
    for replica_id in ALL:
        inventory.report(replica_id, 3, ALL)
    wrong = head_of(entries[:3]).model_copy(update={"digest": entries[1].digest})
    assert decide(inventory, head=wrong).outcome == "diverged"


def test_the_first_thousand_and_no_decision_when_the_replica_is_further_behind() -> None:
    inventory, entries = of_size(MAX_ENTRIES + 2)
    for position in (0, 1):
        answer = decide(inventory, buy("new"), head=head_of(entries[:position]))
        assert answer.outcome == "behind"
        assert answer.entries == entries[position : position + MAX_ENTRIES]
    assert inventory.head.position == MAX_ENTRIES + 2
    answer = decide(inventory, buy("new"), head=head_of(entries[:2]))
    assert answer.outcome == "decided"
    assert [entry.position for entry in answer.entries] == list(range(3, MAX_ENTRIES + 4))


def test_a_wrong_digest_is_told_even_when_the_replica_is_far_behind() -> None:
    inventory, _ = of_size(MAX_ENTRIES + 2)
    assert decide(inventory, head=START.model_copy(update={"digest": "0" * 64})).outcome == "diverged"


@pytest.mark.parametrize("position", [-1, -(2**70)])
def test_nothing_is_decided_when_a_position_is_negative(position: int) -> None:
    inventory, _ = of_size(2)
    answer = decide(inventory, buy("a"), head=Head(position=position, number=0, digest="d"))
    assert answer.outcome == "fetch_base"
    assert inventory.head.position == 2


# Base.


def reported(inventory: Inventory, *heads: int) -> int:
    for replica_id, head in enumerate(heads, start=1):
        inventory.report(replica_id, head, ALL)
    return inventory.base.position


def test_base_is_the_lowest_head_when_every_replica_has_reported() -> None:
    inventory, entries = of_size(5)
    assert reported(inventory, 5) == 0
    assert reported(inventory, 5, 4) == 0, "an unknown head counts as 0"
    assert reported(inventory, 5, 4, 3) == 3
    assert inventory.base == head_of(entries[:3])
    assert inventory.after(3) == entries[3:]
    assert reported(inventory, 5, 5, 4) == 4


def test_base_never_falls_when_a_replica_was_wiped() -> None:
    """H12: and it does not rise either until that one has its entries again."""
    inventory, entries = of_size(5)
    assert reported(inventory, 3, 3, 3) == 3
    assert reported(inventory, 5, 0, 5) == 3, "what one replica lost is not forgotten beyond base"
    assert inventory.after(3) == entries[3:]
    assert reported(inventory, 5, 2, 5) == 3
    assert reported(inventory, 5, 5, 5) == 5
    assert inventory.after(5) == []


def test_base_waits_for_a_wiped_replica_when_the_others_have_moved_on() -> None:
    """H12: what it reported before its disk was lost does not count any more."""
    inventory, _ = of_size(5)
    reported(inventory, 0, 0, 5)
    inventory.report(3, 2, ALL)  # it was wiped, and has fetched a part
    assert reported(inventory, 5, 5) == 2
    assert reported(inventory, 5, 5, 5) == 5


def test_base_stays_when_only_the_leader_says_that_everybody_has_it() -> None:
    """H12: what a leader remembers of a follower is no report of that follower."""
    inventory, _ = of_size(5)
    for _ in range(3):
        inventory.report(3, 5, ALL)
    assert inventory.base.position == 0


def test_base_stays_when_strangers_report_and_replicas_do_not() -> None:
    inventory, _ = of_size(5)
    for replica_id in (1, 2, 4, 5):
        inventory.report(replica_id, 5, ALL)
    assert inventory.base.position == 0


def test_a_lost_replica_holds_base_when_it_is_still_one_of_all() -> None:
    inventory, _ = of_size(5)
    for replica_id in (1, 2):
        inventory.report(replica_id, 5, ALL)
    assert inventory.base.position == 0


def test_base_is_at_most_the_head_when_a_report_says_more() -> None:
    inventory, _ = of_size(2)
    assert reported(inventory, 9, 9, 9) == 2
    (entry,) = decide(inventory, buy("a")).entries
    assert entry.position == 3
    assert inventory.base.position == 2


def test_negative_reports_change_nothing() -> None:
    inventory, _ = of_size(2)
    assert reported(inventory, -1, -(2**70), 2) == 0


@pytest.mark.parametrize(
    ("reports", "base"),
    [
        ({1: 20, 2: 20}, 10),  # beyond the limit a majority is enough, but not what is within it
        ({1: 20, 2: 5}, 5),
        ({1: 20}, 0),  # one replica is no majority
        ({1: 20, 2: 20, 3: 12}, 12),
        ({1: 20, 2: 20, 3: 4}, 10),
        ({1: 8, 2: 8, 3: 0}, 8),
    ],
)
def test_a_majority_is_enough_when_more_is_kept_than_the_limit(
    monkeypatch: pytest.MonkeyPatch, reports: dict[int, int], base: int
) -> None:
    monkeypatch.setattr("services.catalog.inventory.MAX_KEPT", 10)
    inventory, entries = of_size(20)
    for replica_id, fsynced in reports.items():
        inventory.report(replica_id, fsynced, ALL)
    assert inventory.base == head_of(entries[:base])
    behind = inventory.examine(request(head=START, replica_id=3))
    assert (behind.outcome if behind else "decided") == ("fetch_base" if base else "decided")


@pytest.mark.parametrize(
    ("count", "reporting", "base"), [(2, 1, 0), (2, 2, 20), (4, 2, 0), (4, 3, 10), (5, 2, 0), (5, 3, 10)]
)
def test_a_majority_is_more_than_half(monkeypatch: pytest.MonkeyPatch, count: int, reporting: int, base: int) -> None:
    monkeypatch.setattr("services.catalog.inventory.MAX_KEPT", 10)
    inventory, _ = of_size(20)
    for replica_id in range(reporting):
        inventory.report(replica_id, 20, range(count))
    assert inventory.base.position == base


# What other catalogs have decided.


def test_entries_of_another_catalog_are_taken_over() -> None:
    ahead, behind = new(), new()
    decide(ahead, buy("a", 30), buy("b", 1_000), sell("c", 5, name="FishCo"))
    behind.follow(ahead.after(0))
    behind.follow(ahead.after(1))  # what is there already is passed over
    assert (behind.head, behind.stocks) == (ahead.head, ahead.stocks)
    assert behind.plan(request(buy("a"), head=START), AT).entries == [], "keys are known"


def test_integrity_failure_when_entries_of_another_catalog_do_not_follow() -> None:
    other = chain([buy("x"), buy("y")])
    inventory = new()
    inventory.follow(other[:1])
    with pytest.raises(IntegrityFailure):
        inventory.follow(chain([buy("z"), buy("y")])[1:])
    with pytest.raises(IntegrityFailure):
        inventory.follow([other[1].model_copy(update={"position": 3})])


def test_a_later_state_is_taken_over_as_a_whole() -> None:
    later, entries = of_size(20)
    later.forget(15)
    inventory = new()
    inventory.become(later)
    assert (inventory.head, inventory.base) == (head_of(entries), head_of(entries[:15]))
    assert inventory.stocks == later.stocks
    with pytest.raises(AssertionError):
        later.become(new())


def test_a_request_can_be_decided_for_when_its_log_fits_an_older_state() -> None:
    inventory, entries = of_size(20)
    inventory.forget(5)
    for position, fits in ((4, False), (5, True), (20, True), (21, False)):
        head = head_of(chain([sell(f"k{i}") for i in range(1, 22)])[:position])
        assert inventory.may_decide_for(request(head=head)) is fits
    assert not inventory.may_decide_for(request(head=head_of(entries), generation=2))
    assert not inventory.may_decide_for(request(head=head_of(entries).model_copy(update={"digest": "0" * 64})))


def test_a_plan_ends_before_it_changes_too_many_stocks() -> None:
    stocks = [Stock(name=name, price=1, quantity=5) for name in "ABC"]
    inventory = new(stocks)
    asked = request(
        buy("1", name="A"), buy("2", 9, name="B"), buy("3", name="B"), buy("4", name="A"), buy("5", name="C"),
        buy("6", name="A"), head=empty_head(stocks),
    )  # fmt: skip
    plan = inventory.plan(asked, AT, max_stocks=2)
    assert ([entry.key for entry in plan.entries], plan.is_whole) == (["1", "2", "3", "4"], False)
    inventory.apply(plan)
    rest = inventory.plan(asked, AT, max_stocks=2)
    assert ([entry.key for entry in rest.entries], rest.is_whole) == (["5", "6"], True)
    assert rest.since == plan.entries


def test_memory_holds_nothing_up_to_base() -> None:
    inventory, _ = of_size(5)
    reported(inventory, 5, 4, 3)
    assert set(inventory._position_of_key) == {"k4", "k5"}
    assert len(inventory._entries) == 2


def test_a_key_up_to_base_is_the_leaders_to_know_when_it_is_forgotten() -> None:
    """The catalog would decide it again: so a leader whose head is before base gets nothing decided."""
    inventory, _ = of_size(3)
    reported(inventory, 3, 3, 3)
    assert decide(inventory, sell("k1"), head=START).outcome == "fetch_base"
    assert inventory.head.position == 3


def test_since_survives_when_base_passes_the_leaders_head_before_the_commit() -> None:
    inventory, entries = of_size(5)
    asked = request(buy("new"), sell("k4"), head=head_of(entries[:2]))
    assert inventory.examine(asked) is None
    plan: Plan = inventory.plan(asked, AT)
    assert reported(inventory, 5, 5, 5) == 5
    inventory.apply(plan)
    answer = inventory.answer(plan.since + plan.entries)
    assert [entry.position for entry in answer.entries] == [3, 4, 5, 6]
    assert answer.entries[:3] == entries[2:]
    assert answer.entries[3].key == "new"
    assert answer.base == 5
    assert inventory.after(5) == plan.entries


def test_answers_already_given_stay_as_they_are_when_base_moves() -> None:
    inventory, entries = of_size(5)
    given = inventory.after(1)
    reported(inventory, 5, 5, 5)
    assert given == entries[1:]


# Loading and folding.


def test_a_saved_sequence_goes_on_where_it_ended_when_it_is_loaded() -> None:
    inventory, entries = of_size(5)
    reported(inventory, 3, 3, 3)
    again = Inventory(1, STOCKS, inventory.stocks.values(), inventory.base, inventory.after(3))
    assert again.head == inventory.head
    assert decide(again, sell("k4"), sell("k6"), head=head_of(entries[:3])) == decide(
        inventory, sell("k4"), sell("k6"), head=head_of(entries[:3])
    )


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_sequence_with_a_gap_is_not_loaded(missing: int) -> None:
    _, entries = of_size(5)
    with pytest.raises(AssertionError):
        Inventory(1, STOCKS, STOCKS, START, entries[:missing] + entries[missing + 1 :])


def test_stocks_are_kept_by_name_whatever_the_order_they_come_in() -> None:
    assert list(new(list(reversed(STOCKS))).stocks) == ["FishCo", "GameStart"]


def test_fold_adds_up_to_what_was_decided() -> None:
    inventory = new()
    entries = decide(inventory, buy("a", 101), sell("b", 7), buy("c", 107), sell("d", 1, name="FishCo")).entries
    assert fold(STOCKS, entries) == inventory.stocks


@pytest.mark.parametrize(
    ("trades", "why"),
    [
        ([buy("a", 101)], "position 1 trades more of GameStart than there was"),
        ([buy("a", 60), buy("b", 41)], "position 2 trades more of GameStart than there was"),
        ([buy("a", 1, name="Unknown")], "position 1 trades a stock that does not exist"),
    ],
)
def test_integrity_failure_when_a_log_does_not_fit_the_stocks(trades: list[Trade], why: str) -> None:
    """H17: orders are never folded over stocks that they were not decided on."""
    with pytest.raises(IntegrityFailure, match=why):
        fold(STOCKS, chain(trades))


def test_integrity_failure_when_a_refused_entry_trades_an_unknown_stock() -> None:
    with pytest.raises(IntegrityFailure, match="does not exist"):
        fold(STOCKS, chain([buy("a", name="Unknown")], refused=frozenset({"a"})))


def test_fold_leaves_the_initial_stocks_alone() -> None:
    initial = list(STOCKS)
    fold(initial, chain([buy("a", 5)]))
    assert initial == STOCKS
