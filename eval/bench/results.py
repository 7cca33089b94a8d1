"""What a benchmark found, every round of it, as it is written to the disk."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from eval.machine import Machine

Subject = Literal[
    "bare_uvicorn",
    "bare_route",
    "bare_post",
    "bare_chain",
    "bare_trade",
    "look_up_cached",
    "look_up_uncached",
    "trade",
    "order_query",
]

LABELS: dict[Subject, str] = {
    "bare_uvicorn": "bare uvicorn, bytes",
    "bare_route": "bare FastAPI route",
    "bare_post": "bare FastAPI POST",
    "bare_chain": "bare chain of four",
    "bare_trade": "bare messages of a trade",
    "look_up_cached": "look-up, cached",
    "look_up_uncached": "look-up, no cache",
    "trade": "trade",
    "order_query": "order query",
}
BAZAAR: tuple[Subject, ...] = ("look_up_cached", "look_up_uncached", "trade", "order_query")


class Size(BaseModel, frozen=True):
    """How much a bazaar holds when it is started."""

    orders: int
    stocks: int

    def __str__(self) -> str:
        return f"{self.orders:,} orders, {self.stocks:,} stocks"


class Sample(BaseModel):
    """One subject in one round. requests: answered well; cpu_us: processor time a request, by process.

    generator_share: see `load.Outcome`.
    """

    round: int
    subject: Subject
    size: Size
    connections: int
    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    generator_share: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def total_cpu_us(self) -> float:
        """Processor time of all processes, a request."""
        return sum(self.cpu_us.values())


class Start(BaseModel):
    """One start of a bazaar, and of a replica that was killed. rss_mib: of each process after its loads, by name."""

    round: int
    size: Size
    ready_s: float
    replica_ready_s: float
    rss_mib: dict[str, float]


class CatchUp(BaseModel):
    """A replica whose disk was lost fetched so many orders in so many seconds."""

    round: int
    orders: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Orders a second."""
        return self.orders / self.seconds


class Spread(BaseModel):
    """A figure of several rounds: the median, the lowest and the highest."""

    median: float
    low: float
    high: float


class Goal(BaseModel):
    """What is wanted of a figure, and whether its median is so; both None when it was not measured."""

    text: str
    wanted: str
    measured: Spread | None
    is_reached: bool | None


class Result(BaseModel):
    """A whole benchmark. data_on: the kind of file system below the databases. commits_ms: of each round."""

    command: str
    machine: Machine
    data_on: str
    generator: str
    started_at: datetime
    duration_s: float = 0.0
    rounds: int
    seconds: float
    samples: list[Sample] = []
    commits_ms: list[float] = []
    scale: list[Sample] = []
    starts: list[Start] = []
    catch_ups: list[CatchUp] = []
    goals: list[Goal] = []
