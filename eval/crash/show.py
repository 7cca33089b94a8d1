"""A crash experiment for human eyes: tables, the answers, and the verdict last."""

from rich.console import Console
from rich.table import Table

from eval.chaos.show import fault_table, ms, print_wrong
from eval.crash.report import Report, Round

KILL_CAPTION = (
    "ms from the kill until it was noticed, another leader selected, the first new trade (order query, in the check) "
    "answered; the longest wait until all was level; p99 of trades before."
)
BACK_CAPTION = (
    "ms from the new process's start until it answers, and is level with the catalog; entries that it lacked, and that "
    "it fetched from the others."
)
SEEN_CAPTION = "errors: of trades and look-ups, then of the final check; files: row by row, after the round."


def print_report(report: Report, console: Console) -> None:
    """Print the tables, what went wrong, the answers, and the verdict last."""
    console.print(kills_table(report.rounds))
    console.print(returns_table(report.rounds))
    console.print(clients_table(report.rounds))
    print_wrong(report.problems, report.errors, console)
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
        table.add_row(_what(each), *(ms(cell) for cell in cells))
    return table


def returns_table(rounds: list[Round]) -> Table:
    """One row for each return: how long it took to catch up, and with what."""
    table = _table("Returns", BACK_CAPTION, "answers", "level", "lacked", "fetched")
    for each in rounds:
        back = each.back
        fetched = "-" if back.fetched is None else f"{back.fetched:,}"
        table.add_row(_what(each), ms(back.answers_ms), ms(back.level_ms), f"{back.missed:,}", fetched)
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
    table = fault_table(title, caption)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _what(each: Round) -> str:
    role = "leader" if each.kill.was_leader else "follower"
    return f"{each.number} {role}" + (", check" if each.phase == "check" else "")
