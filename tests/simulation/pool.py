"""Many seeds at once, each in a process of its own: what dies in one leaves nothing behind for the next."""

import contextlib
import gc
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from tests.simulation.planted import BUGS
from tests.simulation.run import Result, run_seed
from tests.simulation.world import Blow

LONGEST_S = 300  # of wall time; only a bug that never ends takes so long


@dataclass(frozen=True)
class Job:
    """A seed, for how many simulated seconds faults go on, and what is special about it; see `Faults`."""

    seed: int
    seconds: float = 20.0
    bug: str | None = None
    skip: frozenset[int] = frozenset()
    armed: tuple[tuple[str, Blow], ...] = ()
    on_etcd: bool = False


class _TooLong(BaseException):
    """The simulation does not end."""


def run_jobs(jobs: Sequence[Job], processes: int, *, in_order: bool = False) -> Iterator[Result]:
    """The results, as they come or in the order of the jobs."""
    gc.freeze()  # what the children share is not touched by their collectors
    with multiprocessing.get_context("fork").Pool(min(processes, len(jobs)), maxtasksperchild=1) as pool:
        yield from (pool.imap if in_order else pool.imap_unordered)(_run, jobs)


def _run(job: Job) -> Result:
    gc.disable()  # a seed is over before its garbage matters, and a collection takes as long as much of a seed
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(LONGEST_S)
    try:
        with BUGS[job.bug][1]() if job.bug else contextlib.nullcontext():
            return run_seed(job.seed, faults_s=job.seconds, skip=job.skip, armed=job.armed, on_etcd=job.on_etcd)
    except _TooLong:
        return Result(job.seed, [f"the simulation did not end within {LONGEST_S} s"])
    finally:
        signal.alarm(0)


def _give_up(signal_number: int, frame: FrameType | None) -> None:
    raise _TooLong
