"""What the simulation was told and what it found, as it is written to the disk."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from eval.machine import Machine
from eval.scaling.costs import Costs, Measured, Record
from eval.scaling.model import Doors, Numbers

Popularity = Literal["equal", "skewed", "skewed, unplaced"]
"""equal: every shard has as many trades. skewed: stock i of them is traded 1/i as often as the first; the shards are
filled so that all have as much as possible of the same. unplaced: the same stocks, each put anywhere.
"""

Layout = Literal["customers", "front-ends", "followers", "numbers"]
"""What is in the other region, each with all before it: half of the customers; a front-end for them, with its cache;
the followers; the allocator of one sequence of order numbers.
"""


class Settings(Record):
    """What is simulated. delay_ms: one way, between two processes in one region; far_ms: between two regions."""

    command: str
    seed: int
    shards: tuple[int, ...] = (1, 2, 4, 8, 16)
    front_ends: int = Field(2, description="for each shard")
    customers: int = Field(1_024, description="for each shard")
    think_ms: float = 50.0
    delay_ms: float = 0.1
    far_ms: tuple[float, ...] = (0.1, 1.0, 5.0, 10.0, 20.0, 40.0)
    stocks: int = 1_000
    few: int = Field(16, description="customers for each shard, where order numbers are compared at leisure")
    many: int = Field(1_024, description="customers of one shard, where its front-ends are counted")
    front_ends_of_one: tuple[int, ...] = (1, 2, 4, 8)
    warm_up_s: float = 0.3
    skewed_warm_up_s: float = Field(1.5, description="until those who wait for a busy shard are as many as ever")
    trades: int = Field(4_000, description="at least so many are looked at")


class Point(Record):
    """Trades of one setting. busy: the part of the time in which the busiest process of a kind worked."""

    per_second: float
    p50_ms: float
    p99_ms: float
    trades_in_a_batch: float
    busy: dict[str, float]


class Check(Record):
    """One shard on one machine of two cores: what was measured, and what the simulation says."""

    measured: Measured
    simulated: Point

    @property
    def error(self) -> float:
        """How far off the simulated throughput is, as a part of the measured one."""
        return self.simulated.per_second / self.measured.per_second - 1


class Series(Record):
    """One kind of bazaar, by its number of shards.

    hottest: the busiest shard's part of all trades. few: with few customers; only where all shards have as many.
    """

    doors: Doors
    popularity: Popularity
    numbers: Numbers
    points: dict[int, Point]
    hottest: dict[int, float]
    few: dict[int, Point]


class Distance(Record):
    """One shard with one thing after the other in another region; p50 of customers here and there."""

    layout: Layout
    far_ms: float
    per_second: float
    near_p50_ms: float
    far_p50_ms: float


class Bench(Record):
    """The benchmark that was read."""

    command: str
    started_at: datetime
    machine: Machine


class Result(Record):
    """Everything."""

    settings: Settings
    machine: Machine
    bench: Bench
    duration_s: float
    costs: Costs
    checks: list[Check]
    front_ends: dict[int, Point] = Field(description="one shard with so many front-ends")
    series: list[Series]
    distances: list[Distance]
