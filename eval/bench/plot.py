"""The pictures of a benchmark, drawn from its result alone."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.bench.goals import USUAL, cpu_us, per_second
from eval.bench.results import BAZAAR, LABELS, Result, Subject
from eval.bench.show import process_cpu_us, usual
from eval.bench.statistics import Measure, by_round, spread
from eval.drawing import draw_spreads

COLOURS: dict[Subject, str] = {
    "bare_uvicorn": "#9a9a9a",
    "bare_route": "#6f6f6f",
    "bare_post": "#bcae9e",
    "bare_chain": "#8c7b6b",
    "bare_trade": "#5d4f42",
    "look_up_cached": "#7a9cc6",
    "look_up_uncached": "#34618f",
    "trade": "#c2452d",
    "order_query": "#5aa469",
}
PROCESS_COLOURS = {
    "front-end-1": "#7a9cc6",
    "front-end-2": "#34618f",
    "catalog": "#e9c46a",
    "order-1": "#e8a598",
    "order-2": "#d97b68",
    "order-3": "#c2452d",
}
BARE_COLOURS = ["#6f6f6f", "#8c8c8c", "#a9a9a9", "#c6c6c6", "#dcdcdc"]


def plot_result(result: Result, path: Path) -> None:
    """Write a PNG: requests a second, p50 and p99, processor time by process, and growth where it was measured."""
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(14, 14 if result.scale else 9.5), dpi=110, layout="constrained")
        figure.suptitle(_title(result), x=0.01, ha="left", fontsize=11)
        axes = figure.subplots(3 if result.scale else 2, 2)
        _draw_lines(axes[0][0], result, per_second, "requests a second")
        _draw_lines(axes[0][1], result, lambda sample: sample.p50_ms, "p50, ms")
        _draw_lines(axes[1][0], result, lambda sample: sample.p99_ms, "p99, ms")
        _draw_processes(axes[1][1], result)
        if result.scale:
            few = [each for each in result.starts if each.size.stocks == min(s.size.stocks for s in result.starts)]
            little = [each for each in result.starts if each.size.orders == min(s.size.orders for s in result.starts)]
            _draw_growth(axes[2][0], result, sorted({each.size.orders for each in few}), "orders")
            _draw_growth(axes[2][1], result, sorted({each.size.stocks for each in little}), "stocks")
        figure.savefig(path)


def _title(result: Result) -> str:
    machine = result.machine
    return (
        f"{result.command}: medians of {result.rounds} rounds, bars from the lowest to the highest\n"
        f"{machine.processor}, {machine.cores} cores, Python {machine.python}, commit {machine.commit}"
    )


def _draw_lines(axes: Axes, result: Result, measure: Measure, label: str) -> None:
    """One line a subject over the numbers of connections."""
    connections = sorted({each.connections for each in result.samples})
    for subject, colour in COLOURS.items():
        figures = {
            float(each): spread(list(by_round(result.samples, subject, each, measure).values())) for each in connections
        }
        marker, style = ("o", "-") if subject in BAZAAR else ("s", "--")
        draw_spreads(axes, figures, colour, marker, style, LABELS[subject])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(connections, [str(each) for each in connections])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:,g}" if f"{value:e}"[0] in "25" else "")
    axes.set_xlabel("connections")
    axes.set_ylabel(label)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8)


def _draw_processes(axes: Axes, result: Result) -> None:
    """One bar a subject, put together from its processes."""
    connections = usual(result.samples)
    shown = [subject for subject in reversed(LABELS) if any(each.subject == subject for each in result.samples)]
    for place, subject in enumerate(shown):
        left = 0.0
        for number, (name, used) in enumerate(process_cpu_us(result.samples, subject, connections).items()):
            colour = PROCESS_COLOURS.get(name, BARE_COLOURS[number % len(BARE_COLOURS)])
            axes.barh(place, used, left=left, color=colour, height=0.7)
            left += used
        axes.annotate(f" {left:,.0f}", (left, place), va="center", fontsize=8)
    for name, colour in PROCESS_COLOURS.items():
        axes.barh(0, 0, color=colour, label=name)
    axes.set_yticks(range(len(shown)), [LABELS[subject] for subject in shown])
    axes.set_xlabel(f"processor time a request, us, {connections} connections")
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _draw_growth(axes: Axes, result: Result, values: Sequence[int], what: str) -> None:
    """Processor time a request over the orders or the stocks that the bazaar holds."""
    sizes = [each.size for each in result.starts]
    for subject in BAZAAR:
        points = []
        for value in values:
            size = next(each for each in sizes if getattr(each, what) == value)
            figure = spread(list(by_round(result.scale, subject, USUAL, cpu_us, size).values()))
            if figure is not None:
                points.append((value, figure.median))
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=COLOURS[subject], marker="o", label=LABELS[subject])
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{each:,}" for each in values])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_xlabel(what)
    axes.set_ylabel(f"processor time a request, us, {USUAL} connections")
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8)
