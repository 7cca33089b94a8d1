"""A chaos run for human eyes: a bar while it goes on, tables at the end, and the verdict last."""

from rich import box
from rich.console import Console
from rich.progress import MofNCompleteColumn
from rich.table import Table

from client.console import LiveBar
from eval.chaos.report import Report, Round, Summary
from eval.witness import History

SHOWN = 20  # rounds, problems and errors; the JSON has all of them
WIDE = 120  # columns from which on there is room for what was hit
ROUND_CAPTION = (
    "From the fault: noticed = another leader was selected, first = the first trade sent after it was answered, "
    "down = every process that ended answers again."
)
AGAIN = (
    ("first", "everybody"),
    "first = a new trade of any client was answered, everybody = one of each client was",
)
ETCD_AGAIN = (
    ("no trade", "no write", "everybody"),
    "no trade, no write = the longest time without a trade, or without a write of etcd; everybody = until each traded",
)
SUMMARY_CAPTION = "down = the longest time until they answered again, beyond = the worst wait less the catalog's."


class LiveRounds(LiveBar):
    """One bar over all rounds, with the fault of this moment; only on a terminal."""

    def __init__(self, label: str, rounds: int, history: History, console: Console) -> None:
        self._history = history
        super().__init__(label, rounds, MofNCompleteColumn(), console, "starting a bazaar")

    def on_fault(self, text: str) -> None:
        """A fault is about to strike."""
        history = self._history
        text = f"{text}  {len(history.operations):,} operations  {len(history.errors)} errors"
        self._progress.update(self._task, description=text)

    def on_round(self, number: int) -> None:
        """A fault is over."""
        self._progress.update(self._task, completed=number)


def print_report(report: Report, console: Console) -> None:
    """Print the tables, what went wrong, and the verdict last."""
    console.print(rounds_table(report.rounds[-SHOWN:], console.width))
    console.print(summary_table(report.summaries))
    console.print(again_table(report.summaries))
    for each in report.summaries:
        if each.is_met is not None:
            console.print(f"target of {each.kind}: {each.target} ms: {'met' if each.is_met else 'MISSED'}")
    print_wrong(report.problems, report.errors, console)
    console.print(f"bazaar verify: {report.verify}")
    console.print(verdict(report), style="bold green" if report.passed else "bold red", soft_wrap=True)


def print_wrong(problems: list[str], errors: list[str], console: Console) -> None:
    """Print the first violations, and the first errors that clients saw."""
    for word, texts in (("violation", problems), ("error", errors)):
        for text in texts[:SHOWN]:
            console.print(f"{word}: {text}", style="red", soft_wrap=True)
        if len(texts) > SHOWN:
            console.print(f"... and {len(texts) - SHOWN:,} more; --json shows all", style="red")


def verdict(report: Report) -> str:
    """What came out, in one line."""
    return (
        f"{len(report.rounds)} rounds in {report.duration_s:.0f} s, {sum(report.counts.values()):,} operations, "
        f"{len(report.problems)} violations, {len(report.errors)} errors seen by clients (seed {report.seed})"
        + (", stopped early" if report.is_stopped else "")
    )


def rounds_table(rounds: list[Round], width: int) -> Table:
    """One row for each round, for a terminal `width` characters wide."""
    table = fault_table("Rounds: the longest wait of any client, in ms", ROUND_CAPTION)
    is_wide = width >= WIDE
    if is_wide:
        table.add_column("hit", no_wrap=True)
    for heading in ("trade", "look-up", "order", "noticed", "first", "down"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in rounds:
        longest = (each.longest_ms.get(kind) for kind in ("trade", "look_up", "order"))
        down = max(each.downtime_ms.values(), default=None)
        cells = [*longest, each.noticed_ms, each.first_trade_ms, down]
        hit = [", ".join(each.hit)] if is_wide else []
        table.add_row(f"{each.number} {each.kind}", *hit, *(ms(cell) for cell in cells))
    return table


def summary_table(summaries: list[Summary]) -> Table:
    """One row for each kind of fault."""
    table = fault_table("Waits of trades by kind of fault, in ms", SUMMARY_CAPTION)
    for heading in ("rounds", "trades", "p99", "worst", "down", "beyond"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in summaries:
        cells = (each.p99_ms, each.worst_ms, each.downtime_ms, each.beyond_downtime_ms)
        table.add_row(each.kind, str(each.rounds), f"{each.trades:,}", *(ms(cell) for cell in cells))
    return table


def again_table(summaries: list[Summary]) -> Table:
    """One row for each kind of fault: how soon trades went on, and how soon etcd did, where there is one."""
    has_etcd = any(each.etcd_ms for each in summaries)
    headings, caption = ETCD_AGAIN if has_etcd else AGAIN
    table = fault_table("From the fault until trades went on, in ms: median and worst", caption)
    for column in ("rounds", *(each for heading in headings for each in (heading, "worst"))):
        table.add_column(column, justify="right", no_wrap=True)
    for each in summaries:
        spreads = (each.no_trade_ms, each.etcd_ms) if has_etcd else (each.first_trade_ms,)
        cells = [
            ms(value)
            for spread in (*spreads, each.everybody_ms)
            for value in ((spread.median, spread.high) if spread else (None, None))
        ]
        table.add_row(each.kind, str(each.rounds), *cells)
    return table


def fault_table(title: str, caption: str) -> Table:
    """A table whose rows are named by a fault, without its other columns."""
    table = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("fault", no_wrap=True)
    return table


def ms(value: float | None) -> str:
    """Milliseconds in a table."""
    return "-" if value is None else f"{value:,.0f}"
