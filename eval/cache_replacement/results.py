"""What the experiment found, as it is written to the disk."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from eval.cache_replacement.model import ModelCache
from eval.cache_replacement.requests import Popularity, Request
from eval.machine import Machine
from services.common.models import CacheView, Type


class Step(BaseModel):
    """One request, and what the front-end said of its cache right after it.

    cache: the X-Cache header of a look-up. entries: least recently used first. lost: what went although it was neither
    evicted nor invalidated, because the cache's session ended.
    """

    name: str
    trade: Type | None = None
    cache: Literal["hit", "miss", "off"] | None = None
    entries: list[str]
    evicted: list[str] = []
    invalidated: list[str] = []
    lost: list[str] = []


class Condition(BaseModel):
    """Under what was measured. p: the probability of a trade after a look-up."""

    capacity: int
    popularity: Popularity
    p: float

    def __str__(self) -> str:
        return f"{self.capacity} of the stocks cached, {self.popularity}, p = {self.p:.0%}"


class Trace(Condition):
    """One cache, request by request, from empty on. differences: steps at which an LRU by the book does otherwise."""

    steps: list[Step]
    differences: list[int]


class Counts(BaseModel):
    """One load: look-ups counted after a warm-up. hits to invalidations: as the front-end counts them, by GET /cache.

    header_hits: look-ups answered `X-Cache: hit`. model_hits: those that an LRU by the book would have hit.
    differences: look-ups answered otherwise than it would. sessions_lost: how often the cache was emptied meanwhile
    because the catalog did not hear from the front-end in time, which no book knows.
    """

    look_ups: int
    trades: int
    header_hits: int
    hits: int
    misses: int
    evictions: int
    invalidations: int
    model_hits: int
    differences: int
    sessions_lost: int


class Sample(Condition, Counts):
    """What was counted under one condition, the first time, the second, ..."""

    repetition: int

    @property
    def hit_ratio(self) -> float:
        """Hits among the look-ups, as the client saw them."""
        return self.header_hits / self.look_ups

    @property
    def model_ratio(self) -> float:
        """What it would be by the book."""
        return self.model_hits / self.look_ups


class Result(BaseModel):
    """The whole experiment. stocks: by popularity, the most popular first."""

    command: str
    seed: int
    machine: Machine
    started_at: datetime
    duration_s: float
    stocks: list[str]
    warm_up: int
    traces: list[Trace]
    samples: list[Sample]

    @property
    def passed(self) -> bool:
        """Whether the front-end did what an LRU does, and its own counts agree with what the client saw."""
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """What speaks against it, in words."""
        problems = [
            f"{each}: step {number} is not what an LRU does" for each in self.traces for number in each.differences
        ]
        for each in self.samples:
            if each.differences and not each.sessions_lost:
                problems.append(f"{each}: {each.differences:,} look-ups answered otherwise than by an LRU")
            if (each.hits, each.misses) != (each.header_hits, each.look_ups - each.header_hits):
                problems.append(f"{each}: {each.header_hits:,} hits seen, {each.hits:,} counted by the front-end")
        return problems


def observe(request: Request, cache: Literal["hit", "miss", "off"] | None, before: CacheView, after: CacheView) -> Step:
    """What a request did to the cache, from what the front-end says of it before and after."""
    entries = [stock.name for stock in after.entries]
    gone = [stock.name for stock in before.entries if stock.name not in entries]
    step = Step(name=request.name, trade=request.trade, cache=cache, entries=entries)
    if len(gone) == after.evictions - before.evictions:
        step.evicted = gone
    elif len(gone) == after.invalidations - before.invalidations:
        step.invalidated = gone
    else:
        step.lost = gone
    return step


def differences(capacity: int, steps: list[Step]) -> list[int]:
    """The steps, counted from 0, at which an LRU by the book would have done otherwise.

    A session that ends empties the cache, which no book knows: from there the book goes on with what is held.
    """
    model = ModelCache(capacity)
    found = []
    for number, step in enumerate(steps):
        is_hit = model.take(Request(step.name, step.trade))
        if model.names == step.entries and is_hit == (step.cache == "hit"):
            continue
        if not step.lost:
            found.append(number)
        model.reset(step.entries)
    return found
