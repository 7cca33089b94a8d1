"""The pictures, drawn from the result alone: what is cached over time, and hit ratio against size."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from eval.cache_replacement.requests import POPULARITIES, Popularity, weights
from eval.cache_replacement.results import Result, Trace

HIT, MISS, EVICTED, INVALIDATED, TRADE, LOST = "#2f7d4f", "#34618f", "#c2452d", "#b8860b", "#8a8a8a", "#000000"
CACHED = "#dbe5ef"
MARKS = {
    "hit": ("o", HIT, "look-up, hit"),
    "miss": ("^", MISS, "look-up, miss: stored, most recently used"),
    "evicted": ("X", EVICTED, "evicted: least recently used when another stock was stored"),
    "invalidated": ("D", INVALIDATED, "traded, so invalidated"),
    "trade": ("|", TRADE, "traded, was not cached"),
    "lost": ("*", LOST, "dropped with the cache's session"),
}
"""Shape, colour and words of what can happen to a stock."""

TITLES: dict[Popularity, str] = {"uniform": "all stocks equally popular", "zipf": "popularity 1/rank (Zipf)"}
COLOURS = ("#34618f", "#c2852d", "#a8326e", "#2f7d4f", "#6b4fa0")
SHAPES = ("o", "s", "^", "D", "v")


def plot_result(result: Result, out: Path) -> None:
    """Write both pictures into a folder."""
    plot_replacement(result, out / "replacement.png")
    plot_hit_ratio(result, out / "hit_ratio.png")


def plot_replacement(result: Result, path: Path) -> None:
    """Write a PNG: a panel for each trace, a row for each stock."""
    capacities = sorted({each.capacity for each in result.traces})
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12, 1.2 + 4.1 * len(capacities)), dpi=140, layout="constrained")
        figure.suptitle(_title(result, "What the cache holds, request by request"), x=0.01, ha="left", fontsize=11)
        axes = figure.subplots(len(capacities), len(POPULARITIES), squeeze=False)
        for row, capacity in zip(axes, capacities, strict=True):
            for each, popularity in zip(row, POPULARITIES, strict=True):
                for trace in result.traces:
                    if (trace.capacity, trace.popularity) == (capacity, popularity):
                        draw_trace(each, trace, result.stocks)
        figure.legend(handles=_legend(result.traces), loc="outside lower left", ncols=4, frameon=False)
        figure.savefig(path)


def draw_trace(axes: Axes, trace: Trace, stocks: Sequence[str]) -> None:
    """One cache over time: bars while a stock is cached, and a mark for all that happens to it."""
    rows = {name: row for row, name in enumerate(stocks)}
    for name, start, end in spans(trace):
        axes.barh(rows[name], end - start, left=start, height=0.86, color=CACHED, linewidth=0, zorder=1)
    for what, (shape, colour, _) in MARKS.items():
        found = marks(trace, what)
        steps, heights = [step for step, _ in found], [rows[name] for _, name in found]
        axes.scatter(steps, heights, marker=shape, color=colour, s=17, zorder=3)
    replaced = [(at, rows[name], rows[step.name]) for at, step in enumerate(trace.steps) for name in step.evicted]
    for at, old, new in replaced:
        axes.plot([at, at], [old, new], color=EVICTED, linewidth=0.7, alpha=0.5, zorder=2)
    axes.set_title(
        f"{trace.capacity} of {len(stocks)} stocks cached, {TITLES[trace.popularity]}, p = {trace.p:.0%}",
        loc="left",
        fontsize=10,
    )
    axes.set_yticks(range(len(stocks)), stocks, fontsize=7)
    axes.set_ylim(len(stocks) - 0.4, -0.6)
    axes.set_xlim(-1, len(trace.steps))
    axes.set_xlabel("request")
    axes.grid(axis="y", color="#f0f0f0", linewidth=0.6, zorder=0)


def spans(trace: Trace) -> list[tuple[str, int, int]]:
    """Each stretch during which a stock is cached: its name, the step that brought it, the one that took it."""
    open_: dict[str, int] = {}
    found = []
    for number, step in enumerate(trace.steps):
        gone = [name for name in open_ if name not in step.entries]
        found += [(name, open_.pop(name), number) for name in gone]
        for name in step.entries:
            open_.setdefault(name, number)
    return found + [(name, start, len(trace.steps)) for name, start in open_.items()]


def marks(trace: Trace, what: str) -> list[tuple[int, str]]:
    """At which step something of this kind happened, and to which stock."""
    found = []
    for number, step in enumerate(trace.steps):
        happened = {
            "hit": [step.name] if step.cache == "hit" else [],
            "miss": [step.name] if step.cache == "miss" else [],
            "evicted": step.evicted,
            "invalidated": step.invalidated,
            "trade": [step.name] if step.trade is not None and not step.invalidated else [],
            "lost": step.lost,
        }
        found += [(number, name) for name in happened[what]]
    return found


def plot_hit_ratio(result: Result, path: Path) -> None:
    """Write a PNG: hit ratio against size, a panel for each popularity, a line for each p."""
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11, 4.4), dpi=140, layout="constrained")
        figure.suptitle(_title(result, "Hit ratio against the size of the cache"), x=0.01, ha="left", fontsize=11)
        for axes, popularity in zip(figure.subplots(1, len(POPULARITIES), sharey=True), POPULARITIES, strict=True):
            _draw_ratios(axes, result, popularity)
        figure.savefig(path)


def _draw_ratios(axes: Axes, result: Result, popularity: Popularity) -> None:
    samples = [each for each in result.samples if each.popularity == popularity]
    count = len(result.stocks)
    shares = weights(popularity, count)
    axes.plot(
        range(count + 1),
        [sum(shares[:size]) for size in range(count + 1)],
        color="#9a9a9a",
        linestyle=":",
        label="share of look-ups that go to so many of the most popular",
    )
    for place, p in enumerate(sorted({each.p for each in samples})):
        mine = [each for each in samples if each.p == p]
        colour, shape = COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)]
        sizes = sorted({each.capacity for each in mine})
        medians, below, above, model = [], [], [], []
        for size in sizes:
            ratios = [each.hit_ratio for each in mine if each.capacity == size]
            medians.append(statistics.median(ratios))
            below.append(medians[-1] - min(ratios))
            above.append(max(ratios) - medians[-1])
            model.append(statistics.median(each.model_ratio for each in mine if each.capacity == size))
        axes.errorbar(
            sizes,
            medians,
            yerr=[below, above],
            color=colour,
            marker=shape,
            markersize=5,
            capsize=2,
            label=f"p = {p:.0%}",
        )
        axes.scatter(sizes, model, s=90, facecolors="none", edgecolors=colour, linewidths=0.7, zorder=3)
    axes.scatter([], [], s=90, facecolors="none", edgecolors="#555555", linewidths=0.7, label="an LRU by the book")
    axes.set_title(TITLES[popularity], loc="left", fontsize=10)
    axes.set_xlabel(f"stocks in the cache, of {count}")
    if popularity == POPULARITIES[0]:
        axes.set_ylabel("look-ups that hit")
    axes.set_xlim(0, count + 0.6)
    axes.set_ylim(0, 1.03)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(color="#ececec", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _title(result: Result, what: str) -> str:
    machine = result.machine
    return (
        f"{what}, as the running front-end says by X-Cache and GET /cache\n"
        f"{result.command}: seed {result.seed}, {machine.processor}, {machine.cores} cores, commit {machine.commit}"
    )


def _legend(traces: Sequence[Trace]) -> list[Line2D | Patch]:
    shown: list[Line2D | Patch] = [Patch(color=CACHED, label="cached")]
    for what, (shape, colour, words) in MARKS.items():
        if any(marks(trace, what) for trace in traces):
            shown.append(Line2D([], [], marker=shape, linestyle="", color=colour, markersize=6, label=words))
    return [*shown, Line2D([], [], color=EVICTED, linewidth=0.8, label="what replaced what")]
