"""The plot of what the simulation found, drawn from the result alone."""

from pathlib import Path

from matplotlib.axes import Axes

from eval.latency.plot import GRID, drawing, from_zero, legend, plain_numbers
from eval.scaling.costs import Measured
from eval.scaling.results import Layout, Result, Series

MEASURED = "#5f5f5f"
SIMULATED = "#0072B2"

STYLES: dict[tuple[str, str], tuple[str, str, str, str]] = {
    ("own", "equal"): ("#0072B2", "o", "-", "own front-ends, equal"),
    ("own", "skewed"): ("#009E73", "v", "-", "own front-ends, skewed"),
    ("own", "skewed, unplaced"): ("#CC79A7", "D", "-", "own front-ends, skewed, unplaced"),
    ("all", "equal"): ("#D55E00", "s", "--", "any front-end, equal"),
    ("all", "skewed"): ("#E69F00", "^", "--", "any front-end, skewed"),
}
NUMBERS = {
    "own sequences": ("#0072B2", "o", "-", "each shard its own"),
    "blocks": ("#E69F00", "s", "--", "blocks of 1,000"),
    "one sequence": ("#D55E00", "^", ":", "one sequence, asked each time"),
}
LAYOUTS: dict[Layout, tuple[str, str, str]] = {
    "customers": ("#0072B2", "o", "there: half of the customers"),
    "front-ends": ("#009E73", "v", "+ a front-end with a cache"),
    "followers": ("#E69F00", "s", "+ the followers"),
    "numbers": ("#D55E00", "^", "+ the one sequence's allocator"),
}


def plot_result(result: Result, out: Path) -> list[Path]:
    """Write `scaling.png`: the check, throughput and latency against shards, order numbers, and two regions."""
    path = out / "scaling.png"
    settings = result.settings
    title = (
        "Beyond one shard: all but the grey bars is simulated, with the costs that one shard was measured to have\n"
        f"a process on a core of its own, {settings.front_ends} front-ends and {settings.customers} customers for each "
        f"shard (think time {settings.think_ms:g} ms), {settings.delay_ms:g} ms one way between processes; "
        f"seed {settings.seed}\n"
        f"costs: {result.bench.command}, {result.bench.machine.processor}, {result.bench.machine.cores} cores, "
        f"commit {result.bench.machine.commit}"
    )
    with drawing(path, (13.0, 8.4), title) as figure:
        axes = figure.subplots(2, 3)
        _draw_check(axes[0][0], result, "per_second", "trades a second")
        _draw_check(axes[1][0], result, "p50_ms", "p50 (and p99, fainter), ms")
        _draw_throughput(axes[0][1], result)
        _draw_latency(axes[1][1], result)
        _draw_numbers(axes[0][2], result)
        _draw_distance(axes[1][2], result)
    return [path]


def _draw_check(axes: Axes, result: Result, what: str, label: str) -> None:
    places = range(len(result.checks))
    rows = [(each.measured, MEASURED, "measured", -0.2) for each in result.checks]
    rows += [(each.simulated, SIMULATED, "simulated", 0.2) for each in result.checks]  # type: ignore[misc]
    for number, (figures, colour, name, aside) in enumerate(rows):
        place = number % len(places) + aside
        value = top = getattr(figures, what)
        if what == "p50_ms":
            axes.bar(place, figures.p99_ms, width=0.38, color=colour, alpha=0.3)
        axes.bar(place, value, width=0.38, color=colour, label=name if number % len(places) == 0 else None)
        if what == "per_second" and isinstance(figures, Measured):
            top = figures.high
            bars = [[value - figures.low], [figures.high - value]]
            axes.errorbar(place, value, yerr=bars, color="black", linewidth=1, capsize=3)
        axes.annotate(f"{value:,.3g}" if value < 1_000 else f"{value:,.0f}", (place, top), xytext=(0, 2),
                      textcoords="offset points", ha="center", fontsize=7.5)  # fmt: skip
    axes.set_xticks(places, [f"{each.measured.connections}" for each in result.checks])
    _label(axes, "check: one shard on two cores", "connections", label)


def _draw_throughput(axes: Axes, result: Result) -> None:
    for series in _by_popularity(result):
        colour, marker, style, label = STYLES[series.doors, series.popularity]
        rates = [each.per_second for each in series.points.values()]
        axes.plot(list(series.points), rates, color=colour, marker=marker, linestyle=style, label=label)
    first = _by_popularity(result)[0].points
    least = min(first)
    ideal = [first[least].per_second * shards / least for shards in first]
    axes.plot(list(first), ideal, color="#9a9a9a", linewidth=0.8, zorder=1, label="as many times as shards")
    _shards(axes, result)
    axes.set_yscale("log", base=2)
    plain_numbers(axes)
    _label(axes, "throughput", "shards", "trades a second")


def _draw_latency(axes: Axes, result: Result) -> None:
    for series in _by_popularity(result):
        colour, marker, style, _ = STYLES[series.doors, series.popularity]
        for what, alpha in (("p50_ms", 1.0), ("p99_ms", 0.45)):
            values = [getattr(each, what) for each in series.points.values()]
            axes.plot(list(series.points), values, color=colour, marker=marker, linestyle=style, alpha=alpha)
    _shards(axes, result)
    axes.set_yscale("log")
    plain_numbers(axes)
    _label(axes, "latency, lines as above; fainter: p99", "shards", "ms")


def _draw_numbers(axes: Axes, result: Result) -> None:
    for series in result.series:
        if series.few:
            colour, marker, style, label = NUMBERS[series.numbers]
            values = [each.p50_ms for each in series.few.values()]
            axes.plot(list(series.few), values, color=colour, marker=marker, linestyle=style, label=label)
    _shards(axes, result)
    from_zero(axes)
    _label(axes, f"order numbers, {result.settings.few} customers a shard", "shards", "p50, ms")


def _draw_distance(axes: Axes, result: Result) -> None:
    for layout, (colour, marker, label) in LAYOUTS.items():
        found = [each for each in result.distances if each.layout == layout]
        places = [each.far_ms for each in found]
        axes.plot(places, [each.far_p50_ms for each in found], color=colour, marker=marker, label=label)
        axes.plot(places, [each.near_p50_ms for each in found], color=colour, marker=marker, linestyle=":", alpha=0.6)
    from_zero(axes)
    _label(axes, "two regions, one shard; dotted: here", "one way between the regions, ms", "p50, ms")


def _by_popularity(result: Result) -> list[Series]:
    return [each for each in result.series if each.numbers == "own sequences"]


def _shards(axes: Axes, result: Result) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(result.settings.shards, [f"{each}" for each in result.settings.shards])
    axes.minorticks_off()


def _label(axes: Axes, heading: str, x: str, y: str) -> None:
    axes.set_title(heading, loc="left", fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(**GRID)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    legend(axes)
