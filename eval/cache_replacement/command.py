"""The body of `bazaar evaluate cache`."""

from dataclasses import replace
from pathlib import Path

from client.console import LiveSteps, make_console
from eval.cache_replacement.plot import plot_result
from eval.cache_replacement.results import Result
from eval.cache_replacement.run import CacheSettings, Experiment
from eval.cache_replacement.show import print_result
from eval.deliver import FAILED, INTERRUPTED, deliver, run_to_end
from eval.interrupt import stop_on_signals

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
    result = run_to_end(_run(settings))
    if result is None:
        return INTERRUPTED
    deliver(result, out / "cache_replacement.json", plot_result, print_result, as_json=as_json)
    return 0 if result.passed else FAILED


async def _run(settings: CacheSettings) -> Result:
    stop_on_signals()
    experiment = Experiment(settings)
    with LiveSteps("cache", experiment.steps, make_console(stderr=True)) as live:
        experiment.on_step = live.on_step
        return await experiment.run()
