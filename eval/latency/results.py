"""What was asked for and what came out, every run of it, as it is written to the disk."""

from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from client.latency import LatencySummary
from client.load import MOST_CLIENTS, Counts
from client.record import Kind
from eval.machine import Machine

CacheMode = Literal["on", "off"]
AnyKind: TypeAlias = Kind | Literal["look_up"]
"""A kind of request as the client tells them apart, or all look-ups together."""

LABELS: dict[AnyKind, str] = {
    "look_up": "look-up",
    "look_up_hit": "look-up, hit",
    "look_up_miss": "look-up, miss",
    "look_up_off": "look-up, cache off",
    "trade": "trade",
    "order_query": "order query",
}


class LatencySettings(BaseModel):
    """What was asked for. round_trips_ms: how far away the clients are; rate: visits a second of all of them together.

    Without a rate it is a closed loop. urls: a bazaar that runs already, else one is started for each repetition;
    switch_cache: the command that turns the cache of that bazaar `on` or `off`, its last argument.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: int = Field(default=5, ge=1, le=MOST_CLIENTS)
    probabilities: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8)
    caches: tuple[CacheMode, ...] = ("on", "off")
    round_trips_ms: tuple[float, ...] = (0.0,)
    repetitions: int = Field(default=4, ge=1)
    iterations: int = Field(default=400, ge=1)
    cache_size: int = Field(default=10, ge=1)
    rate: float | None = Field(default=None, gt=0)
    seed: int = 1
    rest_s: float = 2.0
    urls: tuple[str, ...] = ()
    switch_cache: tuple[str, ...] = ()
    command: str = "bazaar evaluate latency"


class Usage(BaseModel):
    """What a stretch of time cost the servers. catalog_look_ups: stocks that front-ends asked the catalog for."""

    seconds: float
    catalog_look_ups: int
    cpu_s: dict[str, float]


class Run(BaseModel):
    """The clients at work once, under one condition. of_clients: by client; usage: None for a bazaar out of reach."""

    repetition: int
    cache: CacheMode
    trade_probability: float
    round_trip_ms: float
    seed: int
    duration_s: float
    counts: Counts
    of_all: dict[AnyKind, LatencySummary]
    of_clients: list[dict[AnyKind, LatencySummary]]
    usage: Usage | None

    @property
    def hit_ratio(self) -> float | None:
        """Hits among all look-ups; None with the cache off."""
        hits = self.of_all.get("look_up_hit")
        return None if self.cache == "off" else (hits.count if hits else 0) / self.counts.look_ups


class Rest(BaseModel):
    """What a bazaar that nobody asks anything uses of the processor."""

    repetition: int
    cache: CacheMode
    usage: Usage


class Result(BaseModel):
    """An experiment. commits_ms: what one durable commit cost before each repetition; problems: why it failed."""

    command: str
    machine: Machine
    started_at: datetime
    duration_s: float = 0.0
    settings: LatencySettings
    passed: bool = True
    problems: list[str] = []
    verified: list[str] = []
    commits_ms: list[float] = []
    rests: list[Rest] = []
    runs: list[Run] = []
