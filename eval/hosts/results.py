"""What the measurement of hosts found, every round of it, as it is written to the disk."""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from eval.bench.results import Spread
from eval.bench.statistics import spread
from eval.machine import Machine

Store = Literal["sqlite", "etcd"]
LABELS: dict[Store, str] = {"sqlite": "SQLite, one catalog", "etcd": "etcd of three nodes, two catalogs"}


class MeasureSettings(BaseModel):
    """What was asked for. look_up_connections: of all clients together, shared out among the front-ends."""

    rounds: int = 5
    seconds: float = 5.0
    connections: tuple[int, ...] = (1, 32)
    front_ends: tuple[int, ...] = (1, 2, 4)
    look_up_connections: int = 32
    command: str = "bazaar evaluate hosts"


class Sample(BaseModel):
    """Requests of one kind in one round, all answered well but for `errors`. p50_ms: of the slowest front-end.

    cpu_us: processor time a request, by kind of process.
    """

    round: int
    connections: int
    front_ends: int = 1
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: dict[str, float]


class MeasureResult(BaseModel):
    """All rounds. data_on: the kind of file system below the databases and below etcd."""

    command: str
    settings: MeasureSettings
    machine: Machine
    data_on: str
    generator: str
    started_at: datetime
    duration_s: float = 0.0
    trades: dict[Store, list[Sample]] = {"sqlite": [], "etcd": []}
    look_ups: list[Sample] = []


def by_connections(samples: list[Sample], measure: Callable[[Sample], float]) -> dict[float, Spread | None]:
    """A figure of trades at each number of connections."""
    numbers = sorted({each.connections for each in samples})
    return {number: spread([measure(each) for each in samples if each.connections == number]) for number in numbers}


def by_front_ends(samples: list[Sample], measure: Callable[[Sample], float]) -> dict[float, Spread | None]:
    """A figure of look-ups at each number of front-ends."""
    numbers = sorted({each.front_ends for each in samples})
    return {number: spread([measure(each) for each in samples if each.front_ends == number]) for number in numbers}
