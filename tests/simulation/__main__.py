"""See `tests.simulation.run`."""

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from collections import Counter

from tests.simulation.planted import BUGS
from tests.simulation.run import Result, run_seed


def main() -> int:
    """Run the seeds that the command line names, on all cores."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", help="17 or 0-99")
    parser.add_argument("--story", action="store_true", help="print who did what when")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the faults go on, in simulated seconds")
    parser.add_argument(
        "--bug", choices=["none", *BUGS], default="none", help="plant a bug, and stop at the first seed that finds it"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is a part of the trace
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606 - this very command
    first, _, last = given.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    began = time.monotonic()
    totals: Counter[str] = Counter()
    points: set[str] = set()
    failed = 0
    with multiprocessing.Pool(min(given.processes, len(seeds)), maxtasksperchild=20) as pool:
        for result in pool.imap_unordered(_one, [(seed, given.seconds, given.bug) for seed in seeds]):
            totals.update(result.counts, operations=result.operations, answered=result.answered, entries=result.entries)
            points |= result.points
            if given.story:
                print("\n".join(result.story))
            if result.problems:
                failed += 1
                print(f"seed {result.seed}: {len(result.problems)} violations; {_replay(result.seed, given.seconds)}")
                for problem in result.problems[:5]:
                    print(f"    {problem}")
                sys.stdout.flush()
                if given.bug != "none":
                    break
            if len(seeds) == 1:
                print(f"trace {result.trace}")
    took = time.monotonic() - began
    print(f"{len(seeds)} seeds, {failed} with violations, {took:.0f} s: {dict(totals)}; {len(points)} points reached")
    return 1 if failed else 0


def _replay(seed: int, seconds: float) -> str:
    return f"python -m tests.simulation {seed} --seconds {seconds:g} --story"


def _one(given: tuple[int, float, str]) -> Result:
    seed, seconds, bug = given
    with BUGS[bug][1]() if bug != "none" else contextlib.nullcontext():
        return run_seed(seed, faults_s=seconds)


if __name__ == "__main__":
    sys.exit(main())
