"""A whole bazaar under simulated time: a hundred seeds, every point, every planted bug.

Each runs as a command of its own, on all cores; `python -m tests.simulation --help` runs many more seeds.
"""

import os
import subprocess
import sys

import pytest

from tests.simulation.hunt import load_found

pytestmark = pytest.mark.simulation


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command that replays a seed."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    sys.stdout.write(done.stdout)
    return done


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_contradicted_when_anything_may_fail() -> None:
    done = simulate("0-99")

    assert done.returncode == 0, done.stderr
    assert "seeds: 100" in done.stdout


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_contradicted_when_two_catalogs_share_etcd() -> None:
    done = simulate("0-9", "--etcd")

    assert done.returncode == 0, done.stderr
    assert "seeds: 10" in done.stdout


@pytest.mark.slow
def test_nothing_is_lost_when_a_process_is_struck_at_any_point() -> None:
    done = simulate("--points")

    assert done.returncode == 0, done.stderr
    assert " 0 missed, 0 violations" in done.stdout


@pytest.mark.slow
def test_every_planted_bug_is_found_by_its_seed() -> None:
    done = simulate("--bugs")

    assert done.returncode == 0, done.stderr


def test_the_same_seed_tells_the_same_story() -> None:
    stories = {simulate("3", "--seconds", "5", "--story", "--trace").stdout.partition("\nseeds: ")[0] for _ in range(2)}

    assert len(stories) == 1
    assert "trace " in stories.pop()


def test_a_failing_seed_is_told_with_the_faults_that_it_takes() -> None:
    done = simulate(str(load_found()["no_replication"]["seed"]), "--bug", "no_replication", "--shrink")

    assert done.returncode == 1
    assert "needs only the faults [" in done.stdout
    assert "--story --skip" in done.stdout


def test_a_seed_that_fails_is_told_with_the_command_that_replays_it() -> None:
    done = simulate("0-9", "--seconds", "5", "--bug", "no_invalidation")

    assert done.returncode == 1, "a front-end that is not told of changes answers with stale stocks"
    assert "not linearizable" in done.stdout
    assert "--bug no_invalidation --story" in done.stdout
