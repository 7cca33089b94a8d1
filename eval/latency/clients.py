"""Clients as they really are: each a process of its own, all beginning at the same moment."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from client.record import WorkloadRecord
from eval.bench.children import Child, all_stopped
from eval.latency.client import RECORD, Job
from services.cluster.errors import CannotDo
from services.cluster.up import environment

LONGEST_LINE = 2**28  # a record of a million requests


class Seen(NamedTuple):
    """What all clients saw, by client, between the word to begin and the last answer."""

    records: list[WorkloadRecord]
    started_at: datetime
    seconds: float


class Clients:
    """The processes of `count` clients; each run is a job for every one of them."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children

    async def prepare(self, jobs: Sequence[Job]) -> None:
        """Let each get ready for its job. Raises CannotDo when one of them ends."""
        await asyncio.gather(
            *(self._ask(child, job.model_dump_json()) for child, job in zip(self._children, jobs, strict=True))
        )

    async def run(self) -> Seen:
        """Have all do the jobs they are ready for, beginning together. Raises CannotDo when one of them ends."""
        loop = asyncio.get_running_loop()
        started_at, start = datetime.now(UTC), loop.time()
        lines = await asyncio.gather(*(self._ask(child, "go") for child in self._children))
        seconds = loop.time() - start
        return Seen([RECORD.validate_json(line) for line in lines], started_at, seconds)

    async def _ask(self, child: Child, line: str) -> bytes:
        """One line there, and one line back."""
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(line.encode() + b"\n")
            await child.stdin.drain()
            answer = await child.stdout.readline()
        except ConnectionError:
            answer = b""
        if not answer:
            raise CannotDo(f"a client ended with status {await child.wait()}")
        return answer


@asynccontextmanager
async def started(count: int) -> AsyncIterator[Clients]:
    """So many clients, gone at the end."""
    async with all_stopped() as children:
        for _ in range(count):
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "eval.latency.client"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment(),
                process_group=0,  # Ctrl-C reaches the experiment alone
                limit=LONGEST_LINE,
            )
            children.append(child)
        yield Clients(children)
