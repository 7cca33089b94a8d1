"""The pictures of a crash experiment, drawn from its report alone: the whole run, and the second around each kill."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from eval.chaos.plot import COLOURS, LABELS
from eval.crash.report import Report, Round
from eval.crash.timeline import AFTER_MS, BEFORE_MS, BIN_S, KINDS
from eval.history import Kind

ROUNDS_A_PANEL = 4
KILLS_A_ROW = 4
FLOOR_MS = 0.3
DOWN, RETURN, KILL, NOTICED, FIRST = "#f0b6a8", "#cfe3d2", "#8b0000", "#7d5a00", "#1d6b3a"
SHAPES: dict[Kind, str] = {"look_up": "o", "order": "s", "trade": "^"}


def plot_result(report: Report, out: Path) -> None:
    """Write both pictures into a folder."""
    plot_timeline(report, out / "timeline.png")
    plot_kills(report, out / "kills.png")


def plot_timeline(report: Report, path: Path) -> None:
    """Write a PNG of the whole run, a panel for each few rounds."""
    panels = [report.rounds[i : i + ROUNDS_A_PANEL] for i in range(0, len(report.rounds), ROUNDS_A_PANEL)]
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12, 1.3 + 2.6 * max(len(panels), 1)), dpi=140, layout="constrained")
        figure.suptitle(_title(report, "Waits of the clients over the whole run"), x=0.01, ha="left", fontsize=11)
        for axes, rounds in zip(figure.subplots(max(len(panels), 1), squeeze=False)[:, 0], panels, strict=False):
            _draw_rounds(axes, report, rounds)
        figure.legend(handles=_timeline_legend(), loc="outside lower left", ncols=7, frameon=False, fontsize=8)
        figure.savefig(path)


def _draw_rounds(axes: Axes, report: Report, rounds: Sequence[Round]) -> None:
    begin, end = rounds[0].began_s - 0.1, rounds[-1].ended_s + 0.2
    top = 100.0
    for kind in KINDS:
        bins = report.timeline[kind]
        shown = [i for i, at in enumerate(bins.at_s) if begin <= at + BIN_S and at <= end]
        at = [bins.at_s[i] + BIN_S / 2 for i in shown]
        longest = [max(bins.longest_ms[i], FLOOR_MS) for i in shown]
        median = [max(bins.median_ms[i], FLOOR_MS) for i in shown]
        axes.scatter(at, longest, s=5, marker=SHAPES[kind], color=COLOURS[kind], alpha=0.6, linewidths=0, zorder=3)
        axes.scatter(at, median, s=5, marker="_", color=COLOURS[kind], linewidths=0.9, zorder=4)
        top = max([top, *longest])
    for each in rounds:
        axes.axvspan(each.killed_s, each.started_s, color=DOWN, alpha=0.7, linewidth=0, zorder=1)
        axes.axvspan(each.started_s, each.level_s, color=RETURN, alpha=0.9, linewidth=0, zorder=1)
        axes.axvline(each.killed_s, color=KILL, linewidth=1.1, zorder=2)
        axes.axvline(each.began_s, color="#bbbbbb", linewidth=0.7, zorder=0)
        axes.annotate(
            f"{each.number}. {_words(each)}",
            (each.killed_s, 1.02),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            color=KILL,
        )
    _scale(axes, top)
    axes.set_xlim(begin, end)
    axes.set_xlabel("seconds since the start")


def plot_kills(report: Report, path: Path) -> None:
    """Write a PNG with a panel for each kill: every operation of any client around it."""
    rows = -(-len(report.rounds) // KILLS_A_ROW) or 1
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12, 1.3 + 2.5 * rows), dpi=140, layout="constrained")
        figure.suptitle(_title(report, "Every operation around each kill"), x=0.01, ha="left", fontsize=11)
        panels = figure.subplots(rows, KILLS_A_ROW, sharex=True, sharey=True, squeeze=False).flat
        top = max(
            [100.0, *(wait for each in report.rounds for strip in each.strips.values() for wait in strip.wait_ms)]
        )
        for axes, each in zip(panels, report.rounds, strict=False):
            _draw_kill(axes, each, top)
        for axes in panels[len(report.rounds) :]:
            axes.set_visible(False)
        figure.legend(handles=_kills_legend(), loc="outside lower left", ncols=7, frameon=False, fontsize=8)
        figure.savefig(path)


def _draw_kill(axes: Axes, each: Round, top: float) -> None:
    for kind, strip in each.strips.items():
        heights = [max(wait, FLOOR_MS) for wait in strip.wait_ms]
        axes.scatter(strip.began_ms, heights, s=6, marker=SHAPES[kind], color=COLOURS[kind], alpha=0.6, linewidths=0)
        ends = [began + wait for began, wait in zip(strip.began_ms, strip.wait_ms, strict=True)]
        axes.hlines(heights, strip.began_ms, ends, color=COLOURS[kind], alpha=0.25, linewidth=0.6)
    axes.axvline(0, color=KILL, linewidth=1.1)
    moments = (
        (each.kill.noticed_ms, NOTICED, ":"),
        (each.kill.selected_ms, NOTICED, "-"),
        (each.kill.first_ms, FIRST, "--"),
    )
    for moment, colour, style in moments:
        if moment is not None:
            axes.axvline(moment, color=colour, linestyle=style, linewidth=0.9)
    axes.set_title(f"{each.number}. {_words(each)}", loc="left", fontsize=8, color=KILL)
    _scale(axes, top)
    axes.set_xlim(-BEFORE_MS, AFTER_MS)
    axes.set_xlabel("ms since the kill")


def _scale(axes: Axes, top: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(FLOOR_MS, 1.6 * top)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(axis="y", color="#ececec", linewidth=0.6)
    place = axes.get_subplotspec()
    if place is not None and place.is_first_col():
        axes.set_ylabel("wait, ms")


def _words(each: Round) -> str:
    role = "leader" if each.kill.was_leader else "follower"
    return f"{role} {each.kill.victim}" + (" (in the check)" if each.phase == "check" else "")


def _title(report: Report, what: str) -> str:
    machine, kills = report.machine, len(report.rounds)
    return (
        f"{what}: {kills} kills, {len(report.errors)} errors seen by {report.clients} clients, p = {report.p:.0%}\n"
        f"{report.command}: seed {report.seed}, {machine.processor}, {machine.cores} cores, commit {machine.commit}"
    )


def _dots(words: str = "") -> list[Line2D | Patch]:
    return [
        Line2D([], [], marker=SHAPES[kind], linestyle="", markersize=4, color=COLOURS[kind], label=LABELS[kind] + words)
        for kind in KINDS
    ]


def _timeline_legend() -> list[Line2D | Patch]:
    return [
        *_dots(f", longest in {BIN_S * 1_000:.0f} ms"),
        Line2D([], [], marker="_", linestyle="", color="#555555", label="median"),
        Line2D([], [], color=KILL, label="kill -9"),
        Patch(color=DOWN, label="dead"),
        Patch(color=RETURN, label="started again, until level"),
    ]


def _kills_legend() -> list[Line2D | Patch]:
    return [
        *_dots(", from begin to end"),
        Line2D([], [], color=KILL, label="kill -9"),
        Line2D([], [], color=NOTICED, linestyle=":", label="noticed"),
        Line2D([], [], color=NOTICED, label="another leader"),
        Line2D([], [], color=FIRST, linestyle="--", label="first new trade or query answered"),
    ]
