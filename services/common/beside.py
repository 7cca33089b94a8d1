"""A question that several could answer: the next one is asked beside one that is silent, not after it.

Who is silent may be gone, or may be about to answer, and nobody can tell. To wait for it costs time if it is gone, to
leave it costs time if the next one is. So it is left only when another one has answered.
"""

import asyncio
from asyncio import FIRST_COMPLETED
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from services.common.http import PeerError

CandidateT = TypeVar("CandidateT")
T = TypeVar("T")


async def first_answer(
    candidates: Sequence[CandidateT],
    ask: Callable[[CandidateT], Coroutine[Any, Any, T]],
    *,
    beside_s: float,
    again_s: float,
    gives_up: bool,
) -> T:
    """The first answer of any. The next one is asked when one has failed (PeerError), or was silent for `beside_s`.

    One that failed is asked again after `again_s`, and so on: the caller sets an end to it. gives_up: raise the last
    failure as soon as all have failed.
    """
    others = deque(candidates)
    failed: set[CandidateT] = set()
    asked: dict[asyncio.Task[T], CandidateT] = {}

    async def again(candidate: CandidateT) -> T:
        await asyncio.sleep(again_s)
        return await ask(candidate)

    try:
        while True:
            if others:
                candidate = others.popleft()
                asked[asyncio.create_task(ask(candidate))] = candidate
            await asyncio.wait(asked, timeout=beside_s if others else None, return_when=FIRST_COMPLETED)
            for task in [task for task in asked if task.done()]:
                candidate = asked.pop(task)
                try:
                    return task.result()
                except PeerError:
                    failed.add(candidate)
                    if gives_up and len(failed) == len(candidates):
                        raise
                    asked[asyncio.create_task(again(candidate))] = candidate
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
