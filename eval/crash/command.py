"""The body of `bazaar evaluate crash`."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from client.console import make_console
from eval.crash.plan import QUICK
from eval.crash.plot import plot_result
from eval.crash.run import CrashSettings, Run
from eval.crash.show import LiveCrash, print_report
from eval.interrupt import stop_on_signals
from eval.json_text import to_json

FAILED = 1
INTERRUPTED = 130
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
    run = Run(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(run))
    except asyncio.CancelledError:
        return INTERRUPTED
    report = run.report
    assert report is not None
    out.mkdir(parents=True, exist_ok=True)
    text = to_json(report)
    (out / "crash.json").write_text(text, encoding="utf-8")
    plot_result(report, out)
    if as_json:
        sys.stdout.write(text)
    else:
        print_report(report, make_console())
    if run.kept is not None:
        make_console(stderr=True).print(f"its databases and logs are kept in {run.kept}", soft_wrap=True)
    return INTERRUPTED if report.is_stopped else 0 if report.passed else FAILED


async def _run(run: Run) -> None:
    stop_on_signals(run.stop, "round")
    with LiveCrash(run.settings.rounds, run.history, make_console(stderr=True)) as live:
        run.on_strike, run.on_round = live.on_strike, live.on_round
        await run.run()
