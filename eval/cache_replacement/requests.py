"""What is asked of the front-end: drawn beforehand, so that every size of cache gets the very same requests."""

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

from services.common.models import Type

Popularity = Literal["uniform", "zipf"]

POPULARITIES: tuple[Popularity, ...] = ("uniform", "zipf")


class Request(NamedTuple):
    """Look up a stock or, with a `trade`, buy or sell one piece of it."""

    name: str
    trade: Type | None = None


def weights(popularity: Popularity, count: int) -> list[float]:
    """How often each of so many stocks is wanted, the most popular first; they add up to 1.

    zipf: the second half as often as the first, the third a third as often, and so on.
    """
    raw = [1.0 if popularity == "uniform" else 1 / rank for rank in range(1, count + 1)]
    return [each / sum(raw) for each in raw]


def draw(source: random.Random, names: Sequence[str], popularity: Popularity, p: float) -> Iterator[Request]:
    """Requests without an end: look-ups, each followed by a trade of the same stock with probability `p`.

    A stock is sold and bought in turn, so it never runs out and no trade is refused.
    """
    limits = list(accumulate(weights(popularity, len(names))))
    is_sold: set[str] = set()
    while True:
        (name,) = source.choices(names, cum_weights=limits)
        yield Request(name)
        if source.random() < p:
            yield Request(name, "buy" if name in is_sold else "sell")
            is_sold ^= {name}


def until(requests: Iterator[Request], look_ups: int) -> list[Request]:
    """The next requests, up to the last of so many look-ups."""
    taken: list[Request] = []
    while look_ups:
        request = next(requests)
        taken.append(request)
        look_ups -= request.trade is None
    return taken
