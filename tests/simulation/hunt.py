"""The simulation is worth something only if it finds bugs: plant each, and see that a seed finds it.

found.json keeps, for each planted bug, the first seed that finds it and what it then says. Bugs that no seed finds are
caught by a directed test, which is named there instead.
"""

import json
from pathlib import Path
from typing import TypedDict

from tests.simulation.planted import BUGS
from tests.simulation.pool import Job, run_jobs

FOUND = Path(__file__).with_name("found.json")
AT_ONCE = 4
LONGEST_WORDS = 90


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
        jobs = [Job(seed, bug=bug) for seed in range(begin, min(begin + AT_ONCE, last_seed + 1))]
        failed = [result for result in run_jobs(jobs, processes) if result.problems]
        if failed:
            first = min(failed, key=lambda result: result.seed)
            return {"seed": first.seed, "says": first.problems[0][:LONGEST_WORDS]}
    return None


def find_again(processes: int) -> int:
    """Run the recorded seed of every bug; 1 when one does not find it any more, or a bug has neither seed nor test."""
    found = load_found()
    jobs = [Job(found[bug]["seed"], bug=bug) for bug in BUGS if "seed" in found.get(bug, {})]
    missed = [bug for bug in BUGS if bug not in found]
    for job, result in zip(jobs, run_jobs(jobs, processes, in_order=True), strict=True):
        print(
            f"{job.bug:40} seed {job.seed:3}  {result.problems[0][:LONGEST_WORDS] if result.problems else 'NOT FOUND'}"
        )
        if not result.problems:
            missed.append(str(job.bug))
    print(f"{len(BUGS)} planted bugs: {len(jobs)} with a seed, {len(BUGS) - len(jobs)} with a test, missed: {missed}")
    return 1 if missed else 0
