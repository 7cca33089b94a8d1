"""Make the story of a failing seed shorter: leave out the faults that the failure can do without."""

from dataclasses import replace

from tests.simulation.pool import Job, run_jobs
from tests.simulation.run import Result


def shrink(job: Job) -> int:
    """Print which faults are left and how to see the short story; 1 unless the seed does not fail at all.

    Greedy: halves, then quarters and so on of the faults that are left are skipped as long as the seed still fails.
    """
    (whole,) = run_jobs([job], 1)
    if not whole.problems:
        print(f"seed {job.seed} does not fail")
        return 0
    left = list(range(whole.faults))
    size = len(left)
    while size:
        size //= 2
        begin = 0
        while size and begin < len(left):
            smaller = left[:begin] + left[begin + size :]
            if _fails(job, whole, smaller):
                left = smaller
            else:
                begin += size
        print(f"{len(left)} faults are left", flush=True)
    skip = sorted(set(range(whole.faults)) - set(left))
    planted = (f" --bug {job.bug}" if job.bug else "") + (" --etcd" if job.on_etcd else "")
    skipped = ",".join(map(str, skip))
    print(f"seed {job.seed} needs only the faults {left} of {whole.faults}; its story:")
    print(f"python -m tests.simulation {job.seed} --seconds {job.seconds:g}{planted} --story --skip {skipped}")
    return 1


def _fails(job: Job, whole: Result, left: list[int]) -> bool:
    skip = frozenset(range(whole.faults)) - frozenset(left)
    (result,) = run_jobs([replace(job, skip=skip)], 1)
    return bool(result.problems)
