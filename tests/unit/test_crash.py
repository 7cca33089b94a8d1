"""The crash experiment: its plan, the files side by side, what a round means, the answers, and the pictures."""

import io
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
from rich.console import Console

from client.load import LoadSettings, build_report
from client.record import SeenError, WorkloadRecord
from eval.crash.command import chosen_settings
from eval.crash.files import Comparison, compare_files, last_position
from eval.crash.plan import QUICK, Times, draw
from eval.crash.plot import plot_result
from eval.crash.report import Back, Kill, Report, Round, Seen, answer
from eval.crash.run import first_ms, seen
from eval.crash.show import print_report
from eval.crash.strike import Killed, events, first_change
from eval.crash.timeline import bins, strips
from eval.history import Kind, Operation
from eval.json_text import to_json
from services.common.models import LeaderChange
from services.order.store import LogStore
from tests.support.bench_results import MACHINE
from tests.support.order_chain import STOCKS, Chain

FILES = ["order-1", "order-2", "order-3"]
ENTRIES = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of three replicas that hold the same."""
    for name in FILES:
        write_log(tmp_path / f"{name}.db", ENTRIES)
    return tmp_path


def write_log(path: Path, entries: int) -> None:
    store = LogStore(path)
    store.adopt(1, STOCKS)
    store.append(Chain().add(entries))
    store.close()


def alter(path: Path, statement: str) -> None:
    with closing(apsw.Connection(str(path))) as file:
        file.execute(statement)
        assert file.changes() == 1


def operation(began: float, ended: float, kind: Kind = "trade", status: int = 201) -> Operation:
    return Operation("c", kind, began, key=f"{began}", ended=ended, status=status)


def same_files(**changes: Any) -> Comparison:
    values: dict[str, Any] = {
        "entries": 20, "orders": 19, "sha256": dict.fromkeys(FILES, "ab" * 32), "difference": None,
    }  # fmt: skip
    return Comparison(**values | changes)


def make_seen(**changes: Any) -> Seen:
    values: dict[str, Any] = {
        "look_ups": 100, "acknowledged": 40, "refused": 2, "checked": 40, "wrong": 0, "errors": {}, "retries": 0,
        "longest_ms": {"trade": 120.0, "look_up": 3.0}, "usual_ms": 9.0,
    }  # fmt: skip
    return Seen(**values | changes)


def make_round(number: int = 1, **changes: Any) -> Round:
    start = 10.0 * (number - 1)
    operations = [operation(start + i / 20, start + i / 20 + 0.01) for i in range(100)]
    values: dict[str, Any] = {
        "number": number, "phase": "trades", "began_s": start, "killed_s": start + 2, "started_s": start + 4,
        "level_s": start + 5, "ended_s": start + 7, "verify": "3 of 3", "files": same_files(), "seen": make_seen(),
        "kill": Kill(victim="order-3", was_leader=number % 2 == 1, noticed_ms=2.0, selected_ms=2.0, first_ms=14.0),
        "back": Back(answers_ms=400.0, level_ms=480.0, missed=900, fetched=1_000),
        "strips": strips(operations, start + 2),
    }  # fmt: skip
    return Round(**values | changes)


def make_report(*rounds: Round, **changes: Any) -> Report:
    operations = [operation(i / 20, i / 20 + 0.01, ("trade", "look_up", "order")[i % 3]) for i in range(400)]
    files = same_files()
    values: dict[str, Any] = {
        "command": "bazaar evaluate crash", "seed": 1, "machine": MACHINE, "duration_s": 20.0, "is_stopped": False,
        "started_at": datetime(2027, 1, 2, tzinfo=UTC), "passed": True, "clients": 5, "p": 0.4, "problems": [],
        "errors": [], "verify": "3 of 3", "files": files, "answers": answer(list(rounds), files),
        "rounds": list(rounds), "timeline": bins(operations, 0.0),
    }  # fmt: skip
    return Report(**values | changes)


@pytest.mark.parametrize("rounds", range(1, 25))
def test_leader_dies_in_at_least_half_of_the_rounds(rounds: int) -> None:
    strikes = draw(7, rounds, Times())
    assert sum(each.role == "leader" for each in strikes) * 2 >= rounds
    assert [each.number for each in strikes] == list(range(1, rounds + 1))


def test_both_roles_die_in_both_phases_when_there_are_enough_rounds() -> None:
    found = {(each.role == "leader", each.phase) for each in draw(1, 12, Times())}
    assert found == {(leader, phase) for leader in (True, False) for phase in ("trades", "check")}


def test_rounds_are_the_same_when_the_seed_is() -> None:
    assert draw(3, 12, QUICK) == draw(3, 12, QUICK) != draw(4, 12, QUICK)


def test_files_are_the_same_when_every_row_is(folder: Path) -> None:
    found = compare_files(folder, FILES)
    assert (found.same, found.entries, found.orders) == (True, ENTRIES, ENTRIES)
    assert len(set(found.sha256.values())) == 1
    assert last_position(folder / "order-2.db") == ENTRIES


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE log SET quantity = quantity + 1 WHERE position = 7", "row 7 of log"),
        ("DELETE FROM log WHERE position = 20", "row 20 of log"),
        ("DELETE FROM log WHERE position = 1", "row 1 of log"),
        ("UPDATE meta SET value = '2' WHERE name = 'generation'", "row 1 of meta"),
    ],
)
def test_first_difference_is_named_when_one_file_was_altered(folder: Path, statement: str, where: str) -> None:
    alter(folder / "order-2.db", statement)
    found = compare_files(folder, FILES)
    assert not found.same
    assert found.difference is not None
    assert found.difference.startswith(where)
    assert found.sha256["order-2"] != found.sha256["order-1"] == found.sha256["order-3"]


def test_files_are_compared_when_a_service_has_them_open(folder: Path) -> None:
    store = LogStore(folder / "order-1.db")
    try:
        assert compare_files(folder, FILES).same
    finally:
        store.close()


def test_first_answer_counts_only_what_was_sent_after_the_kill() -> None:
    operations = [operation(9, 10.1), operation(10.2, 10.5), operation(10.3, 10.4, "order"), operation(10.1, 10.9)]
    assert first_ms(operations, 10, "trades") == 500.0
    assert first_ms(operations, 10, "check") == 400.0
    assert first_ms(operations[:1], 10, "check") is None


def test_errors_are_counted_by_kind_when_clients_saw_some() -> None:
    at = datetime(2027, 1, 2, tzinfo=UTC)
    errors = [
        SeenError(client=0, at=at, request=request, subject="", kind="", message="", seconds=1)
        for request in ("trade", "order_query", "order_query")
    ]
    settings = LoadSettings(urls=("http://front-end-1",), clients=1, trade_probability=0.4, iterations=1, seed=1)
    report = build_report(settings, [WorkloadRecord(errors=errors)], started_at=at, duration_s=1.0)
    operations = [operation(8, 8.01), operation(9, 9.03), operation(9.99, 10.2), operation(12, 12.9)]
    found = seen(report, operations, killed=10.0, level=11.0)
    assert found.errors == {"trade": 1, "order": 2}
    assert (found.usual_ms, found.longest_ms) == (30.0, {"trade": 210.0})


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"wrong": 1}, False),
        ({"errors": {"trade": 1}}, False),
        ({"checked": 39}, False),
        ({"retries": 3}, True),
    ],
)
def test_round_passes_only_when_no_client_noticed_more_than_a_wait(changes: dict[str, Any], passed: bool) -> None:
    assert make_round(seen=make_seen(**changes)).passed is passed


def test_answers_are_no_no_yes_when_all_went_well() -> None:
    answers = answer([make_round(1), make_round(2)], same_files())
    assert (answers.leaders_killed, answers.trades, answers.checks, answers.longest_wait_ms) == (1, 84, 80, 120.0)
    assert [text.partition("? ")[2][:3] for text in answers.text] == ["No:", "No:", "Yes"]
    assert "0 of 84 trades" in answers.text[0]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"seen": make_seen(errors={"trade": 2})}, ["Yes", "No:", "Yes"]),
        ({"seen": make_seen(errors={"order": 2})}, ["No:", "Yes", "Yes"]),
        ({"seen": make_seen(wrong=1)}, ["No:", "Yes", "Yes"]),
        ({"files": same_files(difference="row 3 of log: ...")}, ["No:", "No:", "No:"]),
    ],
)
def test_answers_change_when_a_round_went_wrong(changes: dict[str, Any], wanted: list[str]) -> None:
    answers = answer([make_round(1), make_round(2, **changes)], same_files())
    assert [text.partition("? ")[2][:3] for text in answers.text] == wanted


def test_files_are_not_the_same_when_they_were_not_compared_in_the_end() -> None:
    assert not answer([make_round()], None).files_are_the_same


def test_bins_hold_every_operation_that_was_answered() -> None:
    operations = [operation(100.01, 100.02), operation(100.02, 100.04), operation(100.2, 100.3, "order", 200)]
    operations.append(operation(100.03, float("inf"), status=0))
    found = bins(operations, 100.0)
    assert found["trade"].model_dump() == {"at_s": [0.0], "count": [2], "median_ms": [15.0], "longest_ms": [20.0]}
    assert found["order"].at_s == [0.2]
    assert found["look_up"].count == []


def test_strip_holds_what_was_in_flight_when_a_replica_died() -> None:
    near = [operation(9.5, 10.1), operation(9.9, 9.95), operation(10.7, 12)]
    far = [operation(9.5, 9.7), operation(11, 11.1), operation(10, float("inf"), status=0)]
    assert strips(near + far, 10.0)["trade"].began_ms == [-500.0, -100.0, 700.0]


def test_moment_of_an_event_is_read_from_a_log() -> None:
    lines = ["no JSON: a follower is not waited for", json.dumps({"event": "another"})]
    lines.append(
        json.dumps({"event": "a follower is not waited for", "replica": 2, "timestamp": "2027-01-02T00:00:00.5Z"})
    )
    ((moment, record),) = events(lines, "a follower is not waited for")
    assert (moment, record["replica"]) == (datetime(2027, 1, 2, tzinfo=UTC).timestamp() + 0.5, 2)


def test_change_of_leader_is_the_one_after_the_kill() -> None:
    killed = Killed("order-3", pid=4_711, was_leader=True, at=5.0, wall=1_000.0004)
    changes = [
        LeaderChange(before=3, leader=2, noticed_ms=900_000, selected_ms=900_001),
        LeaderChange(before=2, leader=3, noticed_ms=999_000, selected_ms=999_000),
        LeaderChange(before=3, leader=2, noticed_ms=1_000_000, selected_ms=1_000_002),
    ]
    assert first_change(changes, killed) is changes[2]
    assert first_change(changes[:2], killed) is None


@pytest.mark.parametrize("rounds", [0, 1, 3, 12])
def test_pictures_are_drawn_whatever_the_number_of_rounds(tmp_path: Path, rounds: int) -> None:
    report = make_report(*(make_round(number) for number in range(1, rounds + 1)))
    plot_result(Report.model_validate_json(to_json(report)), tmp_path)
    for name in ("timeline.png", "kills.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_tables_fit_into_80_columns_when_they_are_printed() -> None:
    output = io.StringIO()
    rounds = [make_round(1), make_round(12, phase="check")]
    print_report(make_report(*rounds, passed=False, problems=["K1: lost"]), Console(file=output, width=80))
    text = output.getvalue()
    assert "12 follower, check" in text
    assert "violation: K1: lost" in text
    assert "2 kills, 1 of them of the leader" in text
    assert "…" not in text


def test_lists_of_numbers_stand_on_one_line_when_a_result_is_written() -> None:
    report = make_report(make_round())
    text = to_json(report)
    assert Report.model_validate_json(text) == report
    assert all(len(line) < 8_000 for line in text.splitlines())
    assert text.count("\n") < 300


def test_command_line_is_noted_when_flags_are_given() -> None:
    settings = chosen_settings(quick=True, rounds=2, seed=5)
    assert (settings.rounds, settings.times, settings.seed) == (2, QUICK, 5)
    assert settings.command == "bazaar evaluate crash --quick --rounds 2 --seed 5"
    assert chosen_settings(quick=False).rounds >= 10
