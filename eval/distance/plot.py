"""The plot of what distance does, drawn from the result alone."""

from pathlib import Path

from matplotlib.axes import Axes

from eval.bench.results import Spread
from eval.drawing import draw_spreads
from eval.latency.plot import CACHE_STYLES, GRID, drawing, from_zero, legend, plain_numbers, title
from eval.latency.results import Result
from eval.latency.statistics import Condition

P_STYLES = (("#0072B2", "o"), ("#E69F00", "s"), ("#CC79A7", "D"), ("#009E73", "v"), ("#D55E00", "^"))
ASIDE = 0.07  # so that bars do not hide each other


def plot_result(result: Result, out: Path) -> list[Path]:
    """Write `distance.png`: latency and benefit against distance, and what the catalog is spared."""
    path = out / "distance.png"
    what = (
        "What the clients' distance leaves of the cache's benefit\n"
        "medians over the repetitions, bars from the lowest to the highest; ratios are taken within each repetition; "
        "the trip is a delay in the client"
    )
    p = result.settings.probabilities[0]
    with drawing(path, (11.5, 8.6), title(result, what)) as figure:
        axes = figure.subplots(2, 2)
        _draw_latency(axes[0][0], result, p)
        _draw_benefit(axes[0][1], result)
        _draw_load(axes[1][0], result, p, "requests")
        _draw_load(axes[1][1], result, p, "cpu")
    return [path]


def _draw_latency(axes: Axes, result: Result, p: float) -> None:
    for cache, (colour, marker, style) in CACHE_STYLES.items():
        aside = -ASIDE if cache == "on" else ASIDE
        figures = {
            place + aside: Condition(result, p, trip).latency("look_up", cache, "mean_ms")
            for place, trip in enumerate(result.settings.round_trips_ms)
        }
        draw_spreads(axes, figures, colour, marker, style, f"cache {cache}")
    axes.set_yscale("log")
    plain_numbers(axes)
    _label(axes, result, f"all look-ups, p = {p:.0%}", "mean latency, ms")


def _draw_benefit(axes: Axes, result: Result) -> None:
    probabilities = result.settings.probabilities
    for number, p in enumerate(probabilities):
        colour, marker = P_STYLES[number % len(P_STYLES)]
        aside = ASIDE * (number - (len(probabilities) - 1) / 2)
        figures = {
            place + aside: Condition(result, p, trip).benefit()
            for place, trip in enumerate(result.settings.round_trips_ms)
        }
        draw_spreads(axes, figures, colour, marker, "-", f"p = {p:.0%}")
    axes.axhline(1, color="#8a8a8a", linewidth=0.8)
    from_zero(axes)
    _label(axes, result, "benefit of the cache", "mean look-up, cache off / cache on\nabove 1: the cache helps")


def _draw_load(axes: Axes, result: Result, p: float, what: str) -> None:
    """Bars side by side, the cache on and off."""
    for cache, (colour, _, _) in CACHE_STYLES.items():
        for place, trip in enumerate(result.settings.round_trips_ms):
            each = Condition(result, p, trip)
            figure = each.catalog_look_ups(cache) if what == "requests" else each.catalog_cpu_us(cache)
            if figure is not None:
                _bar(axes, place + (-0.19 if cache == "on" else 0.19), figure, colour, cache if place == 0 else "")
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the legend
    if what == "requests":
        _label(axes, result, f"requests that reach the catalog, p = {p:.0%}", "requests for each look-up of a client")
    else:
        label = "processor time of the catalog, us\nfor each look-up of a client, beyond its rest"
        _label(axes, result, f"work of the catalog, p = {p:.0%}", label)


def _bar(axes: Axes, place: float, figure: Spread, colour: str, cache: str) -> None:
    spans = [[figure.median - figure.low], [figure.high - figure.median]]
    label = f"cache {cache}" if cache else None
    hatch = "//" if colour == CACHE_STYLES["off"][0] else None
    axes.bar(
        place, figure.median, width=0.34, yerr=spans, color=colour, alpha=0.85, capsize=3, label=label,
        hatch=hatch, edgecolor="white",
    )  # fmt: skip
    axes.annotate(
        f"{figure.median:,.3g}",
        (place, figure.high),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )


def _label(axes: Axes, result: Result, heading: str, y: str) -> None:
    trips = result.settings.round_trips_ms
    axes.set_xticks(range(len(trips)), [f"{trip:g}" for trip in trips])
    axes.set_xlabel("round trip between client and bazaar, ms")
    axes.set_ylabel(y)
    axes.set_title(heading, loc="left", fontweight="bold")
    axes.grid(**GRID)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    legend(axes)
