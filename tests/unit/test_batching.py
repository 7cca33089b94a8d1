"""Calls that share a trip: who travels together, what each gets, and what happens when callers or trips are lost."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.batching import Batcher, BatcherFull
from tests.support.catalog_world import turns
from tests.support.fake_time import in_fake_time


class Link:
    """Trips that stay under way until the test lets them arrive. `batches`: what each one carried."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.cancelled: list[int] = []
        self.clean_up = 0.0
        self._ends: list[asyncio.Future[None]] = []

    async def send(self, batch: list[int]) -> Sequence[str]:
        trip = len(self.batches)
        self.batches.append(batch)
        self._ends.append(asyncio.get_running_loop().create_future())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self._ends[trip]
        except asyncio.CancelledError:
            self.cancelled.append(trip)
            await asyncio.sleep(self.clean_up)
            raise
        finally:
            self.under_way -= 1
        return [f"answer {item}" for item in batch]

    def arrive(self, trip: int) -> None:
        self._ends[trip].set_result(None)

    def fail(self, trip: int, error: BaseException) -> None:
        self._ends[trip].set_exception(error)

    def trips_under_way(self) -> list[int]:
        return [trip for trip, end in enumerate(self._ends) if not end.done()]

    def batcher(self, max_batch: int = 10, max_waiting: int = 100, in_flight: int = 1) -> Batcher[int, str]:
        return Batcher(self.send, max_batch=max_batch, max_waiting=max_waiting, in_flight=in_flight)


def calls(batcher: Batcher[int, str], *items: int) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(batcher.submit(item)) for item in items]


@in_fake_time
async def test_calls_share_a_trip_when_they_come_in_one_step() -> None:
    link = Link()
    waiting = calls(link.batcher(), 1, 2, 3)
    await turns()
    assert link.batches == [[1, 2, 3]]
    link.arrive(0)
    assert await asyncio.gather(*waiting) == ["answer 1", "answer 2", "answer 3"]


@in_fake_time
async def test_calls_join_the_next_trip_when_one_is_under_way() -> None:
    link = Link()
    batcher = link.batcher()
    first = calls(batcher, 1)
    await turns()
    later = calls(batcher, 2, 3)
    await turns()
    assert link.batches == [[1]]
    link.arrive(0)
    assert await first[0] == "answer 1"
    await turns()
    assert link.batches == [[1], [2, 3]]
    link.arrive(1)
    assert await asyncio.gather(*later) == ["answer 2", "answer 3"]


@in_fake_time
async def test_each_gets_its_own_answer_when_equal_items_share_a_trip() -> None:
    async def number(batch: list[str]) -> list[int]:
        return list(range(len(batch)))

    batcher = Batcher(number, max_batch=10)
    assert await asyncio.gather(*(batcher.submit("same") for _ in range(4))) == [0, 1, 2, 3]


@in_fake_time
async def test_trips_are_full_and_in_order_when_more_wait_than_one_holds() -> None:
    link = Link()
    waiting = calls(link.batcher(max_batch=2), 1, 2, 3, 4, 5)
    for trip in range(3):
        await turns()
        link.arrive(trip)
    assert await asyncio.gather(*waiting) == [f"answer {i}" for i in range(1, 6)]
    assert link.batches == [[1, 2], [3, 4], [5]]
    assert link.most_under_way == 1


@in_fake_time
async def test_trips_overlap_up_to_the_limit_when_several_may_be_in_flight() -> None:
    link = Link()
    batcher = link.batcher(max_batch=1, in_flight=2)
    waiting = calls(batcher, 1, 2, 3)
    await turns()
    assert link.batches == [[1], [2]]
    link.arrive(1)  # the later trip ends first
    assert await waiting[1] == "answer 2"
    await turns()
    assert link.batches == [[1], [2], [3]]
    link.arrive(0)
    link.arrive(2)
    assert await asyncio.gather(*waiting) == ["answer 1", "answer 2", "answer 3"]
    assert link.most_under_way == 2


