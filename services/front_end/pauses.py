"""Pauses between attempts: short at first, longer when nothing helps, never the same for everybody."""

import random
from collections.abc import Iterator

from services.common.timing import PAUSE_MAX_S, PAUSE_MIN_S


def pauses(source: random.Random) -> Iterator[float]:
    """Endless pauses in seconds, from about PAUSE_MIN_S to about PAUSE_MAX_S."""
    longest = PAUSE_MIN_S
    while True:
        yield longest * source.uniform(0.5, 1.0)
        longest = min(longest * 2, PAUSE_MAX_S)
