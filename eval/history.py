"""What clients asked and were told, and what must hold of it: K1 to K9 of docs/design.md, exactly.

Every operation gets an interval of moments in the order log at which it may have taken effect: a decided trade
exactly its own position, a look-up between the change that made what it saw and the next one, an order query after
its order's position, "no such order" before it. The history is linearizable when moments can be chosen that respect
real time, and for intervals on a line that is so exactly when no operation that ended before another one began must
lie after it.
"""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from services.catalog.inventory import fold_one
from services.common.digest import empty_head, follows, head_at
from services.common.models import Entry, Stock

Kind = Literal["trade", "look_up", "order"]
FOREVER = 2**62


@dataclass
class Operation:
    """One request of one client. status: 0 while, or when, there was no answer."""

    client: str
    kind: Kind
    began: float
    name: str = ""
    key: str = ""
    type: str = ""
    quantity: int = 0
    number: int = 0
    ended: float = float("inf")
    status: int = 0
    seen: dict[str, Any] = field(default_factory=dict)
    via: str = ""

    def __str__(self) -> str:
        what = {
            "trade": f"{self.type} {self.quantity} {self.name} key {self.key}",
            "look_up": f"look up {self.name}",
            "order": f"query order {self.number}",
        }[self.kind]
        return f"{self.client} {what} via {self.via} [{self.began:.4f}, {self.ended:.4f}] -> {self.status} {self.seen}"


@dataclass
class Evidence:
    """The end of a run: logs, the catalog's stocks, operations.

    starts: generation to the position that it began at. decided_at: when each key was decided at the latest, by the
    clock of the operations, where that is known.
    """

    initial: list[Stock]
    logs: dict[str, list[Entry]]
    stocks: list[Stock]
    operations: list[Operation]
    starts: dict[int, int]
    quiet_since: float = float("inf")
    decided_at: dict[str, float] = field(default_factory=dict)


class _Log:
    """The longest log, found by key, by order number and by stock; made once, asked by every operation."""

    def __init__(self, initial: Sequence[Stock], entries: list[Entry], operations: Iterable[Operation]) -> None:
        self.by_key = {entry.key: entry for entry in entries}
        self.by_number = {entry.number: entry for entry in entries if entry.number is not None}
        self.changes = {stock.name: [0] for stock in initial}
        """Each stock's versions: the positions of its accepted entries, after 0 for the beginning."""
        self.quantities = {stock.name: [stock.quantity] for stock in initial}
        """What each of these versions left of the stock."""
        for entry in self.by_number.values():
            quantities = self.quantities[entry.name]
            quantities.append(quantities[-1] + (entry.quantity if entry.type == "sell" else -entry.quantity))
            self.changes[entry.name].append(entry.position)
        self.first_began: dict[str, float] = {}
        """When the first trade with each key began."""
        for op in operations:
            if op.kind == "trade":
                self.first_began[op.key] = min(op.began, self.first_began.get(op.key, op.began))


def check(evidence: Evidence, patience_s: float = 12.0) -> list[str]:
    """Every violation, in words."""
    longest = max(evidence.logs.values(), key=len)
    problems = list(_check_logs(evidence, longest))
    if not problems:
        log = _Log(evidence.initial, longest, evidence.operations)
        problems += _check_answers(evidence, log)
        problems += _check_real_time(evidence, log)
    problems += _check_patience(evidence, patience_s)
    return problems


def _check_logs(evidence: Evidence, log: list[Entry]) -> Iterable[str]:
    """K4 and K5, and K2 without real time."""
    for name, other in evidence.logs.items():
        if other != log[: len(other)]:
            yield f"K4: the log of {name} is no prefix"
        if len(other) != len(log):
            yield f"K5: {name} has {len(other)} entries at rest, another replica {len(log)}"
    head = empty_head(evidence.initial)
    for entry in log:
        if not follows(entry, head):
            yield f"K4: position {entry.position} does not follow"
            return
        head = head_at(entry, head)
    if len({entry.key for entry in log}) != len(log):
        yield "K3: a key stands twice in the log"
    stocks = {stock.name: stock for stock in evidence.initial}
    for entry in log:
        held = stocks[entry.name].quantity
        enough = entry.type == "sell" or held >= entry.quantity
        if enough != (entry.number is not None):
            yield f"K5: position {entry.position} was decided wrongly, there were {held} of {entry.name}"
            return
        fold_one(stocks, entry)
    if {s.name: (s.quantity, s.version) for s in evidence.stocks} != {
        s.name: (s.quantity, s.version) for s in stocks.values()
    }:
        yield "K5: the catalog's stocks are not what the log adds up to"


def _check_answers(evidence: Evidence, log: _Log) -> Iterable[str]:
    """K1, K3 and K7, and the meaning of 503: what was answered is what is in the log."""
    executing = _first_that_may_execute(evidence.operations)
    for op in evidence.operations:
        if op.status not in {0, 200, 201, 404, 409, 422, 503, 504} or (op.status == 404 and op.kind != "order"):
            yield f"an answer that must not be: {op}"
        elif op.kind == "trade":
            entry = log.by_key.get(op.key)
            is_early = evidence.decided_at.get(op.key, FOREVER) < executing.get(op.key, FOREVER)
            wrong = _wrong_answer(op, entry, is_executed=is_early or op.key not in executing)
            if wrong:
                yield f"{wrong}, the log has {entry}: {op}"
        elif op.kind == "order" and op.status == 200:
            entry = log.by_number.get(op.number)
            seen = (op.seen["name"], op.seen["type"], op.seen["quantity"], op.seen["number"])
            if entry is None or seen != (entry.name, entry.type, entry.quantity, entry.number):
                yield f"K7: another order, the log has {entry}: {op}"


