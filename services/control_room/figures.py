"""What clients feel, from the front-ends' metrics: how many requests a second, and how long half and nearly all took.

A front-end's histogram only grows, so what happened between two readings is their difference. A front-end that was
started again begins at nothing; what it counted before is then left out.
"""

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel

Kind = Literal["hit", "miss", "trade", "error"]
KINDS: tuple[Kind, ...] = ("hit", "miss", "trade", "error")

Counts = dict[Kind, dict[float, float]]
"""Requests of a kind that took at most so many seconds; the highest bound is infinite and counts them all."""

_BUCKET = re.compile(
    rb'^bazaar_request_seconds_bucket\{cache="(\w*)",le="([^"]+)",listener="\w+",'
    rb'method="(\w+)",route="([^"]+)",status="(\d+)"\} (\S+)$',
    re.MULTILINE,
)


class Figure(BaseModel):
    """One kind of request over a while. The times are None when there was none."""

    per_s: float
    p50_ms: float | None = None
    p99_ms: float | None = None


class Point(BaseModel):
    """All kinds over the `seconds` before `at_ms` (milliseconds since 1970)."""

    at_ms: int
    seconds: float
    figures: dict[Kind, Figure]


def read_counts(metrics: bytes) -> Counts:
    """The counts in Prometheus' text."""
    counts: Counts = {kind: {} for kind in KINDS}
    for cache, bound, method, route, status, value in _BUCKET.findall(metrics):
        kind = _kind(cache.decode(), method.decode(), route.decode(), int(status))
        if kind is not None:
            seconds = float(bound)
            counts[kind][seconds] = counts[kind].get(seconds, 0.0) + float(value)
    return counts


def _kind(cache: str, method: str, route: str, status: int) -> Kind | None:
    """What a client would call it: a look-up without a cache is a miss, an answer of 500 and above an error."""
    if not route.startswith(("/stocks", "/orders")):
        return None
    if status >= 500:
        return "error"
    if cache:
        return "hit" if cache == "hit" else "miss"
    return "trade" if (method, route, status) == ("POST", "/orders", 201) else None


def difference(before: Counts, after: Counts) -> Counts:
    """What was counted between two readings of one front-end."""
    return {kind: _grown(before[kind], after[kind]) for kind in KINDS}


def _grown(before: Mapping[float, float], after: Mapping[float, float]) -> dict[float, float]:
    has_restarted = any(value < before.get(bound, 0.0) for bound, value in after.items()) or len(before) > len(after)
    return dict(after) if has_restarted else {bound: value - before.get(bound, 0.0) for bound, value in after.items()}


def total(parts: list[Counts]) -> Counts:
    """The sum over several front-ends."""
    result: Counts = {kind: {} for kind in KINDS}
    for part in parts:
        for kind in KINDS:
            for bound, value in part[kind].items():
                result[kind][bound] = result[kind].get(bound, 0.0) + value
    return result


def point(at_ms: int, seconds: float, counts: Counts) -> Point:
    """`counts` of the last `seconds`, as they are drawn."""
    return Point(
        at_ms=at_ms, seconds=round(seconds, 3), figures={kind: _figure(counts[kind], seconds) for kind in KINDS}
    )


def _figure(buckets: Mapping[float, float], seconds: float) -> Figure:
    count = max(buckets.values(), default=0.0)
    return Figure(per_s=round(count / seconds, 2), p50_ms=quantile_ms(buckets, 0.5), p99_ms=quantile_ms(buckets, 0.99))


def quantile_ms(buckets: Mapping[float, float], share: float) -> float | None:
    """The time within which this share of the requests was answered, as even as possible within its bucket."""
    count = max(buckets.values(), default=0.0)
    if count <= 0:
        return None
    wanted = share * count
    lower, below = 0.0, 0.0
    for bound, value in sorted(buckets.items()):
        if value >= wanted:
            if bound == float("inf"):
                return round(1_000 * lower, 3)
            return round(1_000 * (lower + (bound - lower) * (wanted - below) / (value - below)), 3)
        lower, below = bound, value
    return None
