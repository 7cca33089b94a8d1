"""The body of `bazaar evaluate hosts`."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.console import LiveSteps, make_console
from eval.bench.generators import choose
from eval.bench.results import Spread
from eval.deliver import INTERRUPTED, deliver, run_to_end
from eval.etcd_node import require_etcd
from eval.hosts.measure import Measure
from eval.hosts.measure_plot import plot_result
from eval.hosts.results import LABELS, MeasureResult, MeasureSettings, Sample, by_connections, by_front_ends
from eval.interrupt import stop_on_signals
from eval.tables import new_table, number


def _cpu(kind: str) -> Callable[[Sample], float]:
    return lambda sample: sample.cpu_us.get(kind, 0.0)


KINDS = ("front-end", "order", "catalog", "etcd")
MEASURES: tuple[Callable[[Sample], float], ...] = (
    lambda sample: sample.per_second,
    lambda sample: sample.p50_ms,
    lambda sample: sample.p99_ms,
    *(_cpu(kind) for kind in KINDS),
)
"""In the order of the tables' columns; the last ones are processor time a request, by kind of process."""


def chosen_settings(*, quick: bool, rounds: int | None, seconds: float | None, command: str) -> MeasureSettings:
    """What the flags mean; what is None is as `--quick`, or its absence, says."""
    short = MeasureSettings(rounds=1, seconds=1.0) if quick else MeasureSettings()
    return short.model_copy(
        update={"rounds": rounds or short.rounds, "seconds": seconds or short.seconds, "command": command}
    )


def run_command(settings: MeasureSettings, out: Path, *, as_json: bool) -> int:
    """Measure, write `measure.json` and `measure.png`, show the result, and give the exit code. Raises CannotDo.

    Ctrl-C ends everything at once and writes nothing.
    """
    require_etcd()
    result = run_to_end(_run(settings), asyncio.new_event_loop)
    if result is None:
        return INTERRUPTED
    deliver(result, out / "measure.json", plot_result, print_result, as_json=as_json)
    return 0


async def _run(settings: MeasureSettings) -> MeasureResult:
    stop_on_signals()
    measure = Measure(settings, choose())
    with LiveSteps("hosts", measure.steps, make_console(stderr=True)) as live:
        measure.on_step = live.on_step
        return await measure.run()


def print_result(result: MeasureResult, console: Console) -> None:
    """Print the two tables, and what they were made on."""
    trades = _table("Trades: medians of all rounds; us: processor time of each", "store", "connections")
    for store, label in LABELS.items():
        rows = [by_connections(result.trades[store], measure) for measure in MEASURES]
        _add_rows(trades, rows, label)
    console.print(trades)
    look_ups = _table("Cached look-ups, at all front-ends together", "front-ends")
    _add_rows(look_ups, [by_front_ends(result.look_ups, measure) for measure in MEASURES])
    console.print(look_ups)
    errors = sum(each.errors for each in [*result.look_ups, *(one for some in result.trades.values() for one in some)])
    machine = result.machine
    console.print(
        f"{machine.cores} cores, {machine.processor}, data on {result.data_on}, load by {result.generator}, "
        f"{errors:,} requests not answered well",
        soft_wrap=True,
    )


def _table(title: str, *names: str) -> Table:
    table = new_table(title, *names)
    for heading in ("a second", "p50 ms", "p99 ms", *(f"{kind} us" for kind in KINDS)):
        table.add_column(heading, justify="right")
    return table


def _add_rows(table: Table, figures: list[dict[float, Spread | None]], *names: str) -> None:
    for place in figures[0]:
        table.add_row(*names, f"{place:g}", *(_cell(each[place]) for each in figures))


def _cell(spread: Spread | None) -> str:
    """The median; the file has the rest."""
    return "-" if spread is None else number(spread.median)
