"""All experiments one after the other, and all plots again from their results."""

import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

import eval.cache_replacement.command as cache
import eval.cache_replacement.plot
import eval.crash.command as crash
import eval.crash.plot
import eval.distance.command as distance
import eval.distance.plot
import eval.latency.command as latency
import eval.latency.plot
import eval.scaling.command as scaling
import eval.scaling.plot
from client.console import make_console
from eval.cache_replacement.results import Result as CacheResult
from eval.crash.report import Report
from eval.deliver import INTERRUPTED
from eval.latency.results import LatencySettings, Result
from eval.scaling.results import Result as ScalingResult
from services.cluster.errors import CannotDo

ResultT = TypeVar("ResultT", bound=BaseModel)


class Experiment(NamedTuple):
    """run: quick or not, into a folder, shown or as JSON; gives the exit code. plot: from a result's file."""

    name: str
    run: Callable[[bool, Path, bool], int]
    plot: Callable[[Path, Path], object]

    def result(self, out: Path) -> Path:
        """Where its result is."""
        return out / self.name / f"{self.name}.json"


def experiments() -> Iterator[Experiment]:
    """In the order in which they are run."""
    yield Experiment("latency", _run_latency, _plotter(eval.latency.plot.plot_result, Result))
    yield Experiment("distance", _run_distance, _plotter(eval.distance.plot.plot_result, Result))
    yield Experiment("cache_replacement", _run_cache, _plotter(eval.cache_replacement.plot.plot_result, CacheResult))
    yield Experiment("crash", _run_crash, _plotter(eval.crash.plot.plot_result, Report))
    yield Experiment("scaling", _run_scaling, _plotter(eval.scaling.plot.plot_result, ScalingResult))


def run_all(out: Path, *, quick: bool, as_json: bool) -> int:
    """Run them; gives the highest exit code. Ctrl-C ends the one under way and starts no other."""
    codes, results = [0], {}
    for experiment in experiments():
        if not as_json:
            make_console().rule(experiment.name, align="left")
            codes.append(experiment.run(quick, out / experiment.name, False))
        else:
            with redirect_stdout(io.StringIO()) as printed:
                codes.append(experiment.run(quick, out / experiment.name, True))
            text = printed.getvalue()
            results[experiment.name] = json.loads(text) if text else None
        if codes[-1] == INTERRUPTED:
            break
    if as_json and codes[-1] != INTERRUPTED:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    return max(codes)


def plot_all(out: Path) -> int:
    """Draw all plots whose results are there. Raises CannotDo when there is none."""
    found = [each for each in experiments() if each.result(out).exists()]
    if not found:
        raise CannotDo(f"there are no results in {out}/: bazaar evaluate all")
    for each in found:
        each.plot(each.result(out), out / each.name)
        make_console().print(f"{out / each.name}/", soft_wrap=True)
    return 0


def _run_latency(quick: bool, out: Path, as_json: bool) -> int:
    return latency.run_command(
        _settings(latency.QUICK if quick else latency.FULL, "latency", quick), out, as_json=as_json
    )


def _run_distance(quick: bool, out: Path, as_json: bool) -> int:
    return distance.run_command(
        _settings(distance.QUICK if quick else distance.FULL, "distance", quick), out, as_json=as_json
    )


def _settings(settings: LatencySettings, name: str, quick: bool) -> LatencySettings:
    return settings.model_copy(update={"command": f"bazaar evaluate {name}" + (" --quick" if quick else "")})


def _run_cache(quick: bool, out: Path, as_json: bool) -> int:
    return cache.run_command(cache.chosen_settings(quick=quick), out, as_json=as_json)


def _run_crash(quick: bool, out: Path, as_json: bool) -> int:
    return crash.run_command(crash.chosen_settings(quick=quick), out, as_json=as_json)


def _run_scaling(quick: bool, out: Path, as_json: bool) -> int:
    return scaling.run_command(scaling.chosen_settings(quick=quick, seed=None), scaling.BENCH, out, as_json=as_json)


def _plotter(plot: Callable[[ResultT, Path], object], kind: type[ResultT]) -> Callable[[Path, Path], object]:
    return lambda source, out: plot(kind.model_validate_json(source.read_text(encoding="utf-8")), out)
