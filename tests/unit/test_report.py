"""What a load tells people and programs: percentiles, table, verdict, JSON, colours, exit codes."""

import asyncio
import io
import json
import os
import random
import signal
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from client import command
from client.__main__ import app
from client.console import make_console
from client.errors import NotAvailable
from client.latency import percentile, summarise
from client.load import LoadReport, LoadSettings, build_report
from client.progress import LiveProgress
from client.record import Acknowledged, Event, FailedCheck, LongestTrade, SeenError, WorkloadRecord
from client.report import exit_code, print_report, verdict

AT = datetime(2027, 1, 2, 3, 4, 5, 678_000, UTC)
ORDER = Acknowledged(1, "FishCo", "buy", 2, "k1")
ERROR = SeenError(
    client=0, at=AT, request="trade", subject="buy 1 FishCo", kind="NotAvailable", message="[red]no", seconds=30.0
)
WRONG = FailedCheck(
    client=1, at=AT, wrong="missing", number=1, key="k1", expected="order 1: buy 2 FishCo", found="nothing"
)


def report(*records: WorkloadRecord, **changes: Any) -> LoadReport:
    settings = LoadSettings(urls=("http://x",), clients=1, trade_probability=0.4, iterations=200, seed=5)
    return build_report(settings, records, started_at=AT, duration_s=1.5, **changes)


def good() -> LoadReport:
    return report(
        WorkloadRecord(
            latencies={
                "look_up_hit": [0.001] * 3,
                "look_up_miss": [0.002],
                "trade": [0.005, 1.25],
                "order_query": [0.001],
            },
            acknowledged=[ORDER],
            refused=1,
            checked=1,
            longest_trade=LongestTrade(client=0, at=AT, ms=1250.0),
        ),
        WorkloadRecord(longest_trade=LongestTrade(client=1, at=AT, ms=12.0), retries=2),
    )


def printed(what: LoadReport) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None, markup=False)
    print_report(what, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# Numbers.


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (50, 50), (90, 90), (99, 99), (99.5, 100), (100, 100)])
def test_percentile_is_the_nearest_rank_when_there_are_a_hundred_values(percent: float, expected: int) -> None:
    assert percentile(range(1, 101), percent) == expected


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.floats(0.1, 100))
def test_percentile_is_the_smallest_value_that_covers_enough_when_values_are_random(
    values: list[float], percent: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    share = 100 * sum(value <= found for value in ordered) / len(ordered)
    below = 100 * sum(value < found for value in ordered) / len(ordered)
    assert share >= percent - 1e-9
    assert below < percent + 1e-9


def test_summary_is_in_milliseconds_when_latencies_are_in_seconds() -> None:
    values = [i / 1_000 for i in range(1, 11)]
    random.Random(3).shuffle(values)
    summary = summarise(values)
    assert summary.model_dump() == {
        "count": 10,
        "mean_ms": 5.5,
        "p50_ms": 5.0,
        "p90_ms": 9.0,
        "p99_ms": 10.0,
        "max_ms": 10.0,
    }


def test_hit_ratio_is_of_those_that_asked_a_cache_when_some_did_not() -> None:
    assert good().cache_hit_ratio == 0.75
    assert report(WorkloadRecord(latencies={"look_up_off": [1.0]})).cache_hit_ratio is None


# People.


def test_report_shows_table_facts_and_verdict_when_all_is_well() -> None:
    text = printed(good())
    lines = text.splitlines()
    row = next(line.split() for line in lines if "buy or sell" in line)
    assert row == ["buy", "or", "sell", "2", "627.50", "5.00", "1,250.00", "1,250.00", "1,250.00"]
    assert "cache hit ratio 75.0%" in lines
    assert "1 trade refused for lack of stock, 2 retries" in lines
    assert "longest wait for a trade 1,250.0 ms, until 03:04:05.678000 UTC (client 0)" in lines
    assert "1 client, p = 0.4, 200 iterations each, seed 5: 1.5 s" in lines
    assert lines[-1] == "1 order acknowledged, 1 checked, 0 wrong, 0 errors"
    assert "no cache" not in text


def test_report_names_what_went_wrong_when_something_did() -> None:
    text = printed(report(WorkloadRecord(errors=[ERROR] * 12, failed_checks=[WRONG])))
    assert "03:04:05 client 1, order 1, key k1: expected order 1: buy 2 FishCo, found nothing" in text.replace(
        "\n", " "
    )
    assert "NotAvailable: [red]no" in text
    assert "and 2 more" in text
    assert text.splitlines()[-1] == "0 orders acknowledged, 0 checked, 1 wrong, 12 errors"


def test_report_says_so_when_the_load_was_stopped() -> None:
    assert "stopped early" in printed(report(is_stopped=True))


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (WorkloadRecord(), 0),
        (WorkloadRecord(errors=[ERROR]), 1),
        (WorkloadRecord(failed_checks=[WRONG]), 1),
    ],
)
def test_exit_code_is_one_when_there_was_an_error_or_a_failed_check(record: WorkloadRecord, code: int) -> None:
    assert exit_code(report(record)) == code
    assert report(record).passed == (code == 0)


