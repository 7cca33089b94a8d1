"""A few seeds in every test run; many more with `python -m tests.simulation 0-999`.

Each in a process of its own: the processes that die in a simulation leave their tasks behind, as they should.
"""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.simulation


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command that replays a seed."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("seeds", ["0-9", "10-19"])
def test_nothing_is_lost_doubled_or_contradicted_when_anything_may_fail(seeds: str) -> None:
    done = simulate(seeds, "--seconds", "10")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_seed_tells_the_same_story() -> None:
    stories = {simulate("3", "--seconds", "10", "--story").stdout.partition("\n1 seeds")[0] for _ in range(2)}

    assert len(stories) == 1
    assert "trace " in stories.pop()


def test_a_planted_bug_is_found() -> None:
    done = simulate("0-9", "--bug", "no_invalidation")

    assert done.returncode == 1, "a front-end that is not told of changes answers with stale stocks"
    assert "not linearizable" in done.stdout
