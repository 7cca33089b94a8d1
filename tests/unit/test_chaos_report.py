"""Waits by round and by kind of fault, targets, tables and the plot."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.chaos.plot import plot_timeline
from eval.chaos.report import Report, Round, between, first_trade_ms, longest_ms, summarise_rounds
from eval.chaos.show import print_report
from eval.history import Kind, Operation
from eval.machine import describe_machine


def operation(began: float, ended: float, kind: Kind = "trade", key: str = "", status: int = 201) -> Operation:
    return Operation("c", kind, began, key=key or f"{began}", ended=ended, status=status)


def make_round(kind: str, *waits: float, number: int = 1, **changes: Any) -> Round:
    values: dict[str, Any] = {
        "number": number,
        "kind": kind,
        "hit": ["order-3"],
        "began_s": 1.0,
        "undone_s": 2.0,
        "level_s": 2.5,
        "longest_ms": {"trade": max(waits, default=0.0)},
        "trade_waits_ms": list(waits),
        "first_trade_ms": 3.0,
        "noticed_ms": None,
        "downtime_ms": {},
    }
    return Round(**values | changes)


def make_report(rounds: list[Round], **changes: Any) -> Report:
    values: dict[str, Any] = {
        "command": "bazaar chaos",
        "seed": 1,
        "machine": describe_machine(),
        "started_at": datetime(2026, 11, 24, tzinfo=UTC),
        "duration_s": 5.0,
        "is_stopped": False,
        "passed": True,
        "counts": {"trade": 10},
        "verify": "3 of 3",
        "problems": [],
        "errors": [],
        "summaries": summarise_rounds(rounds, has_targets=True),
        "rounds": rounds,
    }
    return Report(**values | changes)


def test_operation_counts_when_any_of_it_is_within_the_fault() -> None:
    inside = [operation(0, 10.5), operation(9, 12), operation(10, 11), operation(11.9, 14)]
    outside = [operation(8, 9.9), operation(12.1, 13), operation(9.5, float("inf"), status=0)]
    everything = sorted(inside + outside, key=lambda each: each.began)
    assert between(everything, 10, 12) == inside


def test_longest_wait_is_found_by_kind_when_there_are_several() -> None:
    operations = [operation(0, 0.1), operation(1, 1.3), operation(1, 1.2, "look_up")]
    assert longest_ms(operations) == {"trade": 300.0, "look_up": 200.0}


def test_first_trade_is_a_new_one_when_an_old_key_was_answered_earlier() -> None:
    old = operation(9, 9.5, key="old")
    operations = [old, operation(10.1, 10.2, key="old"), operation(10.3, 10.9, key="new"), operation(10.4, 11)]
    assert first_trade_ms(operations, 10) == 900.0
    assert first_trade_ms([old], 10) is None


@pytest.mark.parametrize(
    ("round_", "is_met"),
    [
        (make_round("kill leader", *[10.0] * 200, 499.0), True),
        (make_round("kill leader", *[10.0] * 200, 501.0), False),
        (make_round("kill leader", *[10.0] * 9, 151.0), False),
        (make_round("pause leader", 1_499.0), True),
        (make_round("pause leader", 1_501.0), False),
        (make_round("kill catalog", 3_100.0, downtime_ms={"catalog": 2_000.0}), True),
        (make_round("kill catalog", 3_300.0, downtime_ms={"catalog": 2_000.0}), False),
        (make_round("kill all", 20_000.0), None),
    ],
)
def test_target_is_judged_when_a_kind_has_one(round_: Round, is_met: bool | None) -> None:
    (summary,) = summarise_rounds([round_], has_targets=True)
    assert summary.is_met is is_met
    (untargeted,) = summarise_rounds([round_], has_targets=False)
    assert untargeted.is_met is None


def test_rounds_of_one_kind_are_put_together_when_there_are_several() -> None:
    rounds = [make_round("kill leader", 1.0, 5.0), make_round("kill all", 9.0), make_round("kill leader", 7.0)]
    summaries = summarise_rounds(rounds, has_targets=True)
    assert [(each.kind, each.rounds, each.trades, each.worst_ms) for each in summaries] == [
        ("kill leader", 2, 3, 7.0),
        ("kill all", 1, 1, 9.0),
    ]


def test_report_says_what_failed_when_it_is_printed() -> None:
    output = io.StringIO()
    rounds = [make_round("kill leader", 600.0), make_round("cut leader from followers", 30_000.0, number=100)]
    rounds[1].longest_ms = {"trade": 30_000.0, "look_up": 30_000.0, "order": 30_000.0}
    report = make_report(rounds, passed=False, problems=["K1: lost"], errors=["no answer"])
    print_report(report, Console(file=output, width=80))
    text = output.getvalue()
    assert "violation: K1: lost" in text
    assert "error: no answer" in text
    assert "target of kill leader: p99 150, worst 500 ms: MISSED" in text
    assert "1 violations, 1 errors seen by clients" in text
    assert "…" not in text, "80 columns are enough"


def test_result_has_no_raw_waits_and_no_path_when_it_is_written() -> None:
    text = make_report([make_round("kill leader", 600.0)]).model_dump_json()
    assert "trade_waits_ms" not in text
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


@pytest.mark.parametrize("rounds", [0, 3, 45])
def test_timeline_is_drawn_whatever_the_number_of_rounds(tmp_path: Path, rounds: int) -> None:
    actions = ("kill leader", "pause several", "cut leader from catalog", "restart catalog")
    done = [
        make_round(actions[i % 4], 5.0, number=i + 1, began_s=i, undone_s=i + 0.3, level_s=i + 0.6)
        for i in range(rounds)
    ]
    operations = [operation(100 + i / 10, 100 + i / 10 + (0.5 if i % 7 == 0 else 0.01)) for i in range(10 * rounds)]
    plot_timeline(make_report(done), operations, 100.0, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