def test_verdict_is_one_line_when_counts_are_large() -> None:
    record = WorkloadRecord(acknowledged=[ORDER._replace(number=i) for i in range(1_000)], checked=1_000)
    assert verdict(report(record)) == "1,000 orders acknowledged, 1,000 checked, 0 wrong, 0 errors"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("file", "environment", "has_colour"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (io.StringIO, {}, False),
    ],
)
def test_colour_is_used_when_on_a_terminal_and_nobody_objects(
    monkeypatch: pytest.MonkeyPatch, file: type[io.StringIO], environment: dict[str, str], has_colour: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    out = file()
    monkeypatch.setattr(sys, "stdout", out)
    print_report(good(), make_console())
    assert ("\x1b[" in out.getvalue()) == has_colour


# Programs.


def test_json_is_the_report_again_when_read_back() -> None:
    before = report(WorkloadRecord(errors=[ERROR], failed_checks=[WRONG], acknowledged=[ORDER]))
    text = before.model_dump_json()
    after = LoadReport.model_validate_json(text)
    assert after == before.model_copy(update={"orders": [], "unknown": []})
    assert json.loads(text)["counts"]["acknowledged"] == 1
    assert "orders" not in json.loads(text)


# Progress.


def test_progress_shows_rates_and_errors_when_on_a_terminal() -> None:
    now = [0.0]
    out = Terminal()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with LiveProgress(4, console, monotonic=lambda: now[0]) as progress:
        for _ in range(3):
            now[0] += 0.5
            progress(Event(0, "looked_up", 0.001))
        progress(Event(0, "error", 0.001, error=ERROR.model_copy(update={"request": "look_up"})))
        progress(Event(0, "acknowledged", 0.001, ORDER))
        progress(Event(0, "checked", 0.001, ORDER))
        progress(Event(0, "wrong", 0.0, ORDER, failed_check=WRONG))
    assert "2 look-ups/s" in out.getvalue()
    assert "1 errors  1 wrong" in out.getvalue()
    assert "100%" in out.getvalue()


def test_progress_is_silent_when_not_on_a_terminal() -> None:
    out = io.StringIO()
    with LiveProgress(4, Console(file=out, force_terminal=False)) as progress:
        progress(Event(0, "looked_up", 0.001))
    assert out.getvalue() == ""


# The command.


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[LoadReport | BaseException]:
    """What the load of a command comes to."""
    answers: list[LoadReport | BaseException] = []

    async def run_load(*_: object, **__: object) -> LoadReport:
        answer = answers.pop()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(command, "run_load", run_load)
    return answers


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (good(), 0),
        (report(WorkloadRecord(errors=[ERROR])), 1),
        (NotAvailable("the connection was refused"), 1),
        (ValueError("no"), 2),
        (report(is_stopped=True), 130),
        (asyncio.CancelledError(), 130),
        (KeyboardInterrupt(), 130),
    ],
    ids=["good", "errors", "nobody there", "usage", "stopped", "stopped at once", "interrupted"],
)
def test_exit_code_says_what_happened_when_the_command_ends(
    answers: list[LoadReport | BaseException], answer: LoadReport | BaseException, code: int
) -> None:
    answers.append(answer)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == code
    assert (result.stdout == "") == isinstance(answer, BaseException)


def test_stdout_is_json_alone_when_asked_for(answers: list[LoadReport | BaseException]) -> None:
    answers.append(good())
    result = CliRunner().invoke(app, ["--json"])
    assert LoadReport.model_validate_json(result.stdout).passed


@pytest.mark.parametrize("arguments", [["--p", "2"], ["--clients", "0"], ["--iterations", "x"], ["--nonsense"]])
def test_command_ends_with_two_when_it_is_used_wrongly(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_command_ends_with_two_when_an_address_is_none() -> None:
    result = CliRunner().invoke(app, ["--url", "nowhere"])
    assert result.exit_code == 2
    assert "'nowhere' is not the address of a front-end" in result.stderr


def test_help_has_examples_when_asked_for() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    assert "--p 0.4" in result.stdout


@pytest.mark.parametrize(("interrupts", "is_report_printed"), [(1, True), (2, False)])
def test_command_ends_with_130_when_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    interrupts: int,
    is_report_printed: bool,
) -> None:
    async def run_load(*_: object, stop: asyncio.Event) -> LoadReport:
        os.kill(os.getpid(), signal.SIGINT)
        await stop.wait()
        if interrupts == 2:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        return report(is_stopped=True)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(command, "run_load", run_load)
    assert command.load_command(["http://x"], 1, 0.4, 1) == 130
    out, err = capfd.readouterr()
    assert ("0 errors" in out) == is_report_printed
    assert "Ctrl-C again ends at once" in err.replace("\n", " ")
    assert signal.getsignal(signal.SIGINT) is before
