"""A crash experiment for human eyes: a bar while it goes on, tables at the end, the answers, and the verdict last."""

from rich import box
from rich.console import Console
from rich.progress import MofNCompleteColumn
from rich.table import Table

from client.console import LiveBar
from eval.crash.plan import Strike
from eval.crash.report import Report, Round
from eval.witness import History

SHOWN = 10  # problems and errors; the JSON has all of them
KILL_CAPTION = (
    "ms from the kill until it was noticed, another leader selected, the first new trade (order query, in the check) "
    "answered; the longest wait until all was level; p99 of trades before."
)
BACK_CAPTION = (
    "ms from the new process's start until it answers, and is level with the catalog; entries that it lacked, and that "
    "it fetched from the others."
)
SEEN_CAPTION = "errors: of trades and look-ups, then of the final check; files: row by row, after the round."


class LiveCrash(LiveBar):
    """One bar over all rounds, with the kill of this moment; only on a terminal."""

    def __init__(self, rounds: int, history: History, console: Console) -> None:
        self._history = history
        super().__init__("crash", rounds, MofNCompleteColumn(), console, "starting a bazaar")

    def on_strike(self, strike: Strike) -> None:
        """A round begins."""
        history = self._history
        text = f"kill {strike.role} ({strike.phase})  {history.trades:,} trades  {len(history.errors)} errors"
        self._progress.update(self._task, description=text)

    def on_round(self, done: Round) -> None:
        """A round is over."""
        self._progress.update(self._task, completed=done.number)


def print_report(report: Report, console: Console) -> None:
    """Print the tables, what went wrong, the answers, and the verdict last."""
    console.print(kills_table(report.rounds))
    console.print(returns_table(report.rounds))
    console.print(clients_table(report.rounds))
    for word, texts in (("violation", report.problems), ("error", report.errors)):
        for text in texts[:SHOWN]:
            console.print(f"{word}: {text}", style="red", soft_wrap=True)
        if len(texts) > SHOWN:
            console.print(f"... and {len(texts) - SHOWN:,} more; --json shows all", style="red")
    for text in report.answers.text:
        console.print(text)
    console.print(f"bazaar verify: {report.verify}")
    console.print(verdict(report), style="bold green" if report.passed else "bold red", soft_wrap=True)


def verdict(report: Report) -> str:
    """What came out, in one line."""
    return (
        f"{report.answers.rounds} kills, {report.answers.leaders_killed} of them of the leader, in "
        f"{report.duration_s:.0f} s: {len(report.problems)} violations, {len(report.errors)} errors seen by clients "
        f"(seed {report.seed})" + (", stopped early" if report.is_stopped else "")
    )


def kills_table(rounds: list[Round]) -> Table:
    """One row for each kill: what the clients waited for."""
    table = _table("Kills", KILL_CAPTION, "noticed", "selected", "first", "longest", "before")
    for each in rounds:
        kill, longest = each.kill, max(each.seen.longest_ms.values(), default=None)
        cells = (kill.noticed_ms, kill.selected_ms, kill.first_ms, longest, each.seen.usual_ms)
        table.add_row(_what(each), *(_ms(cell) for cell in cells))
    return table


def returns_table(rounds: list[Round]) -> Table:
    """One row for each return: how long it took to catch up, and with what."""
    table = _table("Returns", BACK_CAPTION, "answers", "level", "lacked", "fetched")
    for each in rounds:
        back = each.back
        fetched = "-" if back.fetched is None else f"{back.fetched:,}"
        table.add_row(_what(each), _ms(back.answers_ms), _ms(back.level_ms), f"{back.missed:,}", fetched)
    return table


def clients_table(rounds: list[Round]) -> Table:
    """One row for each round: whether the clients noticed, and what the files hold."""
    table = _table("Clients and files", SEEN_CAPTION, "trades", "errors", "checks", "errors", "retries", "files")
    for each in rounds:
        seen = each.seen
        table.add_row(
            _what(each),
            f"{seen.acknowledged + seen.refused:,}",
            str(seen.errors.get("trade", 0) + seen.errors.get("look_up", 0)),
            f"{seen.checked:,}",
            str(seen.errors.get("order", 0) + seen.wrong),
            f"{seen.retries:,}",
            "same" if each.files.same else "DIFFER",
        )
    return table


def _table(title: str, caption: str, *headings: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("killed", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _what(each: Round) -> str:
    role = "leader" if each.kill.was_leader else "follower"
    return f"{each.number} {role}" + (", check" if each.phase == "check" else "")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
