"""What the benchmark shows: tables, doubts, the plot, and what its flags mean."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from client.console import LiveSteps
from eval.bench import scale
from eval.bench.command import chosen_settings
from eval.bench.goals import judge
from eval.bench.plot import plot_result
from eval.bench.results import Result, Size, Start
from eval.bench.run import BenchSettings
from eval.bench.show import doubts, print_result
from services.cluster.errors import UsageError
from tests.support.bench_results import LITTLE, MOST, make_result, make_sample

NO_FLAGS = {"only": None, "rounds": None, "seconds": None, "connections": None}


def choose(**flags: object) -> BenchSettings:
    return chosen_settings(**{"quick": False, "scale": False, "most_orders": 5_000_000} | NO_FLAGS | flags)  # type: ignore[arg-type]


def full_result() -> Result:
    samples = [
        make_sample(subject, 1_000 * number, round=number, connections=connections)
        for subject in ("bare_route", "look_up_cached", "trade")
        for number in (1, 2, 3)
        for connections in (1, 32)
    ]
    starts = [
        Start(round=1, size=size, ready_s=2.5, replica_ready_s=1.5, rss_mib={"order-1": 60.0})
        for size in (LITTLE, MOST)
    ]
    result = make_result(*samples, scale=[make_sample("trade", size=size) for size in (LITTLE, MOST)], starts=starts)
    result.goals = judge(result)
    return result


def printed(result: Result) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_result(result, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_medians_and_goals_are_shown_when_a_result_is_printed() -> None:
    lines = [" ".join(line.split()) for line in printed(full_result()).splitlines()]
    assert "trade 32 2,000 (1,000 to 3,000) 10.0 20.0 150" in lines
    assert "trade catalog 100, order-1 50" in lines
    assert "5,000,000 orders, 20 stocks 1,000 150 2.50 1.50 60.0" in lines
    assert "look-up, cached / bare FastAPI route, 32 connections >= 1 1.00 reached" in lines
    assert "catch-up, orders a second >= 20,000 - not measured" in lines


def test_result_is_the_same_when_it_was_written_and_read() -> None:
    result = full_result()
    assert Result.model_validate_json(result.model_dump_json()) == result


def test_doubts_name_errors_and_a_busy_generator_when_there_are_some() -> None:
    samples = (
        make_sample("trade", errors=3),
        make_sample("bare_uvicorn", generator_share=0.9),
        make_sample("bare_post"),
    )
    assert doubts(make_result(*samples)) == [
        "trade, 32 connections, round 1: 3 errors",
        "bare uvicorn, bytes, 32 connections: the generator of load was the bottleneck, the server is faster",
    ]


@pytest.mark.parametrize("result", [full_result(), make_result(make_sample("bare_uvicorn"))])
def test_picture_is_drawn_when_there_is_a_result(result: Result, tmp_path: Path) -> None:
    plot_result(result, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_bar_says_what_is_measured_when_it_is_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with LiveSteps("bench", 2, console) as live:
        live.on_step("round 1, trade")
    assert isinstance(console.file, io.StringIO)
    assert "round 1, trade" in console.file.getvalue()


def test_everything_is_measured_when_no_flag_is_given() -> None:
    assert choose() == BenchSettings()


def test_subjects_come_with_their_yardsticks_when_only_some_are_wanted() -> None:
    assert choose(only="trade,order_query").subjects == (
        "bare_route", "bare_post", "bare_chain", "bare_trade", "trade", "order_query",
    )  # fmt: skip
    assert choose(only="look_up_cached").subjects == ("look_up_cached",)


def test_given_flags_count_more_when_quick_is_given_as_well() -> None:
    settings = choose(quick=True, seconds=0.5, connections="128,5")
    assert (settings.rounds, settings.seconds, settings.connections) == (1, 0.5, (5, 128))
    assert settings.command == "bazaar bench --quick --seconds 0.5 --connections 128,5"


@pytest.mark.parametrize(
    "flags", [{"only": "dance"}, {"connections": "0"}, {"connections": "1,"}, {"quick": True, "scale": True}]
)
def test_usage_is_refused_when_flags_make_no_sense(flags: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        choose(**flags)


def test_scale_has_three_lengths_and_more_stocks_when_the_longest_is_long() -> None:
    assert scale.sizes(5_000_000) == [
        LITTLE,
        Size(orders=100_000, stocks=20),
        MOST,
        Size(orders=1_000, stocks=1_000),
        Size(orders=1_000, stocks=100_000),
    ]
    assert [size.orders for size in scale.sizes(1_000)] == [1_000, 1_000, 1_000]
