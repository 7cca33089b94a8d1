"""The body of `bazaar chaos`."""

import asyncio
import random
import signal
import sys
from pathlib import Path

import uvloop

from client.console import make_console
from eval.chaos.plot import plot_timeline
from eval.chaos.run import ChaosSettings, Run
from eval.chaos.show import LiveChaos, print_report

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
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    console = make_console(stderr=True)

    def on_interrupt() -> None:
        if run.stop.is_set():
            task.cancel()
            return
        run.stop.set()
        console.print("stopping after this round; Ctrl-C again ends at once")

    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    with LiveChaos(run.settings.rounds, run.history, console) as live:
        run.on_scenario, run.on_round = live.on_scenario, live.on_round
        await run.run()
