"""The body of `bazaar evaluate hosts`."""

import asyncio
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
from eval.tables import new_table, span


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
    trades = _table("Trades: median (lowest to highest) of all rounds", "store", "connections")
    for store, label in LABELS.items():
        rows = [by_connections(result.trades[store], measure) for measure in (_rate, _p50, _p99)]
        _add_rows(trades, rows, label)
    console.print(trades)
    look_ups = _table("Cached look-ups, at all front-ends together", "front-ends")
    _add_rows(look_ups, [by_front_ends(result.look_ups, measure) for measure in (_rate, _p50, _p99)])
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
    for heading in ("a second", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    return table


def _add_rows(table: Table, figures: list[dict[float, Spread | None]], *names: str) -> None:
    for place in figures[0]:
        table.add_row(*names, f"{place:g}", *(span(each[place]) for each in figures))


def _rate(sample: Sample) -> float:
    return sample.per_second


def _p50(sample: Sample) -> float:
    return sample.p50_ms


def _p99(sample: Sample) -> float:
    return sample.p99_ms
