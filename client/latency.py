"""How long requests took, in a few numbers."""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class LatencySummary(BaseModel):
    """Latencies of one kind of request, in milliseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the `ordered` values that at least `percent` of them do not exceed (the nearest rank)."""
    assert ordered
    assert 0 < percent <= 100
    return ordered[max(1, math.ceil(percent * len(ordered) / 100)) - 1]


def summarise(seconds: Sequence[float]) -> LatencySummary:
    """Seconds in any order, at least one, as a summary in milliseconds."""
    ordered = sorted(seconds)
    return LatencySummary(
        count=len(ordered),
        mean_ms=_ms(math.fsum(ordered) / len(ordered)),
        p50_ms=_ms(percentile(ordered, 50)),
        p90_ms=_ms(percentile(ordered, 90)),
        p99_ms=_ms(percentile(ordered, 99)),
        max_ms=_ms(ordered[-1]),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 3)
