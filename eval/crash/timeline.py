"""Latency over time in a form that a file can hold: all operations in bins, and those around a kill one by one."""

import statistics
from collections.abc import Sequence

from pydantic import BaseModel

from eval.chaos.report import wait_ms
from eval.history import Kind, Operation

BIN_S = 0.05
BEFORE_MS = 200.0
AFTER_MS = 800.0

KINDS: tuple[Kind, ...] = ("look_up", "trade", "order")


class Bins(BaseModel):
    """Operations of one kind by the moment at which they began. Columns of equal length, one element a bin with any.

    at_s: where the bin begins, seconds since the start of the run.
    """

    at_s: list[float] = []
    count: list[int] = []
    median_ms: list[float] = []
    longest_ms: list[float] = []


class Strip(BaseModel):
    """Operations of one kind that began around a kill, or were in flight at it. began_ms: counted from the kill."""

    began_ms: list[float] = []
    wait_ms: list[float] = []


def bins(operations: Sequence[Operation], started: float) -> dict[Kind, Bins]:
    """All operations that were answered, in bins of `BIN_S`."""
    waits: dict[Kind, dict[int, list[float]]] = {kind: {} for kind in KINDS}
    for each in operations:
        if each.status:
            waits[each.kind].setdefault(int((each.began - started) / BIN_S), []).append(wait_ms(each))
    return {
        kind: Bins(
            at_s=[round(number * BIN_S, 2) for number in sorted(by_bin)],
            count=[len(by_bin[number]) for number in sorted(by_bin)],
            median_ms=[round(statistics.median(by_bin[number]), 1) for number in sorted(by_bin)],
            longest_ms=[max(by_bin[number]) for number in sorted(by_bin)],
        )
        for kind, by_bin in waits.items()
    }


def strips(operations: Sequence[Operation], killed: float) -> dict[Kind, Strip]:
    """What clients saw around a kill."""
    found = {kind: Strip() for kind in KINDS}
    for each in operations:
        began_ms = (each.began - killed) * 1_000
        ended_ms = (each.ended - killed) * 1_000
        if each.status and began_ms <= AFTER_MS and ended_ms >= -BEFORE_MS:
            found[each.kind].began_ms.append(round(began_ms, 1))
            found[each.kind].wait_ms.append(wait_ms(each))
    return found
