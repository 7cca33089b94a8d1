"""The body of `bazaar evaluate scaling`."""

import random
from pathlib import Path

from pydantic import ValidationError

from client.console import LiveSteps, make_console
from eval.bench.results import Result as BenchResult
from eval.deliver import deliver
from eval.scaling.plot import plot_result
from eval.scaling.results import Settings
from eval.scaling.run import simulate, steps
from eval.scaling.show import print_result
from services.cluster.errors import CannotDo

BENCH = Path(__file__).parents[1] / "results" / "bench" / "bench.json"


def chosen_settings(*, quick: bool, seed: int | None) -> Settings:
    """What is simulated; quick: up to four shards, for a short time."""
    drawn = random.SystemRandom().getrandbits(32) if seed is None else seed
    settings = Settings(seed=drawn, command=f"bazaar evaluate scaling{' --quick' if quick else ''} --seed {drawn}")
    if not quick:
        return settings
    small = {"shards": (1, 2, 4), "far_ms": (0.1, 10.0), "trades": 800, "skewed_warm_up_s": 0.3}
    return settings.model_copy(update=small)


def run_command(settings: Settings, bench: Path, out: Path, *, as_json: bool) -> int:
    """Simulate, write `scaling.json` and `scaling.png`, show the result, and give the exit code. Raises CannotDo."""
    with LiveSteps("scaling", steps(settings), make_console(stderr=True)) as bar:
        result = simulate(settings, read_bench(bench), bar.on_step)
    deliver(result, out / "scaling.json", plot_result, print_result, as_json=as_json)
    return 0


def read_bench(path: Path) -> BenchResult:
    """The benchmark's result. Raises CannotDo."""
    try:
        return BenchResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CannotDo(f"{path} cannot be read ({error.strerror}): bazaar bench makes one") from error
    except ValidationError as error:
        raise CannotDo(f"{path} is no result of bazaar bench") from error
