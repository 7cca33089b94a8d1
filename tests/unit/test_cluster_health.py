"""How a bazaar is, in one sentence."""

import pytest

from services.cluster.child import State
from services.cluster.health import FailOver, describe_last, judge
from tests.support.room_snapshots import services

FAIL_OVER = FailOver(
    front_end="front-end-1",
    before="order-3",
    leader="order-2",
    cause="was killed",
    struck_ms=1_000,
    noticed_ms=1_003,
    selected_ms=1_004,
)


def test_sentence_names_leader_and_replicas_when_all_is_well() -> None:
    health = judge(services())
    assert health.condition == "healthy"
    assert health.sentence == "Healthy: order-3 leads, 3 of 3 replicas are caught up."
    assert health.fail_over is None


def test_bazaar_is_degraded_when_a_replica_is_down() -> None:
    health = judge(services(order_1="down"))
    assert health.condition == "degraded"
    assert health.sentence == "Degraded: order-1 is down. order-3 leads, 2 of 3 replicas are caught up."


def test_bazaar_is_degraded_when_a_replica_is_behind() -> None:
    health = judge(services(behind=("order-1",)))
    assert health.condition == "degraded"
    assert "order-1 is not caught up" in health.sentence


@pytest.mark.parametrize("state", ["starting", "paused", "down", "failed"])
def test_bazaar_is_down_when_the_catalog_does_not_run(state: State) -> None:
    health = judge(services(catalog=state))
    assert health.condition == "down"
    assert f"the catalog is {state}, so nothing can be bought or sold" in health.sentence
    assert health.sentence.endswith("order-3 leads, whether the replicas are caught up is not known.")


def test_bazaar_is_down_when_nobody_leads() -> None:
    health = judge(services(None))
    assert health.condition == "down"
    assert health.sentence == "Down: no replica leads, so trades wait. Nobody leads, 3 of 3 replicas are caught up."


def test_bazaar_is_down_when_the_leader_is_paused_and_no_other_is_selected_yet() -> None:
    health = judge(services(3, order_3="paused"))
    assert health.condition == "down"
    assert "order-3 leads and is paused, so trades wait" in health.sentence


def test_bazaar_is_down_when_no_front_end_runs() -> None:
    assert "customers reach nobody" in judge(services(front_end_1="down")).sentence


def test_last_fail_over_is_told_with_its_duration() -> None:
    health = judge(services(2, order_3="down"), FAIL_OVER, now_ms=31_004)
    assert health.fail_over == "Last fail-over 30 s ago: order-3 to order-2 in 4 ms."


@pytest.mark.parametrize(
    ("seconds", "when"), [(0, "just now"), (119, "119 s ago"), (121, "2 min ago"), (7_300, "2 h ago")]
)
def test_time_since_the_last_fail_over_is_told_in_fitting_words(seconds: int, when: str) -> None:
    assert when in describe_last(FAIL_OVER, 1_004 + 1_000 * seconds)


def test_chain_counts_from_the_kill_and_has_the_first_trade_once_there_was_one() -> None:
    assert FAIL_OVER.sentence == "order-2 leads now: order-3 was killed; noticed after 3 ms, selected after 4 ms"
    later = FAIL_OVER.model_copy(update={"first_trade_ms": 2_250})
    assert later.sentence.endswith("selected after 4 ms, first trade after 1.25 s")


def test_chain_counts_from_the_notice_when_nothing_is_known_of_a_blow() -> None:
    unknown = FAIL_OVER.model_copy(update={"cause": None, "struck_ms": None})
    assert unknown.took_ms == 1
    assert "order-3 did not answer; noticed after 0 ms" in unknown.sentence


@pytest.mark.parametrize(
    ("first", "second", "condition"),
    [("running", "running", "healthy"), ("down", "running", "degraded"), ("down", "failed", "down")],
)
def test_one_catalog_of_several_is_enough_for_trades(first: State, second: State, condition: str) -> None:
    alone, *others = services()
    assert alone.name == "catalog"
    both = [
        alone.model_copy(update={"name": name, "state": state, "head": alone.head if state == "running" else None})
        for name, state in (("catalog-1", first), ("catalog-2", second))
    ]
    health = judge([*both, *others])
    assert health.condition == condition
    if condition == "down":
        assert health.sentence.startswith("Down: no catalog runs, so nothing can be bought or sold.")
