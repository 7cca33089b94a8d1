"""The body of `bazaar chaos`."""

import asyncio
import random
import sys
from pathlib import Path

import uvloop

from client.console import make_console
from eval.chaos.plot import plot_timeline
from eval.chaos.run import ChaosSettings, Run
from eval.chaos.show import LiveChaos, print_report
from eval.interrupt import stop_on_signals

FAILED = 1
INTERRUPTED = 130


def new_seed() -> int:
    """A seed nobody chose."""
    return random.SystemRandom().getrandbits(32)


def chaos_command(settings: ChaosSettings, out: Path, *, as_json: bool) -> int:
    """Run it, write `chaos.json` and `chaos.png`, show the report, and give the exit code. Raises CannotDo.

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
    name = "chaos-partitions" if settings.partitions else "chaos"
    text = report.model_dump_json(indent=2) + "\n"
    (out / f"{name}.json").write_text(text, encoding="utf-8")
    plot_timeline(report, run.history.operations, run.started, out / f"{name}.png")
    if as_json:
        sys.stdout.write(text)
    else:
        print_report(report, make_console())
    if run.kept is not None:
        make_console(stderr=True).print(f"its databases, logs and history are kept in {run.kept}", soft_wrap=True)
    return INTERRUPTED if report.is_stopped else 0 if report.passed else FAILED


async def _run(run: Run) -> None:
    stop_on_signals(run.stop, "round")
    with LiveChaos(run.settings.rounds, run.history, make_console(stderr=True)) as live:
        run.on_scenario, run.on_round = live.on_scenario, live.on_round
        await run.run()
