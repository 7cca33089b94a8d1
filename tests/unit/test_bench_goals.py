"""What the benchmark makes of its rounds: medians, ratios within a round, and goals."""

from eval.bench.goals import judge, per_second
from eval.bench.results import CatchUp, Goal, Result, Spread, Start
from eval.bench.statistics import by_round, ratio, spread
from tests.support.bench_results import LITTLE, MOST, make_result, make_sample


def goal(result: Result, beginning: str) -> Goal:
    return next(each for each in judge(result) if each.text.startswith(beginning))


def test_spread_holds_median_lowest_and_highest_when_there_are_values() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0]) == Spread(median=2.5, low=1.0, high=10.0)


def test_spread_is_none_when_there_is_no_value() -> None:
    assert spread([]) is None


def test_ratio_is_taken_within_each_round_when_the_machine_slows_down_for_one() -> None:
    fast_then_slow = ratio({1: 500.0, 2: 50.0}, {1: 1_000.0, 2: 100.0})
    assert fast_then_slow == Spread(median=0.5, low=0.5, high=0.5)


def test_rounds_are_left_out_of_a_ratio_when_one_side_has_none() -> None:
    assert ratio({1: 2.0, 2: 9.0}, {1: 4.0, 3: 1.0}) == Spread(median=0.5, low=0.5, high=0.5)
    assert ratio({1: 2.0}, {1: 0.0}) is None


def test_only_the_wanted_samples_count_when_others_are_there() -> None:
    samples = [
        make_sample("trade", 10),
        make_sample("trade", 20, connections=1),
        make_sample("order_query", 30),
        make_sample("trade", 40, size=MOST),
        make_sample("trade", 0, round=2),
    ]
    assert by_round(samples, "trade", 32, per_second, LITTLE) == {1: 10.0}


def test_every_goal_is_open_when_nothing_was_measured() -> None:
    goals = judge(make_result())
    assert len(goals) == 16
    assert {(each.measured, each.is_reached) for each in goals} == {(None, None)}


def test_goal_is_reached_when_the_ratio_to_the_yardstick_is_high_enough() -> None:
    bare, enough, too_few = make_sample("bare_post", 1_000), make_sample("trade", 350), make_sample("trade", 349)
    assert goal(make_result(bare, enough), "trade / bare FastAPI POST, 32").is_reached is True
    assert goal(make_result(bare, too_few), "trade / bare FastAPI POST, 32").is_reached is False


def test_goal_is_missed_when_the_slowest_wait_too_long() -> None:
    tail = goal(make_result(make_sample("order_query", p50_ms=2.0, p99_ms=10.2)), "order query: p99")
    assert (tail.wanted, tail.is_reached) == ("<= 5", False)


def test_trade_alone_is_held_against_the_chain_and_two_commits_when_all_three_are_known() -> None:
    chain = make_sample("bare_chain", connections=1, p50_ms=10.0)
    trade = make_sample("trade", connections=1, p50_ms=17.0)
    alone = goal(make_result(chain, trade, commits_ms=[2.0]), "trade p50")
    assert alone.measured == Spread(median=1.0, low=1.0, high=1.0)
    assert alone.is_reached is True
    assert goal(make_result(chain, trade), "trade p50").is_reached is None


def test_trade_alone_is_held_against_its_bare_messages_and_two_commits() -> None:
    bare = make_sample("bare_trade", connections=1, p50_ms=16.0)
    trade = make_sample("trade", connections=1, p50_ms=15.0)
    alone = goal(make_result(bare, trade, commits_ms=[2.0]), "trade p50 / (bare messages")
    assert alone.measured == Spread(median=0.75, low=0.75, high=0.75)
    assert alone.is_reached is True


def test_growth_is_that_of_processor_time_when_logs_are_long() -> None:
    scale = [
        make_sample("trade", size=LITTLE, cpu_us={"catalog": 100.0, "order-1": 100.0}),
        make_sample("trade", size=MOST, cpu_us={"catalog": 100.0, "order-1": 150.0}),
    ]
    growth = goal(make_result(scale=scale), "trade: processor time")
    assert growth.measured == Spread(median=1.25, low=1.25, high=1.25)
    assert growth.is_reached is False


def test_start_memory_and_catching_up_have_goals_when_they_were_measured() -> None:
    starts = [
        Start(round=1, size=size, ready_s=2.5, replica_ready_s=1.5, rss_mib={"order-1": rss})
        for size, rss in ((LITTLE, 60), (MOST, 63))
    ]
    result = make_result(starts=starts, catch_ups=[CatchUp(round=1, orders=1_000_000, seconds=100.0)])
    assert goal(result, "start of a replica").is_reached is True
    assert goal(result, "memory of a replica").measured == Spread(median=1.05, low=1.05, high=1.05)
    assert goal(result, "catch-up").is_reached is False
