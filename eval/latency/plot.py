"""The plots of an experiment, drawn from its result alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from eval.drawing import draw_spreads
from eval.latency.results import LABELS, AnyKind, CacheMode, Result
from eval.latency.show import loop
from eval.latency.statistics import Condition, Measure

# The palette of Okabe and Ito: told apart by everybody, and in grey as well.
MEASURE_STYLES: dict[Measure, tuple[str, str, str]] = {
    "p99_ms": ("p99", "#D55E00", "^"),
    "p90_ms": ("p90", "#E69F00", "s"),
    "mean_ms": ("mean", "#0072B2", "o"),
    "p50_ms": ("p50", "#009E73", "v"),
}
CACHE_STYLES: dict[CacheMode, tuple[str, str, str]] = {"on": ("#0072B2", "o", "-"), "off": ("#D55E00", "s", "--")}
POINTS = "#5f5f5f"
GRID = {"axis": "y", "color": "#e4e4e4", "linewidth": 0.6}
PANELS: tuple[tuple[tuple[AnyKind, CacheMode, str], ...], ...] = (
    (
        ("look_up_hit", "on", "look-up, cache hit"),
        ("look_up_miss", "on", "look-up, cache miss"),
        ("look_up_off", "off", "look-up, cache off"),
    ),
    (("trade", "on", "trade, cache on"), ("trade", "off", "trade, cache off")),
    (("order_query", "on", "order query, cache on"), ("order_query", "off", "order query, cache off")),
)
"""One row for each kind of request, on the same scale."""


def plot_result(result: Result, out: Path) -> list[Path]:
    """Write `latency.png`, each kind of request, and, when both modes were measured, `cache.png`."""
    paths = [out / "latency.png"]
    _plot_kinds(result, paths[0])
    if len(result.settings.caches) > 1:
        paths.append(out / "cache.png")
        _plot_cache(result, paths[1])
    return paths


@contextmanager
def drawing(path: Path, size: tuple[float, float], title: str) -> Iterator[Figure]:
    """A figure in the style of all, written at the end."""
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        yield figure
        figure.savefig(path)


def title(result: Result, what: str) -> str:
    """What is shown, and under which conditions it was measured."""
    machine, settings = result.machine, result.settings
    where = ", ".join(settings.urls) if settings.urls else "clients and bazaar on the same machine"
    stocks = f"cache of {settings.cache_size} stocks, " if not settings.urls else ""
    return (
        f"{what}\n{loop(settings)}\n{stocks}repetitions: {settings.repetitions}, in random order; {where}\n"
        f"{machine.processor}, {machine.cores} cores, Python {machine.python}, commit {machine.commit}"
    )


def _plot_kinds(result: Result, path: Path) -> None:
    what = (
        "Latency of each kind of request against the trade probability p\n"
        "lines: medians over the repetitions, bars from the lowest to the highest; "
        "small points: mean of each client in each repetition, from client 1 at the left to the last at the right"
    )
    seen = {(kind, run.cache) for run in result.runs for kind in run.of_all}
    rows = [each for each in ([panel for panel in row if panel[:2] in seen] for row in PANELS) if each]
    columns = max(len(row) for row in rows)
    with drawing(path, (4.6 * columns, 3.6 * len(rows) + 1.4), title(result, what)) as figure:
        grid = figure.add_gridspec(len(rows), columns)
        for place, row in enumerate(rows):
            first: Axes | None = None
            for column, (kind, cache, label) in enumerate(row):
                axes = figure.add_subplot(grid[place, column], sharey=first)
                first = first or axes
                _draw_kind(axes, result, kind, cache)
                axes.set_title(label, loc="left", fontweight="bold")
            if len(row) == 2 and columns == 3:
                _draw_modes(figure.add_subplot(grid[place, 2]), result, row[0][0])
        figure.legend(handles=_legend(), loc="outside lower center", frameon=False, ncols=5)


def _draw_modes(axes: Axes, result: Result, kind: AnyKind) -> None:
    """The means of one kind of request, the cache on and off."""
    settings = result.settings
    for cache, (colour, marker, style) in CACHE_STYLES.items():
        figures = {
            100 * p: Condition(result, p, settings.round_trips_ms[0]).latency(kind, cache, "mean_ms")
            for p in settings.probabilities
        }
        draw_spreads(axes, figures, colour, marker, style, f"cache {cache}")
    axes.set_title(f"{LABELS[kind]}, on and off", loc="left", fontweight="bold")
    _percent(axes, settings.probabilities)
    axes.set_ylabel("mean latency, ms")
    from_zero(axes)
    legend(axes)


def _draw_kind(axes: Axes, result: Result, kind: AnyKind, cache: CacheMode) -> None:
    """All measures of one kind of request over p, and each client's mean."""
    settings = result.settings
    for p in settings.probabilities:
        runs = Condition(result, p, settings.round_trips_ms[0]).runs(cache)
        for client in range(settings.clients):
            values = [run.of_clients[client][kind].mean_ms for run in runs if kind in run.of_clients[client]]
            # Side by side, so that each client's own points are seen.
            place = 100 * p + 7 * ((client + 0.5) / settings.clients - 0.5)
            axes.plot([place] * len(values), values, ".", color=POINTS, markersize=3, alpha=0.7, zorder=2)
    for measure, (_, colour, marker) in MEASURE_STYLES.items():
        figures = {
            100 * p: Condition(result, p, settings.round_trips_ms[0]).latency(kind, cache, measure)
            for p in settings.probabilities
        }
        draw_spreads(axes, figures, colour, marker, "-" if measure == "mean_ms" else ":")
    _percent(axes, settings.probabilities)
    axes.set_yscale("log")
    plain_numbers(axes)
    axes.set_ylabel("latency seen by the client, ms")


