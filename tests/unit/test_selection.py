"""Leader selection: whom it chooses, when it waits, and when it changes its mind."""

from collections.abc import Iterable

import pytest

from services.common.timing import CHECK_EVERY_S, STALE_LEADER_S, START_PATIENCE_S
from services.front_end.selection import Change, Selection
from services.front_end.turns import Turns

BEGAN = 50.0


class Watched:
    """A selection with a clock of its own; `change` is the last one."""

    def __init__(self, ids: Iterable[int] = (1, 2, 3)) -> None:
        self.now = BEGAN
        self.selection = Selection(ids, self.now)
        self.change: Change | None = None

    @property
    def leader(self) -> int | None:
        return self.selection.leader

    def level(self, *ids: int, age: float = 0.0) -> None:
        for replica_id in ids:
            self.selection.answered(replica_id, self.now, level=True, level_age=age)
        self.select()

    def answering(self, *ids: int, age: float | None = None) -> None:
        for replica_id in ids:
            self.selection.answered(replica_id, self.now, level=False, level_age=age)
        self.select()

    def missed(self, *ids: int) -> None:
        for replica_id in ids:
            self.selection.missed(replica_id, self.now)
        self.select()

    def failed(self, *ids: int) -> None:
        for replica_id in ids:
            self.selection.failed(replica_id, self.now)
        self.select()

    def select(self) -> None:
        self.change = self.selection.select(self.now) or self.change

    def later(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def led() -> Watched:
    """All level, replica 3 leads."""
    watched = Watched()
    watched.level(1, 2, 3)
    assert watched.leader == 3
    return watched


# The start.


def test_highest_level_id_is_chosen_at_once_when_all_are_level(watched: Watched) -> None:
    watched.level(3)
    watched.level(1)
    assert watched.leader is None
    watched.level(2)
    assert watched.leader == 3
    assert watched.change == Change(before=None, leader=3, after_s=0.0)


def test_start_does_not_wait_for_a_silent_replica_when_others_answered(watched: Watched) -> None:
    watched.level(1, 2)
    watched.failed(3)
    assert watched.leader == 2


def test_start_waits_for_a_replica_that_is_not_level_yet(watched: Watched) -> None:
    watched.level(1, 2)
    watched.answering(3)
    assert watched.leader is None
    watched.later(1.0)
    watched.level(3)
    assert watched.leader == 3


def test_start_waits_for_a_replica_that_is_not_known_yet_until_two_checks_were_missed(watched: Watched) -> None:
    watched.level(1, 2)
    watched.missed(3)
    assert watched.leader is None
    watched.missed(3)
    assert watched.leader == 2


def test_start_waits_no_longer_than_its_patience(watched: Watched) -> None:
    watched.level(1, 2)
    watched.answering(3)
    watched.later(START_PATIENCE_S - 0.01)
    watched.select()
    assert watched.leader is None
    watched.later(0.01)
    watched.select()
    assert watched.leader == 2


def test_highest_that_answers_is_chosen_when_none_is_level(watched: Watched) -> None:
    watched.answering(1, 2)
    watched.failed(3)
    assert watched.leader is None
    watched.later(START_PATIENCE_S)
    watched.select()
    assert watched.leader == 2


def test_silent_replicas_are_waited_for_when_the_whole_bazaar_is_starting(watched: Watched) -> None:
    watched.failed(1, 2, 3)
    watched.later(60.0)
    watched.level(1)
    watched.failed(2, 3)
    assert watched.leader is None
    watched.later(1.0)
    watched.level(2)
    watched.level(3)
    assert watched.leader == 3


def test_patience_counts_from_the_first_answer_when_the_whole_bazaar_is_starting(watched: Watched) -> None:
    watched.failed(1, 2, 3)
    watched.later(60.0)
    watched.level(1)
    watched.later(START_PATIENCE_S - 0.01)
    watched.failed(2, 3)
    assert watched.leader is None
    watched.later(0.01)
    watched.select()
    assert watched.leader == 1


def test_nobody_leads_when_nobody_answers(watched: Watched) -> None:
    watched.failed(1, 2, 3)
    watched.later(2 * START_PATIENCE_S)
    watched.select()
    assert watched.leader is None
    assert watched.change is None


# The choice stays.


def test_choice_stays_when_a_higher_id_comes_back(led: Watched) -> None:
    led.failed(3)
    assert led.leader == 2
    led.later(10.0)
    led.level(1, 2, 3)
    assert led.leader == 2


def test_choice_stays_when_one_check_is_missed(led: Watched) -> None:
    led.missed(3)
    assert led.leader == 3
    led.level(3)
    led.missed(3)
    assert led.leader == 3
    assert led.selection.state(3) == "level"


def test_choice_stays_when_the_catalog_is_down_and_nobody_is_level(led: Watched) -> None:
    """H22: replicas ask the catalog every 0.15 to 0.4 s, so what they reached differs by less than the limit."""
    for _ in range(100):
        led.later(CHECK_EVERY_S)
        age = led.now - BEGAN
        led.answering(3, age=age)
        led.answering(1, 2, age=age - 0.4)
        assert led.leader == 3


def test_choice_stays_when_the_catalog_comes_back_and_another_hears_of_it_first(led: Watched) -> None:
    led.later(5.0)
    led.answering(1, 2, 3, age=5.0)
    led.level(1, 2)
    led.later(0.4)  # the slowest report
    led.level(1, 2, 3)
    led.later(10.0)
    led.level(1, 2)
    led.level(3)
    assert led.leader == 3


# The choice fails.


def test_next_highest_is_chosen_at_once_when_the_leader_refuses(led: Watched) -> None:
    led.later(7.0)
    led.failed(3)
    assert led.leader == 2
    assert led.change == Change(before=3, leader=2, after_s=0.0)


def test_next_highest_is_chosen_when_the_leader_misses_two_checks(led: Watched) -> None:
    led.missed(3)
    led.missed(3)
    assert led.leader == 2


def test_level_replica_is_preferred_to_a_higher_one_that_only_answers(led: Watched) -> None:
    led.answering(2)
    led.failed(3)
    assert led.leader == 1


def test_nobody_leads_when_the_last_replica_has_failed(led: Watched) -> None:
    led.failed(1, 2)
    led.failed(3)
    assert led.leader is None
    assert led.change is not None
    assert (led.change.before, led.change.leader) == (3, None)


def test_first_that_answers_is_chosen_when_nobody_led_and_the_time_since_is_told(led: Watched) -> None:
    led.failed(1, 2, 3)
    led.later(4.0)
    led.answering(1)
    assert led.leader == 1
    assert led.change == Change(before=None, leader=1, after_s=4.0)


def test_stale_leader_is_replaced_when_another_was_level_for_a_while_and_got_clearly_further(led: Watched) -> None:
    """H13: it answers the checks and cannot serve."""
    led.later(1.5)
    led.answering(3, age=1.5)
    led.level(1, 2)
    assert led.leader == 2
    assert led.change == Change(before=3, leader=2, after_s=0.0)


def test_stale_leader_stays_until_another_was_level_for_long_enough(led: Watched) -> None:
    led.later(5.0)
    led.answering(1, 2, 3, age=5.0)
    led.level(1)
    led.later(STALE_LEADER_S - 0.01)
    led.level(1)
    assert led.leader == 3
    led.later(0.01)
    led.level(1)
    assert led.leader == 1


def test_stale_leader_stays_when_the_others_got_hardly_further(led: Watched) -> None:
    led.later(1.6)
    led.answering(3, age=1.6)
    led.level(1, 2, age=1.6 - STALE_LEADER_S + 0.01)
    assert led.leader == 3
    led.level(2, age=1.6 - STALE_LEADER_S)
    assert led.leader == 2


def test_leader_that_never_was_level_is_replaced_when_another_becomes_level() -> None:
    watched = Watched()
    watched.later(START_PATIENCE_S)
    watched.answering(1, 2, 3)
    assert watched.leader == 3
    watched.level(2)
    watched.later(STALE_LEADER_S)
    watched.answering(3)
    watched.level(2)
    assert watched.leader == 2


# What it tells.


def test_states_are_told_lowest_id_first_and_unknown_is_silent(watched: Watched) -> None:
    watched.level(2)
    watched.answering(1)
    assert list(watched.selection.states().items()) == [(1, "answering"), (2, "level"), (3, "silent")]


def test_candidates_are_the_level_ones_or_else_those_that_answer(led: Watched) -> None:
    led.answering(2)
    assert led.selection.candidates() == [3, 1]
    led.failed(1, 3)
    assert led.selection.candidates() == [2]
    led.failed(2)
    assert led.selection.candidates() == []


# Whose turn it is.


def test_leader_comes_first_then_the_others_once_then_a_pause_and_a_new_round() -> None:
    turns = Turns()
    order = [turns.next(2, [3, 2, 1]) for _ in range(8)]
    assert order == [2, 3, 1, None, 2, 3, 1, None]


def test_new_leader_is_asked_next_even_if_it_was_tried_before() -> None:
    turns = Turns()
    assert turns.next(3, [3, 2, 1]) == 3
    assert turns.next(3, [3, 2, 1]) == 2
    assert turns.next(2, [2, 1]) == 2
    assert turns.next(2, [2, 1]) == 1
    assert turns.next(2, [2, 1]) is None


def test_nobody_is_asked_while_nobody_leads() -> None:
    turns = Turns()
    assert turns.next(None, [2, 1]) is None
    assert turns.next(2, [2, 1]) == 2


def test_replica_that_has_fallen_silent_is_left_out() -> None:
    turns = Turns()
    assert turns.next(3, [3, 2, 1]) == 3
    assert turns.next(3, [3, 1]) == 1
    assert turns.next(3, [3]) is None
