"""Strike processes at every point: before and after each message and each piece of disk work, and in its middle.

The points are found by running some seeds. Each is then lain in wait at, with each kind of blow, until it was struck
so; a point that no run reaches again is reported, and so is a violation.
"""

import ast
from collections import Counter
from itertools import islice, product
from pathlib import Path

import services
from tests.simulation.faults import BLOWS
from tests.simulation.pool import Job, run_jobs
from tests.simulation.world import Blow

SCOUTS = 12
PASSES = 60
AT_ONCE = 8
AT_LEAST = 4
SECONDS = 8.0

Target = tuple[str, Blow]


EMBEDDED_ONLY = "catalog.session."
SHARED_ONLY = "etcd."
"""How the points begin that are passed only where the state is, or is not, in etcd."""


def strike_everywhere(processes: int, *, on_etcd: bool = False) -> int:
    """Do it, and print what was struck how often; 1 when a point was missed or something broke."""
    points = {point for point in named_points() if not point.startswith(EMBEDDED_ONLY if on_etcd else SHARED_ONLY)}
    struck: Counter[Target] = Counter()
    problems: list[str] = []
    for result in run_jobs([Job(seed, on_etcd=on_etcd) for seed in range(SCOUTS)], processes):
        points |= result.points
        problems += [f"seed {result.seed}: {problem}" for problem in result.problems]
    seeds = iter(range(1_000_000, 2_000_000))
    for _ in range(PASSES):
        missed = _missed(points, struck)
        if not missed:
            break
        chunks = [tuple(missed[i :: -(-len(missed) // AT_ONCE)]) for i in range(-(-len(missed) // AT_ONCE))]
        jobs = [
            Job(seed, SECONDS, armed=chunk, on_etcd=on_etcd)
            for seed, chunk in zip(islice(seeds, len(chunks)), chunks, strict=True)
        ]
        for result in run_jobs(jobs, processes):
            points |= result.points
            struck += result.struck
            armed = next(job.armed for job in jobs if job.seed == result.seed)
            problems += [f"seed {result.seed}, armed {armed}: {problem}" for problem in result.problems]
    return _report(points, struck, problems)


def named_points() -> set[str]:
    """The points that the product's code names."""
    return {
        node.args[0].value
        for path in Path(services.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "point"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def _missed(points: set[str], struck: Counter[Target]) -> list[Target]:
    return [target for target in product(sorted(points), BLOWS) if not struck[target]]


def _report(points: set[str], struck: Counter[Target], problems: list[str]) -> int:
    for point in sorted(points):
        print(f"{point:60}", *(f"{struck[point, blow]:3} x {blow}" for blow in BLOWS))
    missed = _missed(points, struck)
    for point, blow in missed:
        print(f"not reached: {blow} at {point}")
    print("\n".join(problems))
    print(f"{len(points)} points, {struck.total()} blows, {len(missed)} missed, {len(problems)} violations")
    return 1 if missed or problems else 0