def _plot_cache(result: Result, path: Path) -> None:
    settings = result.settings
    conditions = {100 * p: Condition(result, p, settings.round_trips_ms[0]) for p in settings.probabilities}
    what = (
        "Cache on against cache off\n"
        "medians over the repetitions, bars from the lowest to the highest; ratios are taken within each repetition"
    )
    with drawing(path, (11.5, 8.4), title(result, what)) as figure:
        axes = figure.subplots(2, 2)
        kinds: tuple[AnyKind, AnyKind] = ("look_up", "trade")
        for kind, place, label in zip(kinds, (axes[0][0], axes[1][0]), ("all look-ups", "trades"), strict=True):
            for cache, (colour, marker, style) in CACHE_STYLES.items():
                figures = {each: found.latency(kind, cache, "mean_ms") for each, found in conditions.items()}
                draw_spreads(place, figures, colour, marker, style, f"cache {cache}")
            place.set_title(label, loc="left", fontweight="bold")
            place.set_ylabel("mean latency, ms")
            from_zero(place)
            legend(place)
        ratios = axes[0][1]
        draw_spreads(ratios, {x: each.benefit() for x, each in conditions.items()}, "#0072B2", "o", "-", "look-up")
        trades = {x: each.benefit("trade") for x, each in conditions.items()}
        draw_spreads(ratios, trades, "#CC79A7", "D", "--", "trade")
        ratios.axhline(1, color="#8a8a8a", linewidth=0.8)
        from_zero(ratios)
        ratios.set_title("benefit of the cache", loc="left", fontweight="bold")
        ratios.set_ylabel("mean latency, cache off / cache on\nabove 1: the cache helps")
        legend(ratios)
        _draw_hits(axes[1][1], conditions)
        for each in axes.flat:
            _percent(each, settings.probabilities)


def _draw_hits(axes: Axes, conditions: dict[float, Condition]) -> None:
    """How many look-ups the cache answered, and how many reached the catalog."""
    draw_spreads(axes, {x: each.hit_ratio() for x, each in conditions.items()}, "#009E73", "v", "-", "hits, cache on")
    for cache, (colour, marker, style) in CACHE_STYLES.items():
        figures = {x: each.catalog_look_ups(cache) for x, each in conditions.items()}
        draw_spreads(axes, figures, colour, marker, style, f"reach the catalog, cache {cache}")
    axes.set_ylim(0, 1.09)
    axes.set_title("who answers a look-up", loc="left", fontweight="bold")
    axes.set_ylabel("share of all look-ups")
    legend(axes)


def _legend() -> list[Line2D]:
    lines = [
        Line2D([], [], color=colour, marker=marker, linestyle="-" if measure == "mean_ms" else ":", label=label)
        for measure, (label, colour, marker) in MEASURE_STYLES.items()
    ]
    return [*lines, Line2D([], [], color=POINTS, marker=".", linestyle="", label="one client, mean")]


def _percent(axes: Axes, probabilities: tuple[float, ...]) -> None:
    places = [100 * p for p in probabilities]
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xlim(min(places) - 6, max(places) + 6)
    axes.set_xlabel("p, probability of a trade after a look-up, %")
    axes.grid(**GRID)  # type: ignore[arg-type]


def from_zero(axes: Axes) -> None:
    """Begin at zero, and leave room above what is highest."""
    axes.set_ylim(0, 1.12 * axes.get_ylim()[1])


def legend(axes: Axes) -> None:
    """Name what is drawn, if anything is."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def plain_numbers(axes: Axes) -> None:
    """Write 0.5 and 20 on a logarithmic axis, not powers of ten."""
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:,g}" if f"{value:e}"[0] in "25" else "")
