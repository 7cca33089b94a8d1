"""A position that only grows, and those who wait for it."""

import asyncio
import random

import pytest

from services.order.watermark import Watermark
from tests.support.fake_time import in_fake_time


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@in_fake_time
async def test_reach_returns_at_once_when_the_mark_is_there() -> None:
    mark = Watermark(7)
    for position in (-1, 0, 6, 7):
        await mark.reach(position)


@in_fake_time
async def test_nothing_is_lost_when_the_mark_is_told_a_lower_position() -> None:
    mark = Watermark(7)
    waiter = asyncio.ensure_future(mark.reach(8))
    await _settle()
    for position in (6, 7, 0, -1):
        mark.rise_to(position)
        assert mark.position == 7
    await _settle()
    assert not waiter.done()
    mark.rise_to(8)
    await waiter


@in_fake_time
async def test_only_those_far_enough_wake_when_the_mark_rises() -> None:
    mark = Watermark()
    waiters = {position: asyncio.ensure_future(mark.reach(position)) for position in (5, 1, 4, 2, 3)}
    await _settle()
    mark.rise_to(3)
    await _settle()
    assert {position for position, waiter in waiters.items() if waiter.done()} == {1, 2, 3}
    mark.rise_to(5)
    await asyncio.gather(*waiters.values())


@in_fake_time
async def test_those_who_wait_for_one_position_wake_in_order_when_it_is_reached() -> None:
    mark, woken = Watermark(), list[int]()

    async def wait(number: int) -> None:
        await mark.reach(1)
        woken.append(number)

    waiters = [asyncio.ensure_future(wait(number)) for number in range(5)]
    await _settle()
    mark.rise_to(1)
    await asyncio.gather(*waiters)
    assert woken == [0, 1, 2, 3, 4]


@in_fake_time
async def test_others_wake_when_one_who_waits_is_cancelled() -> None:
    mark = Watermark()
    waiters = [asyncio.ensure_future(mark.reach(position)) for position in (1, 2, 2, 3)]
    await _settle()
    waiters[0].cancel()
    waiters[2].cancel()
    mark.rise_to(2)  # in the same step: their futures are cancelled only when they run
    await waiters[1]
    mark.rise_to(3)
    await waiters[3]
    for cancelled in (waiters[0], waiters[2]):
        with pytest.raises(asyncio.CancelledError):
            await cancelled


@in_fake_time
async def test_nothing_is_kept_of_those_who_gave_up_when_the_mark_rises_a_little() -> None:
    mark = Watermark()
    waiters = [asyncio.ensure_future(mark.reach(1_000)) for _ in range(100)]
    await _settle()
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    mark.rise_to(1)
    assert not mark._waiting


@in_fake_time
async def test_nobody_wakes_too_early_or_never_when_marks_and_waiters_come_at_random() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        mark, highest = Watermark(), 0
        waiters: list[tuple[int, asyncio.Future[None]]] = []
        for _ in range(200):
            what = rng.random()
            if what < 0.5:
                position = rng.randint(0, 60)
                waiters.append((position, asyncio.ensure_future(mark.reach(position))))
            elif what < 0.7 and waiters:
                rng.choice(waiters)[1].cancel()
            else:
                position = rng.randint(0, 40)
                highest = max(highest, position)
                mark.rise_to(position)
            if rng.random() < 0.5:
                await _settle()
                for wanted, waiter in waiters:
                    assert waiter.done() == (wanted <= highest) or waiter.cancelled(), f"seed {seed}"
        mark.rise_to(60)
        await asyncio.gather(*(waiter for _, waiter in waiters), return_exceptions=True)
