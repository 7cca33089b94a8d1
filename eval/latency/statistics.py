"""What the runs of an experiment say together: medians over repetitions, and ratios within them."""

from collections.abc import Sequence
from typing import Literal

from eval.bench.results import Spread
from eval.bench.statistics import ratio, spread
from eval.latency.results import AnyKind, CacheMode, Rest, Result, Run

Measure = Literal["mean_ms", "p50_ms", "p90_ms", "p99_ms"]
MEASURES: tuple[Measure, ...] = ("mean_ms", "p50_ms", "p90_ms", "p99_ms")

SERIES: tuple[tuple[AnyKind, CacheMode], ...] = (
    ("look_up_hit", "on"),
    ("look_up_miss", "on"),
    ("look_up", "on"),
    ("look_up_off", "off"),
    ("trade", "on"),
    ("trade", "off"),
    ("order_query", "on"),
    ("order_query", "off"),
)
"""What is shown: kinds of requests, and whether the cache was on."""


class Condition:
    """The runs of one experiment under one condition, but for the cache."""

    def __init__(self, result: Result, trade_probability: float, round_trip_ms: float = 0.0) -> None:
        self._rests = result.rests
        self._runs = [
            each
            for each in result.runs
            if (each.trade_probability, each.round_trip_ms) == (trade_probability, round_trip_ms)
        ]

    def runs(self, cache: CacheMode) -> list[Run]:
        """One for each repetition."""
        return [each for each in self._runs if each.cache == cache]

    def by_repetition(self, kind: AnyKind, cache: CacheMode, measure: Measure) -> dict[int, float]:
        """One measure of one kind of request, by repetition; none where there was no such request."""
        return {
            each.repetition: float(getattr(each.of_all[kind], measure))
            for each in self.runs(cache)
            if kind in each.of_all
        }

    def latency(self, kind: AnyKind, cache: CacheMode, measure: Measure) -> Spread | None:
        """Milliseconds, over all repetitions."""
        return spread(list(self.by_repetition(kind, cache, measure).values()))

    def benefit(self, kind: AnyKind = "look_up", measure: Measure = "mean_ms") -> Spread | None:
        """How many times as long it takes with the cache off; from the runs of one repetition each."""
        return ratio(self.by_repetition(kind, "off", measure), self.by_repetition(kind, "on", measure))

    def saved_ms(self) -> Spread | None:
        """How much sooner a look-up is answered on average with the cache on, in milliseconds."""
        off, on = (self.by_repetition("look_up", cache, "mean_ms") for cache in ("off", "on"))
        return spread([off[each] - on[each] for each in off if each in on])

    def hit_ratio(self) -> Spread | None:
        """Hits among the look-ups with the cache on."""
        return spread([each.hit_ratio for each in self.runs("on") if each.hit_ratio is not None])

    def catalog_look_ups(self, cache: CacheMode) -> Spread | None:
        """How many look-ups of the catalog one look-up of a client causes."""
        runs = self.runs(cache)
        return spread([each.usage.catalog_look_ups / each.counts.look_ups for each in runs if each.usage is not None])

    def catalog_cpu_us(self, cache: CacheMode) -> Spread | None:
        """Processor time of the catalog for one look-up of a client, beyond what it uses at rest, in microseconds.

        Only runs without trades show it.
        """
        idle = _idle_share(self._rests, cache)
        runs = [each for each in self.runs(cache) if each.usage is not None and "trade" not in each.of_all]
        return spread(
            [
                (each.usage.cpu_s["catalog"] - idle * each.usage.seconds) / each.counts.look_ups * 1_000_000
                for each in runs
                if each.usage is not None
            ]
        )


def _idle_share(rests: Sequence[Rest], cache: CacheMode) -> float:
    """The share of a processor that the catalog uses when nobody asks it anything: of all rests together."""
    mine = [each.usage for each in rests if each.cache == cache]
    seconds = sum(each.seconds for each in mine)
    return sum(each.cpu_s["catalog"] for each in mine) / seconds if seconds else 0.0
