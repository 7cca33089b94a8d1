"""What one client of the workload saw: plain values, which can also travel from one process to another."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict

from services.common.models import Order, Trade, Type

Kind = Literal["look_up_hit", "look_up_miss", "look_up_off", "trade", "order_query"]
"""Kinds of requests; a look-up by how the cache answered it, a trade whether accepted or refused."""

Request = Literal["stocks", "look_up", "trade", "order_query"]
What = Literal["looked_up", "acknowledged", "refused", "checked", "error", "wrong"]
Wrong = Literal["answered_other_content", "missing", "other_content", "number_twice"]


class Acknowledged(NamedTuple):
    """A trade as the client asked for it, with the order number it was answered."""

    number: int
    name: str
    type: Type
    quantity: int
    key: str

    @property
    def order(self) -> Order:
        """The order that must exist from now on."""
        return Order(number=self.number, name=self.name, type=self.type, quantity=self.quantity)


class Seen(BaseModel):
    """Something a client saw; `at` is when, UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client: int
    at: datetime


class SeenError(Seen):
    """An error that reached the user, after `seconds`."""

    request: Request
    subject: str
    kind: str
    message: str
    seconds: float


class FailedCheck(Seen):
    """An acknowledged order that is not what it must be."""

    wrong: Wrong
    number: int
    key: str
    expected: str
    found: str


class LongestTrade(Seen):
    """The trade somebody waited for longest, until its answer or until it was given up."""

    ms: float


class Event(NamedTuple):
    """Something that just happened to client number `client`."""

    client: int
    what: What
    seconds: float
    acknowledged: Acknowledged | None = None
    error: SeenError | None = None
    failed_check: FailedCheck | None = None


OnEvent: TypeAlias = Callable[[Event], None]


@dataclass
class WorkloadRecord:
    """Everything one client saw; `unknown` are the trades whose outcome it never learned."""

    latencies: dict[Kind, list[float]] = field(default_factory=dict)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    unknown: list[Trade] = field(default_factory=list)
    refused: int = 0
    checked: int = 0
    retries: int = 0
    errors: list[SeenError] = field(default_factory=list)
    failed_checks: list[FailedCheck] = field(default_factory=list)
    longest_trade: LongestTrade | None = None