def _first_that_may_execute(operations: Iterable[Operation]) -> dict[str, float]:
    """When the first trade with each key began that was not answered "certainly not executed"."""
    began: dict[str, float] = {}
    for op in operations:
        if op.kind == "trade" and op.status != 503:
            began[op.key] = min(op.began, began.get(op.key, op.began))
    return began


def _wrong_answer(op: Operation, entry: Entry | None, *, is_executed: bool) -> str | None:
    """What is wrong with the answer to a trade whose key has `entry`.

    is_executed: if there is an entry, only a trade that was answered 503 can have made it.
    """
    if op.status == 503:
        return "503 was not definite" if entry is not None and is_executed else None
    if op.status not in {201, 409, 422}:
        return None
    if entry is None:
        return "K1: answered, but not in the log"
    if op.status == 422:
        return "K3: called another trade's key" if _is_same(op, entry) else None
    if not _is_same(op, entry):
        return "K1: answered for other content"
    if op.status == 409:
        return "K3: refused, but executed" if entry.number is not None else None
    return "K1: acknowledged under another number" if entry.number != op.seen["number"] else None


def _is_same(op: Operation, entry: Entry) -> bool:
    return (op.name, op.type, op.quantity) == (entry.name, entry.type, entry.quantity)


def _check_real_time(evidence: Evidence, log: _Log) -> Iterable[str]:
    """K2, K6 and K7: one order of everything that respects real time."""
    spans: list[tuple[float, float, int, int, Operation]] = []
    for op in evidence.operations:
        span = _span(op, evidence, log)
        if isinstance(span, str):
            yield span
        elif span is not None:
            # An entry that nobody was told of took effect at some time after its trade began, so it has no end.
            spans.append((op.began, op.ended if op.status else float("inf"), *span, op))
    spans.sort(key=lambda span: span[1])
    ends = [span[1] for span in spans]
    highest: list[int] = []  # of those that ended so far: the one that must lie furthest on
    for index, (_, _, low, _, _) in enumerate(spans):
        highest.append(index if not highest or low > spans[highest[-1]][2] else highest[-1])
    for began, _, _, high, op in spans:
        before = bisect.bisect_left(ends, began)
        if before and spans[highest[before - 1]][2] > high:
            yield f"K2/K6/K7: not linearizable: {op} came after {spans[highest[before - 1]][4]}"


def _span(op: Operation, evidence: Evidence, log: _Log) -> tuple[int, int] | str | None:
    """The first and the last moment at which the operation may have taken effect."""
    if op.kind == "trade":
        entry = log.by_key.get(op.key)
        if entry is None or op.status in {422, 503, 504}:
            return None
        # A repeated key is answered with the old entry, so only the first trade with a key took effect there.
        is_first = op.began == log.first_began[op.key]
        return (at(entry.position), at(entry.position) if is_first else FOREVER)
    if op.kind == "order":
        entry = log.by_number.get(op.number)
        if op.status == 404:
            return (0, at(entry.position) - 1) if entry is not None else None
        return (at(entry.position) + 1, FOREVER) if op.status == 200 and entry is not None else None
    if op.status != 200:
        return None
    return _span_of_look_up(op, evidence, log)


def _span_of_look_up(op: Operation, evidence: Evidence, log: _Log) -> tuple[int, int] | str | None:
    generation, version = (int(part) for part in op.seen["etag"].strip('"').split("-"))
    if any(version > start for g, start in evidence.starts.items() if g > generation):
        return None  # the effect of a trade that nobody was told of may vanish with the catalog's disk
    changes = log.changes[op.name]
    index = bisect.bisect_left(changes, version)
    if index == len(changes) or changes[index] != version:
        return f"K6: a look-up saw a change that the log does not have: {op}"
    quantity = log.quantities[op.name][index]
    if quantity != op.seen["quantity"]:
        return f"K6: a look-up saw another quantity than {quantity}: {op}"
    return at(version) + 1, FOREVER if index + 1 == len(changes) else at(changes[index + 1]) - 1


def at(position: int) -> int:
    """The moment at which an entry took effect. Reads lie between two of them, so moments are counted in halves."""
    return 2 * position


def _check_patience(evidence: Evidence, patience_s: float) -> Iterable[str]:
    """K9: every request is answered in time; once the faults have stopped, every answer is a good one."""
    for op in evidence.operations:
        if op.began >= evidence.quiet_since and op.status not in {200, 201, 304, 404, 409, 422}:
            yield f"K9: no good answer although all was quiet: {op}"
        if op.ended - op.began > patience_s and op.status:
            yield f"K9: the answer took {op.ended - op.began:.1f} s: {op}"
