"""The story as data: what each act showed, and the verdict. Plain values."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel

from client.bazaar import CacheResult
from eval.chaos.report import longest_ms
from eval.crash.files import Comparison
from eval.crash.report import Back
from eval.history import Operation

CONTENT = ("number", "name", "type", "quantity")
"""What makes an order the one that was acknowledged."""


class Opening(BaseModel):
    """The bazaar is up. ready_s: from nothing until every service can do its job. room: the control room's address."""

    services: int
    replicas: int
    ready_s: float
    leader: str
    room: str


class LookUp(BaseModel):
    """What one look-up was answered."""

    cache: CacheResult
    quantity: int


class Customer(BaseModel):
    """Two look-ups, a trade, and a look-up after it. number: the order's; None when the trade was refused."""

    stock: str
    before: list[LookUp]
    bought: int
    number: int | None
    after: LookUp


class Trading(BaseModel):
    """What the clients did for a while. longest_ms: the longest wait for any answer; None when there was none."""

    seconds: float
    orders: int
    longest_ms: float | None

    @property
    def per_s(self) -> float:
        """Orders in a second."""
        return self.orders / self.seconds if self.seconds else 0.0


class FailOver(BaseModel):
    """The leader's death, and what came of it, in ms after it; None for what did not come. first_ms: a new trade.

    meanwhile: from the kill until the replica is started again.
    """

    victim: str
    pid: int
    noticed_ms: float | None
    selected: str
    selected_ms: float | None
    first_ms: float | None
    meanwhile: Trading | None = None


class Return(Back):
    """The dead replica's return."""

    replica: str


class Verdict(BaseModel):
    """What is left in the end.

    orders: acknowledged ones. asked: those of them that were asked for again, and got an answer. lost: those that it
    did not give back as they were acknowledged. operations: requests of all clients; each was checked against the
    databases.
    """

    passed: bool
    text: str
    orders: int
    asked: int
    lost: int
    longest_ms: float
    operations: int
    files: Comparison
    problems: list[str]
    errors: list[str]


class Story(BaseModel):
    """The whole story. An act that was not reached is None."""

    started_at: datetime
    clients: int
    duration_s: float = 0.0
    opening: Opening | None = None
    customer: Customer | None = None
    trading: Trading | None = None
    fail_over: FailOver | None = None
    back: Return | None = None
    verdict: Verdict | None = None


def trading(operations: Sequence[Operation], began: float, ended: float) -> Trading:
    """What was answered between two moments of the monotonic clock."""
    answered = [each for each in operations if began <= each.ended < ended]
    return Trading(
        seconds=round(ended - began, 3),
        orders=sum(_is_order(each) for each in answered),
        longest_ms=max(longest_ms(answered).values(), default=None),
    )


def conclude(operations: Sequence[Operation], files: Comparison, problems: list[str], errors: list[str]) -> Verdict:
    """Judge. files: of the stopped bazaar; problems: what checks found; errors: those that reached a client."""
    orders = [(each.seen["number"], each.name, each.type, each.quantity) for each in operations if _is_order(each)]
    queries = [each for each in operations if each.kind == "order" and each.status in {200, 404}]
    numbers = {each.number for each in queries}
    found = {tuple(each.seen.get(member) for member in CONTENT) for each in queries}
    asked = [each for each in orders if each[0] in numbers]
    lost = sum(each not in found for each in asked)
    longest = max(longest_ms(each for each in operations if each.status).values(), default=0.0)
    is_whole = len(asked) == len(orders) and not lost and files.same
    facts = [
        f"{lost:,} {'order' if lost == 1 else 'orders'} lost",
        f"{identical(files)} of {len(files.sha256)} databases identical",
        f"longest wait {longest:,.0f} ms",
        *([f"{len(orders) - len(asked):,} not asked for"] if len(asked) < len(orders) else []),
        *([f"violations: {len(problems)}"] if problems else []),
        *([f"errors seen by clients: {len(errors)}"] if errors else []),
    ]
    return Verdict(
        passed=is_whole and not problems and not errors,
        text=", ".join(facts),
        orders=len(orders),
        asked=len(asked),
        lost=lost,
        longest_ms=longest,
        operations=len(operations),
        files=files,
        problems=problems,
        errors=errors,
    )


def identical(files: Comparison) -> int:
    """How many files hold the same as each other."""
    return max(Counter(files.sha256.values()).values(), default=0)


def _is_order(operation: Operation) -> bool:
    return operation.kind == "trade" and operation.status == 201
