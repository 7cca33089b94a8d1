"""Rates and latencies out of the front-ends' metrics."""

import pytest

from services.common.distribution import Distribution
from services.common.metrics import Metrics
from services.control_room.figures import difference, point, quantile_ms, read_counts, total


def observe(metrics: Metrics, route: str, method: str, status: str, cache: str, *seconds: float) -> None:
    for each in seconds:
        series = metrics.requests.setdefault("public", {})
        series.setdefault((route, method, int(status), cache), Distribution()).add(each)


def look_up(metrics: Metrics, cache: str, *seconds: float) -> None:
    observe(metrics, "/stocks/{name}", "GET", "200", cache, *seconds)


def test_requests_are_sorted_into_what_a_client_calls_them() -> None:
    metrics = Metrics()
    look_up(metrics, "hit", 0.0002, 0.0002, 0.0002)
    look_up(metrics, "miss", 0.002)
    look_up(metrics, "off", 0.002)
    observe(metrics, "/orders", "POST", "201", "", 0.02, 0.02, 0.02, 0.02)
    observe(metrics, "/orders", "POST", "409", "", 0.02)
    observe(metrics, "/orders", "POST", "504", "", 10.0)
    observe(metrics, "/stocks/{name}", "GET", "503", "", 2.0)
    observe(metrics, "/status", "GET", "200", "", 0.001)
    observe(metrics, "/readyz", "GET", "503", "", 0.001)
    made = point(5_000, 2.0, read_counts(metrics.render()))
    assert {kind: figure.per_s for kind, figure in made.figures.items()} == {
        "hit": 1.5, "miss": 1.0, "trade": 2.0, "error": 1.0,
    }  # fmt: skip


def test_only_what_came_between_two_readings_counts() -> None:
    metrics = Metrics()
    look_up(metrics, "hit", *[5.0] * 10)
    before = read_counts(metrics.render())
    look_up(metrics, "hit", *[0.0002] * 4)
    made = point(0, 1.0, difference(before, read_counts(metrics.render()))).figures["hit"]
    assert made.per_s == 4.0
    assert made.p99_ms is not None
    assert made.p99_ms <= 0.25


def test_counts_of_before_are_left_out_when_a_front_end_was_started_again() -> None:
    old, new = Metrics(), Metrics()
    look_up(old, "hit", *[0.0002] * 10)
    look_up(new, "hit", *[0.0002] * 3)
    assert point(0, 1.0, difference(read_counts(old.render()), read_counts(new.render()))).figures["hit"].per_s == 3.0
    nothing = difference(read_counts(old.render()), read_counts(Metrics().render()))
    assert point(0, 1.0, nothing).figures["hit"].per_s == 0.0


def test_front_ends_are_added_up() -> None:
    parts = []
    for count in (2, 3):
        metrics = Metrics()
        look_up(metrics, "hit", *[0.0002] * count)
        parts.append(read_counts(metrics.render()))
    assert point(0, 1.0, total(parts)).figures["hit"].per_s == 5.0


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ({}, 0.5, None),
        ({0.001: 0.0, float("inf"): 0.0}, 0.5, None),
        ({0.001: 10.0, 0.01: 10.0, float("inf"): 10.0}, 0.5, 0.5),
        ({0.001: 50.0, 0.01: 100.0, float("inf"): 100.0}, 0.99, 9.82),
        ({0.001: 1.0, float("inf"): 100.0}, 0.99, 1.0),  # above all bounds: the highest is all that is known
    ],
)
def test_quantile_is_where_that_share_was_answered(
    buckets: dict[float, float], share: float, expected: float | None
) -> None:
    assert quantile_ms(buckets, share) == (None if expected is None else pytest.approx(expected))
