"""The body of `bazaar evaluate distance`: the latency experiment, with clients that are far away."""

from pathlib import Path

from eval.distance.plot import plot_result
from eval.distance.show import print_result
from eval.latency.command import measure_command
from eval.latency.results import LatencySettings

FULL = LatencySettings(
    probabilities=(0.0, 0.4, 0.8), round_trips_ms=(0.0, 20.0, 80.0), repetitions=2, iterations=90, rest_s=4.0
)
QUICK = FULL.model_copy(update={"probabilities": (0.0, 0.8), "repetitions": 1, "iterations": 10, "rest_s": 0.5})


def run_command(settings: LatencySettings, out: Path, *, as_json: bool) -> int:
    """Measure, write `distance.json` and `distance.png`, show the result, and give the exit code. Raises CannotDo."""
    return measure_command("distance", settings, out, print_result, plot_result, as_json=as_json)
