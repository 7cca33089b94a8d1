"""Work that cannot fail unseen: what breaks it takes the process with it, and the supervisor starts a new one."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from services.common.database import DiskFull
from services.common.errors import FAILED_STATUS, NO_ROOM_STATUS, IntegrityFailure
from services.common.logs import get_log
from services.common.runtime import Runtime

log = get_log(__name__)


def log_failure(failure: IntegrityFailure) -> None:
    """Say why this process stops for good, in the words that `bazaar status` shows."""
    with suppress(Exception):  # the disk may be too full for last words; the end must come all the same
        log.critical("integrity failure, this process stops for good", reason=str(failure))


@contextmanager
def ends_process(runtime: Runtime) -> Iterator[None]:
    """End the process when the body fails: with status 3, for good, for an IntegrityFailure; 4: a full disk; else 1."""
    try:
        yield
    except IntegrityFailure as failure:
        log_failure(failure)
        runtime.end_process(FAILED_STATUS)
        raise
    except Exception as error:
        with suppress(Exception):
            log.exception("this process cannot go on and stops")
        runtime.end_process(NO_ROOM_STATUS if isinstance(error, DiskFull) else 1)
        raise


async def _run(runtime: Runtime, work: Coroutine[Any, Any, None]) -> None:
    with ends_process(runtime):
        await work


@asynccontextmanager
async def background(runtime: Runtime, *works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `works` beside the body; at its end they are cancelled and waited for."""
    tasks = [asyncio.create_task(_run(runtime, work)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
