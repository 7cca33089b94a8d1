"""What came out of the rounds, as it is written to the disk, and the answers that it gives."""

from datetime import datetime

from pydantic import BaseModel

from eval.crash.files import Comparison
from eval.crash.plan import Phase
from eval.crash.timeline import KINDS, Bins, Strip
from eval.history import Kind
from eval.machine import Machine


class Kill(BaseModel):
    """A replica's death, and what came of it, in ms after it; None for what did not come.

    noticed: by a front-end for the leader, by the leader for a follower. selected: another leader. first: the first
    trade that was sent after it was answered; an order query, when orders were checked at that moment.
    """

    victim: str
    was_leader: bool
    noticed_ms: float | None
    selected_ms: float | None
    first_ms: float | None


class Back(BaseModel):
    """Its return. In ms after its new process was started: it answers; it is level with the catalog.

    missed: entries that it lacked when it was started. fetched: those that it took from the other replicas before it
    went to work, in fetch_ms; orders that came meanwhile are among them.
    """

    answers_ms: float
    level_ms: float
    missed: int
    fetched: int | None
    fetch_ms: float | None = None


class Seen(BaseModel):
    """What the clients saw. errors: that reached one, by the kind of its request. retries: of the client library.

    longest_ms: the longest wait of any client from the kill until everything was level again, by kind of request.
    usual_ms: p99 of trades before the kill.
    """

    look_ups: int
    acknowledged: int
    refused: int
    checked: int
    wrong: int
    errors: dict[Kind, int]
    retries: int
    longest_ms: dict[Kind, float]
    usual_ms: float | None


class Round(BaseModel):
    """The lab's clients at work once, and a replica killed under them. Moments in seconds since the start of the run.

    started_s: when the killed replica's new process was. ended_s: when all orders of the round were checked.
    """

    number: int
    phase: Phase
    began_s: float
    killed_s: float
    started_s: float
    level_s: float
    ended_s: float
    kill: Kill
    back: Back
    seen: Seen
    verify: str
    files: Comparison
    strips: dict[Kind, Strip]

    @property
    def passed(self) -> bool:
        """Whether no client noticed anything but a wait, and all files hold the same."""
        seen = self.seen
        is_clean = not seen.wrong and not any(seen.errors.values()) and seen.checked == seen.acknowledged
        return is_clean and self.files.same


class Answers(BaseModel):
    """The assignment's questions, answered by all rounds together."""

    rounds: int
    leaders_killed: int
    trades: int
    errors_in_trades: int
    errors_in_look_ups: int
    checks: int
    errors_in_checks: int
    wrong_in_checks: int
    retries: int
    longest_wait_ms: float
    clients_notice_in_orders: bool
    clients_notice_in_checks: bool
    files_are_the_same: bool
    text: list[str] = []


class Report(BaseModel):
    """A whole run. problems: what an exact check of all operations against the disks found. files: in the end."""

    command: str
    seed: int
    machine: Machine
    started_at: datetime
    duration_s: float
    is_stopped: bool
    passed: bool
    clients: int
    p: float
    problems: list[str]
    errors: list[str]
    verify: str
    files: Comparison | None
    answers: Answers
    rounds: list[Round]
    timeline: dict[Kind, Bins]


def answer(rounds: list[Round], files: Comparison | None) -> Answers:
    """Put the rounds together. files: of the stopped bazaar, None when it did not get so far."""
    seen = [each.seen for each in rounds]
    errors = {kind: sum(each.errors.get(kind, 0) for each in seen) for kind in KINDS}
    wrong = sum(each.wrong for each in seen)
    answers = Answers(
        rounds=len(rounds),
        leaders_killed=sum(each.kill.was_leader for each in rounds),
        trades=sum(each.acknowledged + each.refused for each in seen) + errors["trade"],
        errors_in_trades=errors["trade"],
        errors_in_look_ups=errors["look_up"],
        checks=sum(each.checked for each in seen) + errors["order"],
        errors_in_checks=errors["order"],
        wrong_in_checks=wrong,
        retries=sum(each.retries for each in seen),
        longest_wait_ms=max((wait for each in seen for wait in each.longest_ms.values()), default=0.0),
        clients_notice_in_orders=errors["trade"] > 0,
        clients_notice_in_checks=errors["order"] + wrong > 0,
        files_are_the_same=files is not None and files.same and all(each.files.same for each in rounds),
    )
    answers.text = _sentences(answers, files)
    return answers


def _sentences(answers: Answers, files: Comparison | None) -> list[str]:
    return [
        "Can the clients notice the failures in order requests? "
        + ("Yes" if answers.clients_notice_in_orders else "No")
        + f": {answers.errors_in_trades:,} of {answers.trades:,} trades ended with an error, the client library "
        f"repeated {answers.retries:,} requests, and the longest wait was {answers.longest_wait_ms:,.0f} ms.",
        "In the final check? "
        + ("Yes" if answers.clients_notice_in_checks else "No")
        + f": {answers.errors_in_checks:,} errors in {answers.checks:,} checks, {answers.wrong_in_checks:,} orders "
        "missing or other than acknowledged.",
        "Do all replicas end up with the same database? "
        + ("Yes" if answers.files_are_the_same else "No")
        + (f": {_files(files)}" if files is not None else ": the files were not compared in the end."),
    ]


def _files(files: Comparison) -> str:
    if files.difference is not None:
        return f"{files.difference}."
    (digest,) = {each[:12] for each in files.sha256.values()}
    return (
        f"{len(files.sha256)} files hold the same {files.entries:,} rows, {files.orders:,} orders among them "
        f"(SHA-256 over all rows {digest}), and did after every round."
    )