@in_fake_time
async def test_another_trip_begins_only_when_as_many_wait_as_are_on_their_way() -> None:
    link = Link()
    batcher = link.batcher(in_flight=2)
    waiting = calls(batcher, 1, 2, 3)
    await turns()
    waiting += calls(batcher, 4, 5)
    await turns()
    assert link.batches == [[1, 2, 3]]
    waiting += calls(batcher, 6)
    await turns()
    assert link.batches == [[1, 2, 3], [4, 5, 6]]
    waiting += calls(batcher, 7)
    link.arrive(0)
    await turns()
    assert link.under_way == 1, "three are on their way, and one waits"
    link.arrive(1)
    await turns()
    assert link.batches[2:] == [[7]], "nobody is on the way"
    link.arrive(2)
    assert await asyncio.gather(*waiting) == [f"answer {i}" for i in range(1, 8)]


@in_fake_time
async def test_both_trips_are_used_again_when_all_was_quiet() -> None:
    link = Link()
    batcher = link.batcher(max_batch=1, in_flight=2)
    for round_ in range(3):
        waiting = calls(batcher, 1, 2)
        await turns()
        assert link.under_way == 2
        link.arrive(2 * round_)
        link.arrive(2 * round_ + 1)
        await asyncio.gather(*waiting)


@in_fake_time
async def test_a_trip_begins_after_the_call_when_it_is_a_question_about_the_present() -> None:
    state = 0

    async def read(batch: list[None]) -> list[int]:
        seen = state
        await asyncio.sleep(1)
        return [seen] * len(batch)

    batcher = Batcher(read, max_batch=10)
    early = asyncio.create_task(batcher.submit(None))
    await asyncio.sleep(0.5)
    state = 1
    assert await batcher.submit(None) == 1
    assert await early == 0


# Cancelled callers.


@in_fake_time
async def test_an_item_is_never_sent_when_its_caller_is_cancelled_while_it_waits() -> None:
    link = Link()
    batcher = link.batcher()
    first = calls(batcher, 1)
    await turns()
    waiting = calls(batcher, 2, 3, 4)
    await turns()
    waiting[1].cancel()
    link.arrive(0)
    await first[0]
    await turns()
    assert link.batches == [[1], [2, 4]]
    link.arrive(1)
    assert [await waiting[0], await waiting[2]] == ["answer 2", "answer 4"]
    assert waiting[1].cancelled()


@in_fake_time
async def test_nothing_is_sent_when_all_who_wait_are_cancelled() -> None:
    link = Link()
    batcher = link.batcher()
    only = batcher.enqueue(1)
    only.cancel()
    await turns()
    assert link.batches == []
    last = calls(batcher, 2)
    await turns()
    link.arrive(0)
    assert await last[0] == "answer 2"


@in_fake_time
async def test_a_trip_goes_on_when_one_of_its_callers_is_cancelled() -> None:
    link = Link()
    waiting = calls(link.batcher(), 1, 2)
    await turns()
    waiting[0].cancel()
    await turns()
    assert link.under_way == 1
    link.arrive(0)
    assert await waiting[1] == "answer 2"
    assert waiting[0].cancelled()
    assert not link.cancelled


@in_fake_time
async def test_the_next_batch_goes_on_when_all_callers_of_a_trip_are_cancelled() -> None:
    link = Link()
    batcher = link.batcher()
    dead = calls(batcher, 1, 2)
    await turns()
    alive = calls(batcher, 3)
    await turns()
    for call in dead:
        call.cancel()
    await turns()
    assert link.cancelled == [0]
    assert link.batches == [[1, 2], [3]]
    link.arrive(1)
    assert await alive[0] == "answer 3"


@in_fake_time
async def test_the_next_trip_waits_for_the_end_of_a_cancelled_one_when_that_takes_time() -> None:
    link = Link()
    link.clean_up = 5.0
    batcher = link.batcher()
    dead = calls(batcher, 1)
    await turns()
    alive = calls(batcher, 2)
    dead[0].cancel()
    await asyncio.sleep(4.9)
    assert link.batches == [[1]]
    await asyncio.sleep(0.2)
    assert link.batches == [[1], [2]]
    link.arrive(1)
    assert await alive[0] == "answer 2"
    assert link.most_under_way == 1


@in_fake_time
async def test_the_next_batch_goes_on_when_a_trip_will_not_be_cancelled() -> None:
    sent: list[list[int]] = []

    async def stubborn(batch: list[int]) -> list[int]:
        sent.append(batch)
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return batch

    batcher = Batcher(stubborn, max_batch=10)
    dead = batcher.enqueue(1)
    await turns()
    alive = batcher.enqueue(2)
    dead.cancel()
    assert await alive == 2
    assert sent == [[1], [2]]


