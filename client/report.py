"""The end of a load for human eyes: a table of latencies, what went wrong, and a verdict in one line."""

from rich import box
from rich.console import Console
from rich.table import Table

from client.load import LoadReport
from client.record import Kind

SHOWN = 10  # of the errors and of the failed checks; the JSON has all of them

LABELS: dict[Kind, str] = {
    "look_up_hit": "look-up, hit",
    "look_up_miss": "look-up, miss",
    "look_up_off": "look-up, no cache",
    "trade": "buy or sell",
    "order_query": "order query",
}


def verdict(report: LoadReport) -> str:
    """What came out, in one line."""
    counts = report.counts
    return (
        f"{_count(counts.acknowledged, 'order')} acknowledged, {counts.checked:,} checked, "
        f"{counts.wrong:,} wrong, {_count(counts.errors, 'error')}"
    )


def exit_code(report: LoadReport) -> int:
    """0 when every check held and no error reached a user, else 1."""
    return 0 if report.passed else 1


def print_report(report: LoadReport, console: Console) -> None:
    """Print the table, what went wrong, and the verdict last."""
    console.print(latency_table(report))
    for line in _facts(report):
        console.print(line)
    _print_some([f"wrong: {text}" for text in _failed_checks(report)], console)
    _print_some([f"error: {text}" for text in _errors(report)], console)
    console.print(verdict(report), style="bold green" if report.passed else "bold red")


def latency_table(report: LoadReport) -> Table:
    """One row for each kind of request."""
    table = Table(title="Latency as a user sees it, in ms", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("request")
    for heading in ("count", "mean", "p50", "p90", "p99", "max"):
        table.add_column(heading, justify="right")
    for kind, label in LABELS.items():
        summary = report.latencies.get(kind)
        if summary is not None:
            values = (summary.mean_ms, summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.max_ms)
            table.add_row(label, f"{summary.count:,}", *(f"{value:,.2f}" for value in values))
    return table


def _facts(report: LoadReport) -> list[str]:
    settings, counts = report.settings, report.counts
    lines = [
        f"{_count(settings.clients, 'client')}, p = {settings.trade_probability:g}, "
        f"{_count(settings.iterations, 'iteration')} each, seed {settings.seed}: {report.duration_s:.1f} s"
        + (", stopped early" if report.is_stopped else "")
    ]
    if report.cache_hit_ratio is not None:
        lines.append(f"cache hit ratio {report.cache_hit_ratio:.1%}")
    lines.append(f"{_count(counts.refused, 'trade')} refused for lack of stock, {_count(counts.retries, 'retry')}")
    if report.longest_trade is not None:
        longest = report.longest_trade
        until = f"{longest.at:%H:%M:%S.%f} UTC"
        lines.append(f"longest wait for a trade {longest.ms:,.1f} ms, until {until} (client {longest.client})")
    return lines


def _failed_checks(report: LoadReport) -> list[str]:
    return [
        f"{failed.at:%H:%M:%S} client {failed.client}, order {failed.number}, key {failed.key}: "
        f"expected {failed.expected}, found {failed.found}"
        for failed in report.failed_checks
    ]


def _errors(report: LoadReport) -> list[str]:
    return [
        f"{error.at:%H:%M:%S} client {error.client}, {error.request} ({error.subject}) after {error.seconds:.1f} s: "
        f"{error.kind}: {error.message}"
        for error in report.errors
    ]


def _print_some(lines: list[str], console: Console) -> None:
    for line in lines[:SHOWN]:
        console.print(line, style="red")
    if len(lines) > SHOWN:
        console.print(f"... and {len(lines) - SHOWN:,} more; --json shows all", style="red")


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
