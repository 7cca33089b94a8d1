"""Telling a service that works on a request from one that is gone: paused, hung, or cut off.

A broken connection says so by itself. Silence says nothing: a trade may take 10 s, and all that time a dead machine
looks like a busy one. So a service that is silent for a while is asked how it is, which it can answer at once.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless_silent(
    work: Coroutine[Any, Any, T], is_well: Callable[[], Coroutine[Any, Any, bool]], silent_s: float
) -> T:
    """The result of `work`. While it lasts, `is_well` is asked every `silent_s`; raises TimeoutError when it is not.

    `is_well` has a time limit of its own: who does not answer is not well.
    """
    working = asyncio.create_task(work)
    asking: asyncio.Task[bool] | None = None
    try:
        while True:
            done, _ = await asyncio.wait((working,), timeout=silent_s)
            if not done:
                asking = asyncio.create_task(is_well())
                await asyncio.wait((working, asking), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if asking is not None and not asking.result():
                raise TimeoutError("it is silent")
    finally:
        await end_all(working, asking)


async def end_all(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel what is still under way, and leave no exception that nobody has looked at."""
    made = [task for task in tasks if task is not None]
    under_way = [task for task in made if not task.done()]
    for task in under_way:
        task.cancel()
    if under_way:
        await asyncio.wait(under_way)
    for task in made:
        if not task.cancelled():
            task.exception()
