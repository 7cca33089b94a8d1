"""The measurement of stores and front-ends: what is added up, what is shown and drawn, what flags mean."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from eval.bench.load import Outcome
from eval.hosts.measure import sample_of
from eval.hosts.measure_command import chosen_settings, print_result
from eval.hosts.measure_plot import plot_result
from eval.hosts.results import MeasureResult, MeasureSettings, Sample, by_connections, by_front_ends
from eval.machine import describe_machine
from services.cluster.errors import CannotDo


def outcome(requests: int, p50_ms: float, seconds: float = 2.0, errors: int = 0) -> Outcome:
    return Outcome(requests, errors, seconds, p50_ms, 2 * p50_ms, 0.1)


def sample(per_second: float, connections: int = 1, front_ends: int = 1, number: int = 1) -> Sample:
    return Sample(
        round=number,
        connections=connections,
        front_ends=front_ends,
        per_second=per_second,
        p50_ms=1_000 / per_second,
        p99_ms=5_000 / per_second,
        errors=0,
        cpu_us={"front-end": 70.0},
    )


@pytest.fixture
def result() -> MeasureResult:
    return MeasureResult(
        command="bazaar evaluate hosts",
        settings=MeasureSettings(rounds=2),
        machine=describe_machine(),
        data_on="ext4",
        generator="wrk",
        started_at=datetime(2026, 11, 24, tzinfo=UTC),
        trades={
            "sqlite": [sample(100 * place, place, number=number) for place in (1, 32) for number in (1, 2)],
            "etcd": [sample(80 * place, place) for place in (1, 32)],
        },
        look_ups=[sample(9_000 * count, 32, count) for count in (1, 2, 4)],
    )


def test_requests_are_added_and_the_slowest_wait_counts_when_loads_run_at_once() -> None:
    used = {"front-end-1": 0.1, "front-end-2": 0.2, "catalog": 0.0, "order-1": 0.03}
    found = sample_of([outcome(1_000, 3.0), outcome(500, 7.0, errors=1)], 2, 16, used)
    assert (found.per_second, found.p50_ms, found.p99_ms, found.errors) == (750.0, 7.0, 14.0, 1)
    assert (found.round, found.connections, found.front_ends) == (2, 32, 2)
    assert found.cpu_us == {"front-end": 199.9, "catalog": 0.0, "order": 20.0}


def test_it_cannot_be_measured_when_a_front_end_answered_nothing_well() -> None:
    with pytest.raises(CannotDo, match="of 4 requests to a front-end none was answered well"):
        sample_of([outcome(1_000, 3.0), outcome(0, 0.0, errors=4)], 1, 1, {})


def test_rounds_are_put_together_by_what_they_differ_in(result: MeasureResult) -> None:
    samples = [sample(100), sample(300), sample(50, 32)]
    assert [(place, each.median if each else None) for place, each in by_connections(samples, _rate).items()] == [
        (1, 200),
        (32, 50),
    ]
    assert list(by_front_ends(result.look_ups, _rate)) == [1, 2, 4]


def _rate(each: Sample) -> float:
    return each.per_second


def test_everything_is_shown_when_it_is_printed(result: MeasureResult) -> None:
    output = io.StringIO()
    print_result(result, Console(file=output, width=120))
    text = output.getvalue()
    for words in ("SQLite, one catalog", "etcd of three nodes", "3,200", "36,000", "ext4, load by wrk", "front-end us"):
        assert words in text
    assert "0 requests not answered well" in text


def test_plot_is_drawn(result: MeasureResult, tmp_path: Path) -> None:
    plot_result(result, tmp_path)
    assert (tmp_path / "measure.png").read_bytes().startswith(b"\x89PNG")


def test_flags_change_what_is_usual() -> None:
    usual = chosen_settings(quick=False, rounds=None, seconds=None, command="c")
    assert (usual.rounds, usual.seconds, usual.connections, usual.front_ends) == (5, 5.0, (1, 32), (1, 2, 4))
    quick = chosen_settings(quick=True, rounds=2, seconds=None, command="c")
    assert (quick.rounds, quick.seconds, quick.command) == (2, 1.0, "c")
