"""The simulation is worth something only if it finds bugs: plant each, and see that a seed finds it.

found.json keeps, for each planted bug, the first seed that finds it and what it then says. Bugs that no seed finds are
caught by a directed test, which is named there instead.
"""

import json
import multiprocessing
import os
from pathlib import Path
from typing import TypedDict

import pytest

from tests.simulation.planted import BUGS, ON_ETCD
from tests.simulation.pool import Job, run_jobs

FOUND = Path(__file__).with_name("found.json")
AT_ONCE = 4
LONGEST_WORDS = 90
QUIETLY = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


class Found(TypedDict, total=False):
    """What catches a bug: a seed, or a test."""

    seed: int
    says: str
    test: str


def load_found() -> dict[str, Found]:
    """What found.json says."""
    found: dict[str, Found] = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.exists() else {}
    return found


def hunt(last_seed: int, processes: int) -> int:
    """Look for the first seed that finds each bug that none is known for, and record it; 1 when one was not found."""
    found = load_found()
    for bug in BUGS:
        if bug not in found:
            caught = _first(bug, last_seed, processes)
            print(f"{bug}: {caught or f'not found by the seeds 0 to {last_seed}'}", flush=True)
            if caught:
                found[bug] = caught
                FOUND.write_text(json.dumps(dict(sorted(found.items())), indent=2) + "\n", encoding="utf-8")
    return 0 if found.keys() >= BUGS.keys() else 1


def _first(bug: str, last_seed: int, processes: int) -> Found | None:
    for begin in range(0, last_seed + 1, AT_ONCE):
        jobs = [
            Job(seed, bug=bug, on_etcd=bug in ON_ETCD) for seed in range(begin, min(begin + AT_ONCE, last_seed + 1))
        ]
        failed = [result for result in run_jobs(jobs, processes) if result.problems]
        if failed:
            first = min(failed, key=lambda result: result.seed)
            return {"seed": first.seed, "says": first.problems[0][:LONGEST_WORDS]}
    return None


def find_again(processes: int) -> int:
    """Let every bug be found by its recorded seed or test; 1 when one is not found any more, or has neither."""
    found = load_found()
    missed = [bug for bug in BUGS if bug not in found]
    jobs = [Job(found[bug]["seed"], bug=bug, on_etcd=bug in ON_ETCD) for bug in BUGS if "seed" in found.get(bug, {})]
    for job, result in zip(jobs, run_jobs(jobs, processes, in_order=True), strict=True):
        says = result.problems[0][:LONGEST_WORDS] if result.problems else "NOT FOUND"
        print(f"{job.bug:36} seed {job.seed:3}  {says}", flush=True)
        missed += [] if result.problems else [str(job.bug)]
    tests = [(bug, found[bug]["test"]) for bug in BUGS if "test" in found.get(bug, {})]
    with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
        for (bug, test), is_caught in zip(tests, pool.imap(_fails, tests, chunksize=1), strict=True):
            print(f"{bug:36} {test if is_caught else 'NOT FOUND by ' + test}", flush=True)
            missed += [] if is_caught else [bug]
    print(f"{len(BUGS)} planted bugs: {len(jobs)} with a seed, {len(tests)} with a test, missed: {missed or 'none'}")
    return 1 if missed else 0


def _fails(given: tuple[str, str]) -> bool:
    """Whether a test fails when a bug is planted. To be called in a process of its own."""
    bug, test = given
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        with BUGS[bug][1]():
            return pytest.main([*QUIETLY, test]) == pytest.ExitCode.TESTS_FAILED
