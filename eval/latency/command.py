"""The body of `bazaar evaluate latency`; `bazaar evaluate distance` is run by it, too."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from client.console import LiveSteps, make_console
from eval.deliver import FAILED, INTERRUPTED, deliver, run_to_end
from eval.interrupt import stop_on_signals
from eval.latency.plot import plot_result
from eval.latency.results import LatencySettings, Result
from eval.latency.run import Experiment
from eval.latency.show import print_result
from services.cluster.errors import UsageError

FULL = LatencySettings()
QUICK = LatencySettings(probabilities=(0.0, 0.4, 0.8), repetitions=1, iterations=100, rest_s=0.5)


def chosen_settings(short: LatencySettings, command: str, flags: Mapping[str, object]) -> LatencySettings:
    """`short`, but for the flags that were given: those that are neither None nor empty. Raises UsageError."""
    given = {name: value for name, value in flags.items() if value is not None and value not in ([], ())}
    if "switch_cache" in given and "urls" not in given:
        raise UsageError("--switch-cache needs --url: a bazaar of its own is started anew for each mode")
    if "urls" in given and "switch_cache" not in given:
        given["caches"] = ("on",)  # one mode only; which one, the bazaar will say
    for name in ("probabilities", "round_trips_ms"):
        if name in given:
            given[name] = sorted(set(given[name]))  # type: ignore[call-overload]
    try:
        return LatencySettings.model_validate(short.model_dump() | given | {"command": command})
    except ValidationError as error:
        problem = error.errors()[0]
        raise UsageError(f"{problem['loc'][0]}: {problem['msg']}") from error


def run_command(settings: LatencySettings, out: Path, *, as_json: bool) -> int:
    """Measure, write `latency.json` and the plots, show the result, and give the exit code. Raises CannotDo."""
    return measure_command("latency", settings, out, print_result, plot_result, as_json=as_json)


def measure_command(
    name: str,
    settings: LatencySettings,
    out: Path,
    show: Callable[[Result, Console], None],
    plot: Callable[[Result, Path], object],
    *,
    as_json: bool,
) -> int:
    """Measure, write `name`.json, plot and show it, and give the exit code. Raises CannotDo.

    Ctrl-C ends everything at once and writes nothing.
    """
    result = run_to_end(_run(name, settings), asyncio.new_event_loop)
    if result is None:
        return INTERRUPTED
    deliver(result, out / f"{name}.json", plot, show, as_json=as_json)
    return 0 if result.passed else FAILED


async def _run(name: str, settings: LatencySettings) -> Result:
    stop_on_signals()
    experiment = Experiment(settings)
    with LiveSteps(name, experiment.steps, make_console(stderr=True)) as live:
        experiment.on_step = live.on_step
        return await experiment.run()
