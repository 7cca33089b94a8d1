"""The latency experiment: its order, its statistics, its tables and plots, and what its flags mean."""

import io
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

import eval.distance.plot
import eval.distance.show
import eval.latency.plot
from client.load import LoadSettings, build_report
from client.record import Acknowledged, SeenError, WorkloadRecord
from eval.evaluate.everything import plot_all
from eval.latency import show
from eval.latency.bazaars import look_ups_in, used
from eval.latency.command import FULL, QUICK, chosen_settings
from eval.latency.delay import DelayedTransport
from eval.latency.results import LatencySettings, Result, Usage
from eval.latency.run import jobs, problems_of, summaries
from eval.latency.schedule import Condition, schedule
from eval.latency.statistics import Condition as Measured
from services.cluster.errors import CannotDo, UsageError
from tests.support.latency_results import make_result

METRICS = """
# TYPE bazaar_request_seconds histogram
bazaar_request_seconds_bucket{le="0.1",method="GET",route="/stocks/{name}",status="200"} 7.0
bazaar_request_seconds_count{method="GET",route="/stocks/{name}",status="200"} 7.0
bazaar_request_seconds_count{method="GET",route="/stocks/{name}",status="404"} 2.0
bazaar_request_seconds_count{method="GET",route="/stocks",status="200"} 5.0
"""


def printed(result: Result, print_result: Any = show.print_result) -> list[str]:
    console = Console(file=io.StringIO(), width=160)
    print_result(result, console)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


# What is tried, and when.


def test_every_condition_comes_once_in_each_repetition_and_mode() -> None:
    settings = LatencySettings(repetitions=3, round_trips_ms=(0, 20))
    blocks = schedule(settings)
    assert Counter((each.repetition, each.cache) for each in blocks) == Counter(
        (repetition, cache) for repetition in (1, 2, 3) for cache in ("on", "off")
    )
    expected = {(p, trip) for p in settings.probabilities for trip in (0, 20)}
    assert all({each[:2] for each in block.conditions} == expected for block in blocks)
    assert all(len(block.conditions) == len(expected) for block in blocks)


def test_order_is_drawn_anew_in_each_block_and_again_by_the_same_seed() -> None:
    settings = LatencySettings(repetitions=10)
    blocks = schedule(settings)
    assert blocks == schedule(settings)
    assert blocks != schedule(settings.model_copy(update={"seed": 2}))
    assert len({tuple(each[:2] for each in block.conditions) for block in blocks}) > 10
    assert len({blocks[i].cache for i in range(0, 20, 2)}) == 2, "neither mode always comes first"


def test_clients_make_the_same_choices_when_the_cache_is_off() -> None:
    for on, off in zip(
        *(sorted(b for b in schedule(FULL) if b.cache == cache) for cache in ("on", "off")), strict=True
    ):
        assert sorted(on.conditions) == sorted(off.conditions)
    seeds = [each.seed for block in schedule(FULL) if block.cache == "on" for each in block.conditions]
    assert len(set(seeds)) == len(seeds), "and others in each repetition"


def test_clients_warm_up_with_every_stock_once_and_share_the_rate() -> None:
    names = [f"Stock{i}" for i in range(12)]
    given = jobs(LatencySettings(rate=100), ("http://x",), Condition(0.4, 20.0, 7), names)
    assert sorted(name for each in given for name in each.warm_up) == sorted(names)
    assert {(each.per_second, each.round_trip_s, each.seed) for each in given} == {(20.0, 0.02, 7)}
    assert [each.number for each in given] == [0, 1, 2, 3, 4]
    few = jobs(LatencySettings(clients=3), ("http://x",), Condition(0.4, 0.0, 7), ["A"])
    assert [each.warm_up for each in few] == [["A"]] * 3, "each opens its connection"


# What comes out.


