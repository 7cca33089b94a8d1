"""Lines through figures that were measured several times."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from eval.bench.results import Spread


def draw_spreads(
    axes: Axes, figures: Mapping[float, Spread | None], colour: str, marker: str, style: str = "-", label: str = ""
) -> None:
    """A line through the medians, with bars from the lowest to the highest."""
    known = {place: figure for place, figure in figures.items() if figure is not None}
    if not known:
        return
    medians = [each.median for each in known.values()]
    below = [each.median - each.low for each in known.values()]
    above = [each.high - each.median for each in known.values()]
    axes.errorbar(
        list(known),
        medians,
        yerr=[below, above],
        color=colour,
        marker=marker,
        markersize=5,
        linestyle=style,
        linewidth=1.4,
        capsize=2.5,
        label=label,
        zorder=3,
    )
