"""A few seeds in every test run; many more with `python -m tests.simulation 0-999`."""

import os
import subprocess
import sys

import pytest

from tests.simulation.run import run_seed

pytestmark = pytest.mark.simulation

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_doubled_or_contradicted_when_anything_may_fail(seed: int) -> None:
    result = run_seed(seed, faults_s=10)

    assert not result.problems, "\n".join(
        [f"replay: python -m tests.simulation {seed} --seconds 10 --story", *result.problems]
    )
    assert result.answered > 30, "a simulation in which hardly anybody got an answer shows nothing"


def test_the_same_seed_tells_the_same_story() -> None:
    command = [sys.executable, "-m", "tests.simulation", "3", "--seconds", "10"]

    traces = {
        subprocess.run(command, capture_output=True, text=True, check=True, env=_environment()).stdout.splitlines()[0]
        for _ in range(2)
    }

    assert len(traces) == 1
    assert traces.pop().startswith("trace ")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0"}