def test_all_look_ups_are_put_together_when_latencies_are_summarised() -> None:
    records = [
        WorkloadRecord(latencies={"look_up_hit": [0.001], "look_up_miss": [0.003, 0.005], "trade": [0.02]}),
        WorkloadRecord(latencies={"look_up_hit": [0.003]}),
    ]
    found = summaries(records)
    assert {kind: (each.count, each.mean_ms) for kind, each in found.items()} == {
        "look_up": (4, 3.0), "look_up_hit": (2, 2.0), "look_up_miss": (2, 4.0), "trade": (1, 20.0),
    }  # fmt: skip


def test_spread_is_over_repetitions_and_ratios_are_within_them() -> None:
    each = Measured(make_result(), 0.4)
    on = each.latency("look_up", "on", "mean_ms")
    assert on is not None
    assert (on.low, on.median, on.high) == (2.0, 4.0, 6.0), "the repetitions differ threefold"
    benefit, saved = each.benefit(), each.saved_ms()
    assert benefit is not None
    assert saved is not None
    assert (benefit.low, benefit.high) == (2.0, 2.0), "and the cache helps twofold in each"
    assert (saved.low, saved.median, saved.high) == (2.0, 4.0, 6.0)
    assert Measured(make_result(), 0.0).benefit("trade") is None


def test_load_on_the_catalog_is_counted_for_each_look_up() -> None:
    each = Measured(make_result(), 0.0)
    on, off, cpu = each.catalog_look_ups("on"), each.catalog_look_ups("off"), each.catalog_cpu_us("on")
    assert on is not None
    assert off is not None
    assert cpu is not None
    assert (on.median, off.median) == (0.66, 1.0)
    assert cpu.median == pytest.approx(400), "0.06 s, less 0.01 s/s for 2 s at rest, for 100 look-ups"
    assert Measured(make_result(), 0.4).catalog_cpu_us("on") is None, "trades cost the catalog, too"


def test_hit_ratio_is_zero_when_every_look_up_missed_and_none_with_the_cache_off() -> None:
    result = make_result()
    on, off = (next(each for each in result.runs if each.cache == cache) for cache in ("on", "off"))
    assert (on.hit_ratio, off.hit_ratio) == (0.34, None)
    del on.of_all["look_up_hit"]
    assert on.hit_ratio == 0


def test_look_ups_of_the_catalog_are_read_from_its_metrics() -> None:
    assert look_ups_in(METRICS) == 9
    before = Usage(seconds=10.0, catalog_look_ups=4, cpu_s={"catalog": 1.0})
    after = Usage(seconds=12.5, catalog_look_ups=9, cpu_s={"catalog": 1.25})
    assert used(before, after) == Usage(seconds=2.5, catalog_look_ups=5, cpu_s={"catalog": 0.25})
    assert used(None, None) is None


def test_result_is_the_same_when_it_was_written_and_read() -> None:
    result = make_result()
    assert Result.model_validate_json(result.model_dump_json()) == result


def test_everything_wrong_is_named_when_clients_saw_it() -> None:
    at = datetime(2027, 1, 2, tzinfo=UTC)
    acknowledged = [Acknowledged(1, "FishCo", "buy", 2, "a"), Acknowledged(1, "FishCo", "buy", 2, "b")]
    lost = SeenError(
        client=0, at=at, request="order_query", subject="order 1", kind="NotAvailable", message="no", seconds=1.0
    )
    record = WorkloadRecord(
        latencies={"look_up_off": [0.001], "trade": [0.1, 0.1]}, acknowledged=acknowledged, checked=1, errors=[lost]
    )
    settings = LoadSettings(urls=("http://x",), clients=1, trade_probability=1, iterations=1, seed=1)
    report = build_report(settings, [record], started_at=at, duration_s=1.0)
    twice = "order 1: expected a number of its own, found 2 acknowledgements with this number"
    assert problems_of(report, "on") == [
        twice,
        twice,
        "order_query (order 1): NotAvailable: no",
        "2 orders acknowledged, but 1 checked",
        "the cache was to be on, and was not",
    ]


# What is shown.


