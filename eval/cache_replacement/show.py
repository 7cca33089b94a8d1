"""The experiment for human eyes: a bar while it goes on, a table of hit ratios at the end, and the verdict last."""

import statistics
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from eval.cache_replacement.requests import POPULARITIES
from eval.cache_replacement.results import Result, Sample

SHOWN = 10


def print_result(result: Result, console: Console) -> None:
    """Print the table, what went wrong, and the verdict last."""
    console.print(ratio_table(result))
    for problem in result.problems[:SHOWN]:
        console.print(f"not as it should be: {problem}", style="red", soft_wrap=True)
    lost = sum(each.sessions_lost for each in result.samples)
    if lost:
        console.print(f"the cache lost its session {lost} times: the machine was busy with other things")
    console.print(verdict(result), style="bold green" if result.passed else "bold red", soft_wrap=True)


def verdict(result: Result) -> str:
    """What came out, in one line."""
    look_ups = sum(each.look_ups for each in result.samples)
    different = sum(each.differences for each in result.samples) + sum(len(each.differences) for each in result.traces)
    steps = sum(len(each.steps) for each in result.traces)
    return (
        f"{look_ups:,} look-ups counted and {steps:,} requests watched in {result.duration_s:.0f} s, "
        f"{different:,} answered otherwise than by an LRU (seed {result.seed})"
    )


def ratio_table(result: Result) -> Table:
    """One row for each size of cache; medians over the repetitions."""
    table = Table(
        title=f"Look-ups that hit, by size of the cache; there are {len(result.stocks)} stocks",
        title_justify="left",
        caption="by popularity of the stocks and probability p of a trade after a look-up",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("cached", justify="right")
    columns = [(popularity, p) for popularity in POPULARITIES for p in sorted({each.p for each in result.samples})]
    for popularity, p in columns:
        table.add_column(f"{popularity}\np = {p:.0%}", justify="right", no_wrap=True)
    for capacity in sorted({each.capacity for each in result.samples}):
        mine = [each for each in result.samples if each.capacity == capacity]
        cells = [_median([each for each in mine if (each.popularity, each.p) == column]) for column in columns]
        table.add_row(str(capacity), *cells)
    return table


def _median(samples: Sequence[Sample]) -> str:
    return f"{statistics.median(each.hit_ratio for each in samples):.1%}" if samples else "-"
