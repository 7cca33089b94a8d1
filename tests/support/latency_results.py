"""Results of the latency experiment, made by hand."""

from datetime import UTC, datetime
from typing import Any

from client.latency import LatencySummary
from client.load import Counts
from eval.latency.results import AnyKind, CacheMode, LatencySettings, Rest, Result, Run, Usage
from tests.support.bench_results import MACHINE


def make_summary(mean_ms: float, count: int = 100) -> LatencySummary:
    return LatencySummary(
        count=count, mean_ms=mean_ms, p50_ms=mean_ms * 0.8, p90_ms=mean_ms * 2, p99_ms=mean_ms * 4, max_ms=mean_ms * 9
    )


def make_run(cache: CacheMode, p: float, **changes: Any) -> Run:
    """100 look-ups, a third of them hits with the cache on; twice as slow with the cache off."""
    repetition, trip = changes.get("repetition", 1), changes.get("round_trip_ms", 0.0)
    means: dict[AnyKind, float] = {"look_up": 2.0} if cache == "on" else {"look_up": 4.0, "look_up_off": 4.0}
    of_all = {kind: make_summary(trip + mean * repetition) for kind, mean in means.items()}
    if cache == "on":
        of_all |= {"look_up_hit": make_summary(trip + 1.0, 34), "look_up_miss": make_summary(trip + 3.0, 66)}
    if p:
        of_all |= {"trade": make_summary(trip + 10.0 * (1 + p)), "order_query": make_summary(trip + 1.5)}
    traded = round(100 * p)
    look_ups = 66 if cache == "on" else 100
    members: dict[str, Any] = {
        "repetition": repetition, "cache": cache, "trade_probability": p, "round_trip_ms": trip, "seed": 1,
        "duration_s": 2.0, "of_all": of_all, "of_clients": [of_all] * 5,
        "counts": Counts(
            look_ups=100, acknowledged=traded, refused=0, checked=traded, wrong=0, errors=0, retries=0
        ),
        "usage": Usage(seconds=2.0, catalog_look_ups=look_ups, cpu_s={"catalog": look_ups / 1_100}),
    }  # fmt: skip
    return Run(**members | changes)


def make_result(**changes: Any) -> Result:
    """Three repetitions of everything."""
    settings = LatencySettings(repetitions=3).model_copy(update=changes)
    runs = [
        make_run(cache, p, repetition=repetition, round_trip_ms=trip)
        for repetition in range(1, settings.repetitions + 1)
        for cache in settings.caches
        for p in settings.probabilities
        for trip in settings.round_trips_ms
    ]
    usage = Usage(seconds=1.0, catalog_look_ups=0, cpu_s={"catalog": 0.01})
    return Result(
        command="bazaar evaluate latency", machine=MACHINE, started_at=datetime(2027, 1, 2, tzinfo=UTC),
        settings=settings, runs=runs, rests=[Rest(repetition=1, cache=cache, usage=usage) for cache in settings.caches],
        commits_ms=[1.0, 2.0, 3.0], verified=["3 of 3 replicas hold the same 9 orders"] * 2,
    )  # fmt: skip
