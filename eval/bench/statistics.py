"""Medians and ratios over the rounds of a benchmark."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from eval.bench.results import Sample, Size, Spread, Subject

Measure = Callable[[Sample], float]


def spread(values: Sequence[float]) -> Spread | None:
    """Median, lowest and highest; None for nothing."""
    if not values:
        return None
    return Spread(median=statistics.median(values), low=min(values), high=max(values))


def by_round(
    samples: Iterable[Sample], subject: Subject, connections: int, measure: Measure, size: Size | None = None
) -> dict[int, float]:
    """One measure of one subject, by round. Rounds without a good answer are left out."""
    return {
        each.round: measure(each)
        for each in samples
        if each.subject == subject
        and each.connections == connections
        and each.requests
        and (size is None or each.size == size)
    }


def ratio(above: Mapping[int, float], below: Mapping[int, float]) -> Spread | None:
    """The ratio within each round, for what disturbs the machine disturbs both; then the spread of these."""
    return spread([above[each] / below[each] for each in above if below.get(each)])