@in_fake_time
async def test_the_next_batch_goes_on_when_a_cancelled_trip_fails_in_its_own_way() -> None:
    async def broken(batch: list[int]) -> list[int]:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            raise OSError("in the clean-up") from None
        return batch

    batcher = Batcher(broken, max_batch=10)
    dead = batcher.enqueue(1)
    await turns()
    alive = batcher.enqueue(2)
    dead.cancel()
    assert await alive == 2


@pytest.mark.parametrize("steps", range(6))
@in_fake_time
async def test_the_next_batch_goes_on_when_a_caller_is_cancelled_as_its_trip_arrives(steps: int) -> None:
    link = Link()
    batcher = link.batcher()
    call = calls(batcher, 1)[0]
    await turns()
    behind = calls(batcher, 2)[0]
    link.arrive(0)
    await turns(steps)
    call.cancel()
    await turns()
    assert call.cancelled() or call.result() == "answer 1"
    assert link.batches == [[1], [2]]
    link.arrive(1)
    assert await behind == "answer 2"


# Failures.


@in_fake_time
async def test_every_caller_gets_the_error_when_a_trip_fails_and_the_next_goes_on() -> None:
    link = Link()
    batcher = link.batcher()
    lost = calls(batcher, 1, 2)
    await turns()
    later = calls(batcher, 3)
    link.fail(0, ConnectionError("lost"))
    results = await asyncio.gather(*lost, return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError, ConnectionError]
    await turns()
    link.arrive(1)
    assert await later[0] == "answer 3"


@in_fake_time
async def test_only_the_others_get_the_error_when_one_caller_was_cancelled_before() -> None:
    link = Link()
    waiting = calls(link.batcher(), 1, 2)
    await turns()
    waiting[0].cancel()
    link.fail(0, ConnectionError("lost"))
    with pytest.raises(ConnectionError):
        await waiting[1]
    assert waiting[0].cancelled()


@in_fake_time
async def test_those_behind_are_sent_when_a_trip_ends_as_cancelled_by_itself() -> None:
    link = Link()
    batcher = link.batcher(max_batch=1)
    waiting = calls(batcher, 1, 2)
    await turns()
    link.fail(0, asyncio.CancelledError())  # as when it waited for something that somebody else cancelled
    await turns()
    assert waiting[0].cancelled()
    assert link.batches == [[1], [2]]
    link.arrive(1)
    assert await waiting[1] == "answer 2"


@pytest.mark.parametrize("answers", [[], ["one"], ["one", "two", "three"]])
@in_fake_time
async def test_every_caller_gets_an_error_when_there_is_not_one_answer_for_each(answers: list[str]) -> None:
    async def wrong(_: list[int]) -> list[str]:
        return answers

    batcher = Batcher(wrong, max_batch=10)
    results = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert [type(result) for result in results] == [AssertionError, AssertionError]


@in_fake_time
async def test_the_caller_is_told_at_once_when_too_many_wait() -> None:
    link = Link()
    batcher = link.batcher(max_batch=2, max_waiting=2)
    first = calls(batcher, 1)
    await turns()
    waiting = calls(batcher, 2, 3)
    await turns()
    with pytest.raises(BatcherFull):
        await batcher.submit(4)
    with pytest.raises(BatcherFull):
        _ = batcher.enqueue(5)
    link.arrive(0)
    await first[0]
    await turns()
    waiting += calls(batcher, 6)  # there is room again, for those before are on their way
    await turns()
    link.arrive(1)
    await turns()
    link.arrive(2)
    assert await asyncio.gather(*waiting) == ["answer 2", "answer 3", "answer 6"]
    assert link.batches == [[1], [2, 3], [6]]


# The very step in which a trip ends.


@pytest.mark.parametrize("steps", range(8))
@in_fake_time
async def test_an_item_is_sent_when_it_comes_some_steps_after_a_trip_ended(steps: int) -> None:
    link = Link()
    batcher = link.batcher()
    first = calls(batcher, 1)
    await turns()
    link.arrive(0)
    await turns(steps)
    second = calls(batcher, 2)
    await turns()
    assert link.batches == [[1], [2]]
    link.arrive(1)
    assert await asyncio.gather(*first, *second) == ["answer 1", "answer 2"]


