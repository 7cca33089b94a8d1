"""In which order an experiment tries its conditions: drawn from its seed, so that no condition always comes first."""

import random
from typing import NamedTuple

from eval.latency.results import CacheMode, LatencySettings


class Condition(NamedTuple):
    """What one run differs in within a block. seed: of the clients' choices."""

    trade_probability: float
    round_trip_ms: float
    seed: int


class Block(NamedTuple):
    """Runs on one fresh bazaar, one after the other."""

    repetition: int
    cache: CacheMode
    conditions: list[Condition]


def schedule(settings: LatencySettings) -> list[Block]:
    """Every condition once in each repetition. With the cache on and off the clients make the same choices."""
    source = random.Random(settings.seed)
    blocks = []
    for repetition in range(1, settings.repetitions + 1):
        conditions = [
            Condition(p, round_trip_ms, source.getrandbits(32))
            for p in settings.probabilities
            for round_trip_ms in settings.round_trips_ms
        ]
        blocks += [
            Block(repetition, cache, source.sample(conditions, len(conditions)))
            for cache in source.sample(settings.caches, len(settings.caches))
        ]
    return blocks
