"""The body of `bazaar evaluate crash`."""

from dataclasses import replace
from pathlib import Path

from client.console import make_console
from eval.chaos.show import LiveRounds
from eval.crash.plan import QUICK
from eval.crash.plot import plot_result
from eval.crash.run import CrashSettings, Run
from eval.crash.show import print_report
from eval.deliver import INTERRUPTED, deliver, exit_code, run_to_end
from eval.interrupt import stop_on_signals

SEED = 1


def chosen_settings(*, quick: bool, rounds: int | None = None, seed: int | None = None) -> CrashSettings:
    """What the flags mean."""
    flags = {"--rounds": rounds, "--seed": seed}
    given = [f"{flag} {value}" for flag, value in flags.items() if value is not None]
    command = " ".join(["bazaar evaluate crash", *(["--quick"] if quick else []), *given])
    settings = CrashSettings(seed=SEED if seed is None else seed, command=command)
    if quick:
        settings = replace(settings, rounds=3, times=QUICK)
    return settings if rounds is None else replace(settings, rounds=rounds)


def run_command(settings: CrashSettings, out: Path, *, as_json: bool) -> int:
    """Run it, write `crash.json` and two pictures, show the report, and give the exit code. Raises CannotDo.

    Ctrl-C ends the rounds and judges those so far; a second one ends at once.
    """
    run = run_to_end(_run(Run(settings)))
    if run is None:
        return INTERRUPTED
    report = run.report
    assert report is not None
    deliver(report, out / "crash.json", plot_result, print_report, as_json=as_json)
    return exit_code(passed=report.passed, is_stopped=report.is_stopped, kept=run.kept)


async def _run(run: Run) -> Run:
    stop_on_signals(run.stop, "round")
    with LiveRounds("crash", run.settings.rounds, run.history, make_console(stderr=True)) as live:
        run.on_strike = lambda strike: live.on_fault(f"kill {strike.role} ({strike.phase})")
        run.on_round = lambda done: live.on_round(done.number)
        await run.run()
    return run
