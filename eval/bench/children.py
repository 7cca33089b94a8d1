"""Processes that a benchmark starts: gone when it is, and in groups of their own, so that Ctrl-C reaches it alone."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.cluster.errors import CannotDo
from services.cluster.up import environment

END_S = 15.0

Child = asyncio.subprocess.Process


async def start(*command: str) -> Child:
    """A server of ours, which says only what is wrong. Linux ends it with this process."""
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr,
        env=environment() | {"BAZAAR_LOG_LEVEL": "error"},
        process_group=0,
    )


def check_alive(child: Child) -> None:
    """Raise CannotDo when a server has ended."""
    if child.returncode is not None:
        raise CannotDo(f"a server under test ended with status {child.returncode}")


@asynccontextmanager
async def all_stopped() -> AsyncIterator[list[Child]]:
    """Whatever the body put into the list has ended afterwards."""
    children: list[Child] = []
    try:
        yield children
    finally:
        for child in children:
            if child.returncode is None:
                child.terminate()
        try:
            async with asyncio.timeout(END_S):
                await asyncio.gather(*(child.wait() for child in children))
        finally:
            for child in children:
                if child.returncode is None:
                    child.kill()
                    await child.wait()


async def output_of(*command: str) -> str:
    """What a process prints; it is gone when this ends, however it ends. Raises CannotDo when it fails."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        process_group=0,
    )
    try:
        output, errors = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise CannotDo(last[0] if last else f"{command[0]} ended with status {child.returncode}")
    return output.decode()
