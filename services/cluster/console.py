"""What the `bazaar` command shows: tables and lines; colour only on a terminal and without NO_COLOR."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cluster.folder import program
from services.cluster.health import Condition
from services.cluster.status import ServiceView, Snapshot
from services.cluster.topology import Cluster
from services.cluster.verify import Verdict

STYLES = {"running": "green", "starting": "yellow", "paused": "yellow", "down": "red", "failed": "bold red"}
CONDITIONS: dict[Condition, str] = {"healthy": "bold green", "degraded": "bold yellow", "down": "bold red"}
NUMBERS = {"pid", "orders", "position", "lag", "up", "restarts"}
EXAMPLE = "GameStart"  # a stock of the catalog that comes with the bazaar
WIDE = 110  # columns from which on there is room for everything

CELLS: dict[str, Callable[[ServiceView], str | Text]] = {
    "service": lambda each: each.name,
    "state": lambda each: Text(each.state, style=STYLES[each.state]),
    "role": lambda each: each.role or "-",
    "pid": lambda each: _text(each.pid),
    "address": lambda each: each.url,
    "orders": lambda each: f"{each.head.number:,}" if each.head else "-",
    "digest": lambda each: each.head.digest[:8] if each.head else "-",
    "leader": lambda each: _text(each.leader),
    "position": lambda each: f"{each.head.position:,}" if each.head else "-",
    "lag": lambda each: _text(each.lag),
    "up": lambda each: _duration(each.uptime_s),
    "restarts": lambda each: _text(each.restarts),
}
"""Headings and what stands below them; the first seven fit an ordinary terminal."""

HOST_CELL = "host"  # after the service, when there are several hosts


def status_table(snapshot: Snapshot, width: int) -> Table:
    """One row for each service, for a terminal `width` characters wide."""
    cells = CELLS
    if any(each.host is not None for each in snapshot.services):
        first, *others = CELLS.items()
        cells = dict([first, (HOST_CELL, lambda each: each.host or "-"), *others])
    shown = list(cells) if width >= WIDE else list(cells)[:7]
    result = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for heading in shown:
        result.add_column(heading, justify="right" if heading in NUMBERS else "left", no_wrap=True)
    for service in snapshot.services:
        result.add_row(*(cells[heading](service) for heading in shown))
    return result


def notes(snapshot: Snapshot) -> list[str]:
    """What the table has no room for: the leader, why a service is not running, a missing supervisor."""
    leader = f"order-{snapshot.leader}" if snapshot.leader is not None else "none at the moment"
    lines = [] if snapshot.health.fail_over is None else [snapshot.health.fail_over]
    lines += [f"leader, as front-end-1 chose it: {leader}"]
    lines += [
        f"{service.name}: {service.reason}"
        for service in snapshot.services
        if service.reason is not None and service.state in {"starting", "down", "failed"}
    ]
    if snapshot.supervisor is None:
        lines.append("no supervisor runs: what is down stays down unless systemd restarts it; start it with: bazaar up")
    return lines


def status_page(snapshot: Snapshot, width: int) -> list[Table | Text]:
    """How it is in a sentence, the table, and the lines below it."""
    headline = Text(snapshot.health.sentence, style=CONDITIONS[snapshot.health.condition])
    return [headline, Text(), status_table(snapshot, width), *(Text(line) for line in ("", *notes(snapshot)))]


def watch_page(snapshot: Snapshot, width: int) -> list[Table | Text]:
    """The same, with what happened last."""
    events = [Text(f"{_clock(each.at_ms)}  {each.text}", overflow="ellipsis") for each in snapshot.events]
    return [*status_page(snapshot, width), *([Text(), *events] if events else [])]


def hints(cluster: Cluster, snapshot: Snapshot, data_dir: Path) -> list[str]:
    """What a new user may do with a bazaar that has just started."""
    here = "" if data_dir == Path("data") else f" --data-dir {data_dir}"
    front_end = next((each for each in cluster.own if each.kind == "front-end"), cluster.of("front-end")[0]).url
    replicas = [each.name for each in cluster.own if each.kind == "order"]
    leader = f"order-{snapshot.leader or 1}"
    victim = leader if leader in replicas or not replicas else replicas[0]
    bazaar = program()
    return [
        "",
        f"room     {cluster.control}/  (watch it, break it)",
        f"API      {front_end}/stocks/{EXAMPLE}",
        f"docs     {front_end}/docs",
        f"logs     {data_dir}/logs/",
        f"try      {bazaar} load{here}",
        f"         {bazaar} buy {EXAMPLE} 1{here}",
        f"         {bazaar} kill {victim}{here}",
        f"         {bazaar} status{here}",
        f"         {bazaar} verify{here}",
        "Ctrl-C stops it.",
    ]


def show_verdict(verdict: Verdict, console: Console) -> None:
    """The verdict last, after what is wrong."""
    for problem in verdict.problems if len(verdict.problems) > 1 else ():
        console.print(f"wrong: {problem}", soft_wrap=True)
    console.print(verdict.summary, style="bold green" if verdict.passed else "bold red", soft_wrap=True)


def _clock(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1_000).astimezone():%H:%M:%S}"


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3600:.1f} h"
