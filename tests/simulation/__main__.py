"""Simulate seeds: `python -m tests.simulation 0-99`, or one with its story: `python -m tests.simulation 17 --story`.

`--points` instead of seeds strikes processes at every point that is ever passed, and says which it did not reach.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import track

from client.console import make_console
from eval.machine import describe_machine
from tests.simulation.hunt import find_again, hunt
from tests.simulation.planted import BUGS
from tests.simulation.points import strike_everywhere
from tests.simulation.pool import Job, run_jobs
from tests.simulation.run import Result
from tests.simulation.shrink import shrink


@dataclass
class Total:
    """What came out of many seeds."""

    seeds: int = 0
    failed: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    points: set[str] = field(default_factory=set)

    def add(self, result: Result) -> None:
        """Count one in."""
        self.seeds += 1
        self.counts += result.counts
        self.points |= result.points
        if result.problems:
            self.failed.append(result.seed)

    def summary(self, wall_s: float) -> dict[str, object]:
        """For a file."""
        return {
            "seeds": self.seeds,
            "seeds with violations": sorted(self.failed),
            "points passed": len(self.points),
            "wall seconds": round(wall_s),
            **dict(sorted(self.counts.items())),
        }


def main() -> int:
    """Run what the command line asks for, on all cores."""
    given = _parse()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is a part of the trace
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606 - this very command
    if given.points:
        return strike_everywhere(given.processes, on_etcd=given.etcd)
    if given.bugs:
        return find_again(given.processes)
    if given.hunt is not None:
        return hunt(given.hunt, given.processes)
    first, _, last = given.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    skip = frozenset(int(number) for number in given.skip.split(",") if number)
    if given.shrink:
        return shrink(Job(seeds[0], given.seconds, bug=given.bug, on_etcd=given.etcd))
    total = _run([Job(seed, given.seconds, given.bug, skip, on_etcd=given.etcd) for seed in seeds], given)
    return 1 if total.failed else 0


def _run(jobs: list[Job], given: argparse.Namespace) -> Total:
    """Run seeds, tell of each that fails, and print the sums."""
    began = time.monotonic()
    total = Total()
    console = make_console(stderr=True)
    results = track(
        run_jobs(jobs, given.processes), "seeds", len(jobs), console=console, disable=not console.is_terminal
    )
    for result in results:
        total.add(result)
        if given.story:
            print("\n".join(result.story))
        if given.trace:
            print(f"trace {result.trace}")
        if result.problems:
            _tell(result, given.seconds, given.bug, on_etcd=given.etcd)
            if given.bug:
                break
        if given.report:
            _write(given, total.summary(time.monotonic() - began))
    summary = total.summary(time.monotonic() - began)
    print("\n".join(f"{name}: {number}" for name, number in summary.items()))
    return total


def _write(given: argparse.Namespace, summary: dict[str, object]) -> None:
    """Write the report anew, after every seed: one that is cut short tells how far it came."""
    asked = {"asked for": given.seeds, "seconds of faults in each": given.seconds}
    report = {**asked, **summary, "machine": describe_machine().model_dump()}
    given.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", nargs="?", default="0-19", help="17 or 0-99")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the faults go on, in simulated seconds")
    parser.add_argument("--story", action="store_true", help="print who did what when")
    parser.add_argument("--trace", action="store_true", help="print the digest of everything that happened")
    parser.add_argument("--skip", default="", metavar="1,2,...", help="leave out the faults with these numbers")
    parser.add_argument("--shrink", action="store_true", help="find the faults that a failing seed cannot do without")
    parser.add_argument("--etcd", action="store_true", help="two catalogs on a modelled etcd of three nodes")
    parser.add_argument("--points", action="store_true", help="strike at every point, before and after each step")
    parser.add_argument("--bugs", action="store_true", help="plant every bug and run the seed that is known to find it")
    parser.add_argument(
        "--hunt", type=int, metavar="SEED", help="look for such a seed, up to this one, where none is known"
    )
    parser.add_argument("--bug", choices=BUGS, help="plant a bug, and stop at the first seed that finds it")
    parser.add_argument("--report", type=Path, metavar="FILE", help="keep a summary as JSON")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many seeds at a time")
    return parser.parse_args()


def _tell(result: Result, seconds: float, bug: str | None, *, on_etcd: bool) -> None:
    planted = (f" --bug {bug}" if bug else "") + (" --etcd" if on_etcd else "")
    replay = f"python -m tests.simulation {result.seed} --seconds {seconds:g}{planted}"
    print(f"seed {result.seed}: {len(result.problems)} violations")
    print(f"    its story: {replay} --story; which faults it takes: {replay} --shrink")
    for problem in result.problems[:5]:
        print(f"    {problem}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
