"""The timeline of a chaos run: how long each operation took, with the faults marked."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.chaos.report import Report, Round, wait_ms
from eval.history import Kind, Operation

ROUNDS_A_PANEL = 20
COLOURS: dict[Kind, str] = {"look_up": "#7a9cc6", "order": "#5aa469", "trade": "#c2452d"}
LABELS: dict[Kind, str] = {"look_up": "look-up", "order": "order query", "trade": "trade"}
FAULTS = {"kill": "#e9c46a", "pause": "#cdb4db", "restart": "#b7d7c2", "cut": "#bcbcbc"}
FLOOR_MS = 0.3


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
            end = report.duration_s if is_last else rounds[-1].level_s + 0.5
            _draw(each, rounds, operations, started, (begin, end))
            begin = end
        axes[-1].set_xlabel("seconds since the start")
        figure.savefig(path)


def _title(report: Report) -> str:
    outcome = "passed" if report.passed else "FAILED"
    return (
        f"{report.command}: {outcome}, {len(report.problems)} violations, {len(report.errors)} errors seen by clients\n"
        "each dot is one operation of a client; shaded: from the fault until everything is level again"
    )


def _draw(
    axes: Axes, rounds: Sequence[Round], operations: Sequence[Operation], started: float, span: tuple[float, float]
) -> None:
    shown = [each for each in operations if span[0] <= each.began - started < span[1] and each.status]
    for kind, colour in COLOURS.items():
        of_kind = [each for each in shown if each.kind == kind]
        x = [each.began - started for each in of_kind]
        y = [max(wait_ms(each), FLOOR_MS) for each in of_kind]
        size = 7 if kind == "trade" else 4
        axes.scatter(x, y, s=size, color=colour, alpha=0.55, linewidths=0, label=LABELS[kind], zorder=3)
    axes.set_yscale("log")
    axes.set_ylim(FLOOR_MS, max([1_000.0, *(1.6 * wait_ms(each) for each in shown)]))
    axes.set_xlim(*span)
    axes.set_ylabel("wait of the client, ms")
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    for each in rounds:
        action = each.kind.partition(" ")[0]
        axes.axvspan(each.began_s, each.level_s, color=FAULTS[action], alpha=0.45, linewidth=0, zorder=1)
        middle = (each.began_s + each.level_s) / 2
        axes.annotate(
            _label(each),
            (middle, 1.01),
            xycoords=("data", "axes fraction"),
            rotation=38,
            ha="left",
            va="bottom",
            fontsize=8,
        )
    legend = axes.legend(loc="upper right", frameon=True, framealpha=0.9, markerscale=2.5, ncols=3)
    legend.set_zorder(4)


def _label(each: Round) -> str:
    hit = each.hit[0] if len(each.hit) == 1 else f"{len(each.hit)} processes"
    return f"{each.number} {each.kind}" + (f" ({hit})" if each.kind.startswith(("kill", "pause")) else "")