@in_fake_time
async def test_an_item_is_sent_when_it_comes_from_the_callback_of_an_answer() -> None:
    link = Link()
    batcher = link.batcher()
    later: list[asyncio.Future[str]] = []
    batcher.enqueue(1).add_done_callback(lambda _: later.append(batcher.enqueue(2)))
    await turns()
    link.arrive(0)
    await turns()
    link.arrive(1)
    assert await later[0] == "answer 2"


@in_fake_time
async def test_an_item_is_sent_when_it_comes_in_the_last_step_of_the_trip_itself() -> None:
    later: list[asyncio.Future[int]] = []

    async def send(batch: list[int]) -> list[int]:
        if batch == [1]:
            later.append(batcher.enqueue(2))
        return batch

    batcher = Batcher(send, max_batch=10)
    assert await batcher.submit(1) == 1
    assert await later[0] == 2


# The end.


@in_fake_time
async def test_all_who_wait_and_travel_are_cancelled_when_it_is_closed() -> None:
    link = Link()
    link.clean_up = 1.0
    batcher = link.batcher(max_batch=1, in_flight=2)
    waiting = calls(batcher, 1, 2, 3)
    await turns()
    await batcher.close()
    assert link.under_way == 0, "close waits for the end of what it cancelled"
    assert sorted(link.cancelled) == [0, 1]
    await turns()
    assert all(call.cancelled() for call in waiting)
    assert link.batches == [[1], [2]]


@in_fake_time
async def test_nothing_is_left_when_it_is_closed_as_the_last_caller_goes() -> None:
    link = Link()
    link.clean_up = 1.0
    batcher = link.batcher()
    only = calls(batcher, 1)[0]
    await turns()
    only.cancel()
    await turns(1)
    await batcher.close()
    assert link.under_way == 0
    assert only.cancelled()


@pytest.mark.parametrize("steps", range(4))
@in_fake_time
async def test_no_caller_hangs_when_it_comes_after_the_close(steps: int) -> None:
    link = Link()
    batcher = link.batcher()
    before = batcher.enqueue(1)
    await turns(steps)  # 0: the trip had not begun
    await batcher.close()
    assert before.cancelled()
    after = batcher.enqueue(2)
    await turns()
    assert link.batches[-1] == [2]
    link.arrive(len(link.batches) - 1)
    assert await after == "answer 2"


@in_fake_time
async def test_closing_does_nothing_when_nothing_waits() -> None:
    batcher = Link().batcher()
    await batcher.close()
    await batcher.close()


# Any order of events.


class Play:
    """Plays events in any order: calls, cancelled callers, trips that arrive or fail, and time that passes."""

    def __init__(self, max_batch: int, in_flight: int) -> None:
        self.link = Link()
        self.calls: list[asyncio.Future[str]] = []
        self._batcher = self.link.batcher(max_batch, in_flight=in_flight)

    async def step(self, what: str, number: int) -> None:
        match what:
            case "call":
                self.calls.append(self._batcher.enqueue(len(self.calls)))
            case "cancel" if self.calls:
                self.calls[number % len(self.calls)].cancel()
            case "arrive":
                self.end(number)
            case "fail":
                self.end(number, ConnectionError())
            case "turn":
                await turns(number)

    def end(self, number: int, error: Exception | None = None) -> None:
        """End one of the trips under way."""
        under_way = self.link.trips_under_way()
        if not under_way:
            return
        trip = under_way[number % len(under_way)]
        if error is None:
            self.link.arrive(trip)
        else:
            self.link.fail(trip, error)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["call", "cancel", "arrive", "fail", "turn"]), st.integers(0, 9)), max_size=60),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_each_item_is_sent_once_and_answered_in_any_order_of_events(
    events: list[tuple[str, int]], max_batch: int, in_flight: int
) -> None:
    _play(events, max_batch, in_flight)


@in_fake_time
async def _play(events: list[tuple[str, int]], max_batch: int, in_flight: int) -> None:
    play = Play(max_batch, in_flight)
    for what, number in events:
        await play.step(what, number)
    while not all(call.done() for call in play.calls):
        play.end(0)
        await turns()
    sent = [item for batch in play.link.batches for item in batch]
    assert len(sent) == len(set(sent)), "no item is sent twice"
    assert all(len(batch) <= max_batch for batch in play.link.batches)
    assert play.link.most_under_way <= in_flight
    for item, call in enumerate(play.calls):
        if not call.cancelled():
            assert call.exception() is not None or call.result() == f"answer {item}"
            assert item in sent
    await turns()
    assert play.link.under_way == 0
