"""Telling a front-end that works on a request from one that is gone: paused, hung, or cut off from us.

A broken connection says so by itself. Silence says nothing: a trade may take 10 s, and all that time a dead machine
looks like a busy one. So a front-end that is silent for a while is asked whether it lives, which it can answer at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

SILENT_S = 1.0  # for so long nobody is asked
ALIVE_S = 1.0  # an answer that comes later is none

T = TypeVar("T")


async def unless_silent(work: Coroutine[Any, Any, T], is_alive: Callable[[], Awaitable[bool]]) -> T:
    """The result of `work`. While it lasts, `is_alive` is asked again and again; raises TimeoutError when it is not."""
    working = asyncio.create_task(work)
    asking: asyncio.Task[bool] | None = None
    try:
        while True:
            done, _ = await asyncio.wait((working,), timeout=SILENT_S)
            if not done:
                asking = asyncio.create_task(_alive_in_time(is_alive))
                await asyncio.wait((working, asking), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if asking is not None and not asking.result():
                raise TimeoutError("the front-end is silent")
    finally:
        await _end(working, asking)


async def _alive_in_time(is_alive: Callable[[], Awaitable[bool]]) -> bool:
    try:
        async with asyncio.timeout(ALIVE_S):
            return await is_alive()
    except TimeoutError:
        return False


async def _end(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel what is still under way, and leave no exception that nobody has looked at."""
    for task in tasks:
        if task is not None:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
            if not task.cancelled():
                task.exception()