def test_latencies_and_benefit_are_shown_when_a_result_is_printed() -> None:
    lines = printed(make_result())
    assert "request p = 0% p = 20% p = 40% p = 60% p = 80%" in lines
    assert "look-up, hit cache on mean 1.00 1.00 1.00 1.00 1.00" in lines
    assert "trade cache off mean - 12.0 14.0 16.0 18.0" in lines
    assert any(
        line.startswith("40% 0.34 4.00 (2.00 to 6.00) 8.00 (4.00 to 12.0) 2.00 1.00 0.66 1.00") for line in lines
    )
    assert any("closed loop: each asks again when it was answered" in line for line in lines)
    assert lines[-1] == "30 runs, 1,200 orders acknowledged, 1,200 checked: nothing was wrong"


def test_problems_and_an_open_loop_are_told_when_there_are_some() -> None:
    result = make_result(rate=50.0, caches=("on",))
    result.problems, result.passed = ["order 7: expected much, found nothing"], False
    lines = printed(result)
    assert "order 7: expected much, found nothing" in lines
    assert any("open loop: 50 visits/s in all, from their intended start" in line for line in lines)
    assert lines[-1].endswith("1 problems")
    assert not any("off / on" in line for line in lines), "there is nothing to compare with"


def test_what_the_cache_is_good_for_is_told_for_each_distance() -> None:
    lines = printed(make_result(round_trips_ms=(0.0, 80.0)), eval.distance.show.print_result)
    near, far = (line for line in lines if "without the cache a look-up takes" in line)
    assert near.startswith("0 ms away, p = 0%: without the cache a look-up takes 2.00 times as long (4.00 ms more)")
    assert far.startswith("80 ms away, p = 0%: without the cache a look-up takes 1.05 times as long (4.00 ms more)")
    assert far.endswith("the catalog is asked 0.66 times with it, 1.00 times without it, for each look-up")


@pytest.mark.parametrize(
    ("changes", "names"),
    [({}, {"latency.png", "cache.png"}), ({"caches": ("on",), "probabilities": (0.0,)}, {"latency.png"})],
)
def test_pictures_of_latency_are_drawn_when_there_is_a_result(
    changes: dict[str, Any], names: set[str], tmp_path: Path
) -> None:
    written = eval.latency.plot.plot_result(make_result(**changes), tmp_path)
    assert {each.name for each in written} == names == {each.name for each in tmp_path.iterdir()}
    assert all(each.read_bytes().startswith(b"\x89PNG") for each in written)


def test_plots_are_drawn_again_when_only_the_results_are_there(tmp_path: Path) -> None:
    for name, trips in (("latency", (0.0,)), ("distance", (0.0, 20.0, 80.0))):
        (tmp_path / name).mkdir()
        text = make_result(round_trips_ms=trips).model_dump_json()
        (tmp_path / name / f"{name}.json").write_text(text)
    assert plot_all(tmp_path) == 0
    assert {each.name for each in tmp_path.glob("*/*.png")} == {"latency.png", "cache.png", "distance.png"}


def test_plots_are_refused_when_there_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match="there are no results"):
        plot_all(tmp_path)


# What flags mean, and the way to a distant bazaar.


def test_given_flags_count_more_when_quick_is_given_as_well() -> None:
    flags = {"probabilities": [0.8, 0.2], "iterations": 7, "seed": None, "urls": None, "switch_cache": []}
    settings = chosen_settings(QUICK, "bazaar evaluate latency --quick", flags)
    assert (settings.probabilities, settings.iterations, settings.seed) == ((0.2, 0.8), 7, QUICK.seed)
    assert chosen_settings(FULL, FULL.command, {}) == FULL


@pytest.mark.parametrize("flags", [{"switch_cache": ["true"]}, {"iterations": 0}])
def test_usage_is_refused_when_flags_make_no_sense(flags: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        chosen_settings(FULL, "x", flags)


async def test_request_and_answer_travel_half_a_round_trip_each_when_the_client_is_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []

    async def sleep(seconds: float) -> None:
        seen.append(seconds)

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return httpx.Response(204)

    monkeypatch.setattr("eval.latency.delay.asyncio.sleep", sleep)
    async with httpx.AsyncClient(transport=DelayedTransport(httpx.MockTransport(answer), 0.08)) as client:
        await client.get("http://far/away")
    assert seen == [0.04, "/away", 0.04]
