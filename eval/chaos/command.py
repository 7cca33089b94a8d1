"""The body of `bazaar chaos`."""

import random
from pathlib import Path

from client.console import make_console
from eval.chaos.plot import plot_timeline
from eval.chaos.report import Report
from eval.chaos.run import Run
from eval.chaos.show import LiveRounds, print_report
from eval.deliver import INTERRUPTED, deliver, exit_code, run_to_end
from eval.interrupt import stop_on_signals


def new_seed() -> int:
    """A seed nobody chose."""
    return random.SystemRandom().getrandbits(32)


def chaos_command(run: Run, out: Path, *, as_json: bool) -> int:
    """Do it, write its result and its timeline, show the report, and give the exit code. Raises CannotDo.

    Ctrl-C ends the rounds and judges those so far; a second one ends at once.
    """
    if run_to_end(_run(run)) is None:
        return INTERRUPTED
    report, history, started, name = run.report, run.history, run.started, run.settings.name
    assert report is not None

    def plot(report: Report, folder: Path) -> None:
        plot_timeline(report, history.operations, started, folder / f"{name}.png")

    deliver(report, out / f"{name}.json", plot, print_report, as_json=as_json)
    return exit_code(passed=report.passed, is_stopped=report.is_stopped, kept=run.kept)


async def _run(run: Run) -> Run:
    stop_on_signals(run.stop, "round")
    with LiveRounds("chaos", run.settings.rounds, run.history, make_console(stderr=True)) as live:
        run.on_scenario = lambda scenario: live.on_fault(scenario.kind)
        run.on_round = lambda done: live.on_round(done.number)
        await run.run()
    return run
