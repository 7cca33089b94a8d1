"""Two generators of load: wrk where it is installed (Debian package `wrk`), else processes of our own."""

import asyncio
import json
import math
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from client.latency import percentile
from eval.bench.children import output_of
from eval.bench.load import HOST, Load, Outcome, key_prefix
from eval.bench.sender import Part

SCRIPT = Path(__file__).with_name("wrk.lua")


class Generator(Protocol):
    """Sends a load and says how it went."""

    name: str

    async def run(self, load: Load, connections: int, seconds: float) -> Outcome:
        """Send for so many seconds. Raises CannotDo when the generator itself fails."""


def choose() -> Generator:
    """The better of the two that this machine has."""
    program = shutil.which("wrk")
    return Wrk(program) if program is not None else Senders()


def _threads(connections: int) -> int:
    """Half of the cores at most: the servers need the others."""
    return min(connections, max(1, (os.cpu_count() or 1) // 2))


class Wrk:
    """wrk, which is written in C. It counts whole seconds."""

    name = "wrk"

    def __init__(self, program: str) -> None:
        self._program = program

    async def run(self, load: Load, connections: int, seconds: float) -> Outcome:
        """See `Generator.run`."""
        threads = _threads(connections)
        flags = ["-t", str(threads), "-c", str(connections), "-d", f"{math.ceil(seconds)}s", "--timeout", "15s"]
        script = [load.kind, key_prefix(time.time_ns() // 1_000_000), str(load.highest), *load.names]
        before = _children_cpu_s()
        told = await output_of(
            self._program, *flags, "-s", str(SCRIPT), f"http://{HOST}:{load.port}", "--", *script
        )  # no other child ends meanwhile
        used_s = _children_cpu_s() - before
        members: dict[str, int] = json.loads(told.splitlines()[-1])
        duration_s = members["duration_us"] / 1_000_000
        return Outcome(
            requests=members["requests"] - members["refused"],
            errors=members["errors"] + members["refused"],
            seconds=duration_s,
            p50_ms=members["p50_us"] / 1_000,
            p99_ms=members["p99_us"] / 1_000,
            share=used_s / (threads * duration_s),
        )


class Senders:
    """Processes of eval/bench/sender.py."""

    name = "eval.bench.sender"

    async def run(self, load: Load, connections: int, seconds: float) -> Outcome:
        """See `Generator.run`."""
        count = _threads(connections)
        prefix = key_prefix(time.time_ns() // 1_000_000)
        parts = [
            Part(load, connections // count + (number < connections % count), seconds, number, prefix)
            for number in range(count)
        ]
        outputs = (output_of(sys.executable, "-m", "eval.bench.sender", part.dump()) for part in parts)
        told: list[dict[str, Any]] = [json.loads(output) for output in await asyncio.gather(*outputs)]
        ordered = sorted(latency for each in told for latency in each["latencies_us"])
        return Outcome(
            requests=len(ordered),
            errors=sum(each["errors"] for each in told),
            seconds=max(each["seconds"] for each in told),
            p50_ms=percentile(ordered, 50) / 1_000 if ordered else 0.0,
            p99_ms=percentile(ordered, 99) / 1_000 if ordered else 0.0,
            share=max(each["share"] for each in told),
        )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
