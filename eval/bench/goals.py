"""What is wanted of the figures. Goals are shown beside what was measured; they decide no exit code."""

from collections.abc import Callable
from dataclasses import dataclass

from eval.bench.results import BAZAAR, LABELS, Goal, Result, Sample, Size, Spread, Subject
from eval.bench.statistics import Measure, by_round, ratio, spread

COMMITS_OF_A_TRADE = 2  # the catalog's, then the replicas' at the same time
LITTLE_ORDERS = 1_000
MOST_ORDERS = 5_000_000
GROWTH = 1.2
MEMORY_GROWTH = 1.1
USUAL = 32
"""The number of connections at which most goals hold."""


def per_second(sample: Sample) -> float:
    """Requests a second."""
    return sample.per_second


def cpu_us(sample: Sample) -> float:
    """Processor time of all processes a request."""
    return sample.total_cpu_us


@dataclass(frozen=True)
class _Goal:
    """A figure that must be at least, or at most, `limit`."""

    text: str
    limit: float
    is_least: bool
    figure: Callable[[Result], Spread | None]

    def judge(self, result: Result) -> Goal:
        measured = self.figure(result)
        sign, median = (">=" if self.is_least else "<="), measured.median if measured is not None else None
        is_reached = None if median is None else median >= self.limit if self.is_least else median <= self.limit
        return Goal(text=self.text, wanted=f"{sign} {self.limit:,g}", measured=measured, is_reached=is_reached)


def judge(result: Result) -> list[Goal]:
    """Every goal, with what was measured."""
    return [goal.judge(result) for goal in GOALS]


def _at_least(limit: float, subject: Subject, yardstick: Subject, connections: int = USUAL) -> _Goal:
    def figure(result: Result) -> Spread | None:
        above, below = (by_round(result.samples, each, connections, per_second) for each in (subject, yardstick))
        return ratio(above, below)

    text = f"{LABELS[subject]} / {LABELS[yardstick]}, {connections} connections"
    return _Goal(text, limit, is_least=True, figure=figure)


def _tail(subject: Subject) -> _Goal:
    def figure(result: Result) -> Spread | None:
        tails = by_round(result.samples, subject, USUAL, lambda sample: sample.p99_ms / sample.p50_ms)
        return spread(list(tails.values()))

    return _Goal(f"{LABELS[subject]}: p99 / p50, {USUAL} connections", 5, is_least=False, figure=figure)


def _alone(yardstick: Subject, times: float) -> Callable[[Result], Spread | None]:
    """One client's trade against so many times a yardstick, and its commits."""

    def figure(result: Result) -> Spread | None:
        trades, bare = (
            by_round(result.samples, each, 1, lambda sample: sample.p50_ms) for each in ("trade", yardstick)
        )
        commits = dict(enumerate(result.commits_ms, start=1))
        both = bare.keys() & commits.keys()
        return ratio(trades, {each: times * bare[each] + COMMITS_OF_A_TRADE * commits[each] for each in both})

    return figure


def _growth(subject: Subject) -> _Goal:
    def figure(result: Result) -> Spread | None:
        return _between_sizes(result, subject, cpu_us)

    text = f"{LABELS[subject]}: processor time with {MOST_ORDERS:,} orders / with {LITTLE_ORDERS:,}"
    return _Goal(text, GROWTH, is_least=False, figure=figure)


def _between_sizes(result: Result, subject: Subject, measure: Measure) -> Spread | None:
    sizes = (Size(orders=orders, stocks=20) for orders in (MOST_ORDERS, LITTLE_ORDERS))
    above, below = (by_round(result.scale, subject, USUAL, measure, size) for size in sizes)
    return ratio(above, below)


def _start(result: Result) -> Spread | None:
    return spread([each.replica_ready_s for each in result.starts if each.size.orders == MOST_ORDERS])


def _memory(result: Result) -> Spread | None:
    """The memory of a replica with most orders against that of one with little."""
    most, little = (
        {each.round: each.rss_mib["order-1"] for each in result.starts if each.size == Size(orders=orders, stocks=20)}
        for orders in (MOST_ORDERS, LITTLE_ORDERS)
    )
    return ratio(most, little)


def _catch_up(result: Result) -> Spread | None:
    return spread([each.per_second for each in result.catch_ups])


GOALS = [
    _at_least(1.0, "look_up_cached", "bare_route"),
    _at_least(0.85, "look_up_cached", "bare_uvicorn"),
    _at_least(0.35, "look_up_uncached", "bare_route"),
    _at_least(0.35, "trade", "bare_post"),
    _at_least(0.5, "trade", "bare_post", connections=128),
    _Goal(
        "trade p50 / (1.3 bare chain p50 + 2 commits), one client",
        1.0,
        is_least=False,
        figure=_alone("bare_chain", 1.3),
    ),
    _Goal(
        "trade p50 / (bare messages' p50 + 2 commits), one client",
        1.0,
        is_least=False,
        figure=_alone("bare_trade", 1.0),
    ),
    *(_tail(subject) for subject in BAZAAR),
    _growth("trade"),
    _growth("order_query"),
    _Goal("catch-up, orders a second", 20_000, is_least=True, figure=_catch_up),
    _Goal(f"start of a replica with {MOST_ORDERS:,} orders, seconds until ready", 2, is_least=False, figure=_start),
    _Goal(
        f"memory of a replica with {MOST_ORDERS:,} orders / with {LITTLE_ORDERS:,}",
        MEMORY_GROWTH,
        is_least=False,
        figure=_memory,
    ),
]
