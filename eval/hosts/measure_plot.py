"""Trades on SQLite and on etcd side by side, and look-ups against the number of front-ends."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.bench.results import Spread
from eval.drawing import draw_spreads
from eval.hosts.results import LABELS, MeasureResult, Store, by_connections, by_front_ends

STYLES: dict[Store, tuple[str, str]] = {"sqlite": ("#2a6f97", "o"), "etcd": ("#c2452d", "s")}


def plot_result(result: MeasureResult, folder: Path) -> None:
    """Write `measure.png`."""
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12, 3.8), dpi=110, layout="constrained")
        figure.suptitle(_title(result), x=0.01, ha="left", fontsize=10)
        rates, waits, look_ups = figure.subplots(1, 3)
        for store, samples in result.trades.items():
            style = STYLES[store]
            draw_spreads(rates, by_connections(samples, lambda each: each.per_second), *style, label=LABELS[store])
            draw_spreads(waits, by_connections(samples, lambda each: each.p50_ms), *style)
        _axes(rates, "trades", "connections", "trades a second", result.settings.connections)
        _axes(waits, "wait of a trade", "connections", "p50, ms", result.settings.connections)
        rates.legend(frameon=False, loc="upper left")
        figures: dict[float, Spread | None] = by_front_ends(result.look_ups, lambda each: each.per_second)
        draw_spreads(look_ups, figures, STYLES["sqlite"][0], "o")
        _axes(look_ups, "look-ups, cached", "front-ends", "look-ups a second", result.settings.front_ends)
        figure.savefig(folder / "measure.png")


def _title(result: MeasureResult) -> str:
    machine = result.machine
    return (
        f"{result.command}: medians of {result.settings.rounds} rounds, with the lowest and the highest\n"
        f"all processes and the clients on one machine of {machine.cores} cores ({machine.processor})"
    )


def _axes(axes: Axes, heading: str, x: str, y: str, places: tuple[int, ...]) -> None:
    axes.set_title(heading, loc="left", fontweight="bold", fontsize=9)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(place) for place in places])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
