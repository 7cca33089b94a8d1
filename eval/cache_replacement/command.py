"""The body of `bazaar evaluate cache`."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import uvloop

from client.console import make_console
from eval.cache_replacement.plot import plot_result
from eval.cache_replacement.results import Result
from eval.cache_replacement.run import CacheSettings, Experiment
from eval.cache_replacement.show import LiveCache, print_result
from eval.interrupt import stop_on_signals
from eval.json_text import to_json

FAILED = 1
INTERRUPTED = 130
SEED = 1


def chosen_settings(*, quick: bool, seed: int | None = None) -> CacheSettings:
    """What the flags mean."""
    flags = (" --quick" if quick else "") + ("" if seed is None else f" --seed {seed}")
    full = CacheSettings(seed=SEED if seed is None else seed, command=f"bazaar evaluate cache{flags}")
    if not quick:
        return full
    return replace(
        full, sizes=(5, 15), probabilities=(0.0, 0.2), repetitions=1, look_ups=200, warm_up=50, pictured=(5,)
    )


def run_command(settings: CacheSettings, out: Path, *, as_json: bool) -> int:
    """Measure, write `cache_replacement.json` and two pictures, show the result, and give the exit code.

    Raises CannotDo. Ctrl-C ends everything at once and writes nothing.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(_run(settings))
    except asyncio.CancelledError:
        return INTERRUPTED
    out.mkdir(parents=True, exist_ok=True)
    text = to_json(result)
    (out / "cache_replacement.json").write_text(text, encoding="utf-8")
    plot_result(result, out)
    if as_json:
        sys.stdout.write(text)
    else:
        print_result(result, make_console())
    return 0 if result.passed else FAILED


async def _run(settings: CacheSettings) -> Result:
    stop_on_signals()
    experiment = Experiment(settings)
    with LiveCache(experiment.steps, make_console(stderr=True)) as live:
        experiment.on_step = live.on_step
        return await experiment.run()
