"""Waiting for a service that is silent: who is asked, and what ends when the waiting ends."""

import asyncio

import httpx
import pytest

from services.common.silence import unless_silent


async def test_question_is_given_up_when_the_answer_comes_meanwhile() -> None:
    was_asked, was_given_up = asyncio.Event(), asyncio.Event()

    async def answer() -> str:
        await was_asked.wait()
        return "the answer"

    async def is_well() -> bool:
        was_asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            was_given_up.set()
        return False

    assert await unless_silent(answer(), is_well, 0.01) == "the answer"
    assert was_given_up.is_set()


async def test_nothing_goes_on_when_the_call_is_cancelled() -> None:
    was_asked, ended = asyncio.Event(), []

    async def forever(name: str) -> bool:
        try:
            was_asked.set()
            await asyncio.Event().wait()
        finally:
            ended.append(name)
        return True

    call = asyncio.create_task(unless_silent(forever("call"), lambda: forever("question"), 0.01))
    await was_asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert ended[0] == "call"


async def test_error_is_the_calls_own_when_it_fails() -> None:
    async def fail() -> None:
        raise httpx.ReadError("reset")

    async def well() -> bool:
        return True

    with pytest.raises(httpx.ReadError, match="reset"):
        await unless_silent(fail(), well, 0.01)
