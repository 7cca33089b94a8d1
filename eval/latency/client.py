"""One client in a process of its own: `python -m eval.latency.client`, spoken to by `eval.latency.clients`.

A line on stdin is a job. The client opens its connections, warms up and says `ready`; at the next line it begins, and
at the end it says what it saw, as one line of JSON. It ends with its stdin.
"""

import asyncio
import random
import sys
from functools import partial

import httpx
import uvloop
from pydantic import BaseModel, TypeAdapter

from client.bazaar import BazaarClient
from client.errors import BazaarClientError
from client.pace import ClosedLoop, OpenLoop, Pace
from client.record import WorkloadRecord
from client.workload import Workload
from eval.latency.delay import DelayedTransport
from services.common.lifeline import die_with_parent
from services.common.runtime import Runtime
from services.common.transport import make_transport

RECORD = TypeAdapter(WorkloadRecord)
READY = "ready"


class Job(BaseModel):
    """What client `number` is to do. per_second: its own visits, in an open loop; warm_up: stocks looked up before."""

    urls: tuple[str, ...]
    number: int
    seed: int
    trade_probability: float
    iterations: int
    names: list[str]
    warm_up: list[str]
    round_trip_s: float = 0.0
    per_second: float | None = None


async def work(job: Job) -> WorkloadRecord:
    """Warm up, wait for the word, and do the job. Raises BazaarClientError when the warm-up fails."""
    runtime = Runtime(transport=partial(_transport, job.round_trip_s))
    async with BazaarClient(*job.urls, runtime=runtime) as client:
        for name in job.warm_up:
            await client.look_up(name)
        _say(READY)
        await asyncio.to_thread(sys.stdin.readline)
        choices = random.Random(f"{job.seed}/{job.number}")
        workload = Workload(
            client, choices, job.trade_probability, job.iterations, job.names, number=job.number, runtime=runtime
        )
        return await workload.run(pace=_pace(job))


def _pace(job: Job) -> Pace:
    if job.per_second is None:
        return ClosedLoop()
    return OpenLoop(job.per_second, random.Random(f"{job.seed}/{job.number}/pace"))


def _transport(round_trip_s: float) -> httpx.AsyncBaseTransport:
    transport = make_transport()
    return DelayedTransport(transport, round_trip_s) if round_trip_s else transport


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do the jobs; what is wrong is one line on stderr."""
    die_with_parent()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        while line := sys.stdin.readline():
            try:
                record = runner.run(work(Job.model_validate_json(line)))
            except BazaarClientError as error:
                raise SystemExit(f"a client could not begin: {error}") from error
            _say(RECORD.dump_json(record).decode())


if __name__ == "__main__":
    main()
