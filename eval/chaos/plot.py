"""The timeline of a chaos run: how long each operation took, with the faults marked."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from eval.chaos.report import Report, Round, wait_ms
from eval.history import Kind, Operation

ROUNDS_A_PANEL = 20
COLOURS: dict[Kind, str] = {"look_up": "#7a9cc6", "order": "#5aa469", "trade": "#c2452d"}
LABELS: dict[Kind, str] = {"look_up": "look-up", "order": "order query", "trade": "trade"}
FAULTS = {"kill": "#e9c46a", "pause": "#cdb4db", "restart": "#b7d7c2", "cut": "#bcbcbc"}
FLOOR_MS = 0.3
LONG_MS = 300  # a wait from here on is drawn as long as it was


def plot_timeline(report: Report, operations: Sequence[Operation], started: float, path: Path) -> None:
    """Write a PNG with one panel for each twenty rounds."""
    panels = [report.rounds[i : i + ROUNDS_A_PANEL] for i in range(0, len(report.rounds), ROUNDS_A_PANEL)] or [[]]
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(16, 1.0 + 4.6 * len(panels)), dpi=110, layout="constrained")
        figure.suptitle(_title(report), x=0.01, ha="left", fontsize=11)
        axes = figure.subplots(len(panels), squeeze=False)[:, 0]
        begin = 0.0
        for each, rounds in zip(axes, panels, strict=True):
            is_last = rounds is panels[-1]
            end = _last(operations) - started + 0.5 if is_last else rounds[-1].level_s + 0.5
            _draw(each, rounds, operations, started, (begin, end))
            begin = end
        actions = dict.fromkeys(_action(each) for each in report.rounds)
        figure.legend(
            handles=_legend(list(actions)), loc="upper right", ncols=len(COLOURS) + len(actions), frameon=False
        )
        axes[-1].set_xlabel("seconds since the start")
        figure.savefig(path)


def _title(report: Report) -> str:
    outcome = "passed" if report.passed else "FAILED"
    return (
        f"{report.command}: {outcome}, {len(report.problems)} violations, {len(report.errors)} errors seen by clients\n"
        "each dot is one operation of a client; shaded: a fault until it was undone, then until everything was level"
    )


def _legend(actions: Sequence[str]) -> list[Line2D | Patch]:
    dots: list[Line2D | Patch] = [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=colour, label=LABELS[kind])
        for kind, colour in COLOURS.items()
    ]
    return dots + [Patch(color=FAULTS[action], label=action) for action in actions]


def _action(each: Round) -> str:
    return each.kind.partition(" ")[0]


def _last(operations: Sequence[Operation]) -> float:
    return max((each.ended for each in operations if each.status), default=0.0)


def _draw(
    axes: Axes, rounds: Sequence[Round], operations: Sequence[Operation], started: float, span: tuple[float, float]
) -> None:
    shown = [each for each in operations if span[0] <= each.began - started < span[1] and each.status]
    for kind, colour in COLOURS.items():
        of_kind = [each for each in shown if each.kind == kind]
        x = [each.began - started for each in of_kind]
        y = [max(wait_ms(each), FLOOR_MS) for each in of_kind]
        size = 7 if kind == "trade" else 4
        axes.scatter(x, y, s=size, color=colour, alpha=0.55, linewidths=0, zorder=3)
        long = [each for each in of_kind if wait_ms(each) >= LONG_MS]
        ends = [each.ended - started for each in long]
        heights, begins = [wait_ms(each) for each in long], [each.began - started for each in long]
        axes.hlines(heights, begins, ends, color=colour, alpha=0.35, linewidth=0.8, zorder=2)
    axes.set_yscale("log")
    axes.set_ylim(FLOOR_MS, max([1_000.0, *(1.6 * wait_ms(each) for each in shown)]))
    axes.set_xlim(*span)
    axes.set_ylabel("wait of the client, ms")
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    for each in rounds:
        colour = FAULTS[_action(each)]
        axes.axvspan(each.began_s, each.undone_s, color=colour, alpha=0.6, linewidth=0, zorder=1)
        axes.axvspan(each.undone_s, each.level_s, color=colour, alpha=0.25, linewidth=0, zorder=1)
        axes.annotate(
            _label(each),
            ((each.began_s + each.level_s) / 2, 1.01),
            xycoords=("data", "axes fraction"),
            rotation=38,
            rotation_mode="anchor",
            ha="left",
            va="bottom",
            fontsize=8,
        )


def _label(each: Round) -> str:
    is_news = len(each.hit) == 1 and each.hit[0][-1].isdigit() and each.hit[0] not in each.kind
    hits = f" ({each.hit[0]})" if is_news else ""
    return f"{each.number} {each.kind}{hits}"
