"""Calls that share a trip: whoever comes while one trip is under way joins the next.

One helper serves the four links of the bazaar (front-end to leader, leader to catalog, leader to followers, catalog to
front-ends), so that one HTTP call and one fsync are shared by all trades in flight. A trip that a caller joins always
begins after the call: an empty batch can therefore be used as a question about the present. A trip is made in the
context of the first who waits for it: under its request id, and in its trace.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from services.common.tracing import share

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")


_Waiting: TypeAlias = "tuple[ItemT, asyncio.Future[AnswerT], Context]"


class BatcherFull(Exception):
    """Definite: too many callers wait already; the item was not sent."""


class Batcher(Generic[ItemT, AnswerT]):
    """Collects items while `send` is under way, then sends them together.

    send: takes 1 to `max_batch` items and gives one answer for each, in order; what it raises, every one of them gets.
    in_flight: how many sends may be under way at once; another one begins only when as many callers wait for it as are
    on their way, since many small trips cost more than they gain. max_waiting: more callers than that get BatcherFull.
    """

    def __init__(
        self,
        send: Callable[[list[ItemT]], Coroutine[Any, Any, Sequence[AnswerT]]],
        *,
        max_batch: int,
        max_waiting: int = 10_000,
        in_flight: int = 1,
    ) -> None:
        self._send = send
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._in_flight = in_flight
        self._waiting: deque[_Waiting[ItemT, AnswerT]] = deque()
        self._trips: set[asyncio.Task[None]] = set()
        self._travelling = 0  # items on those trips
        self._is_beginning = False  # one begins with the next turn of the event loop

    async def submit(self, item: ItemT) -> AnswerT:
        """Send `item` with the next batch and give its answer. Cancelled while waiting, it is never sent."""
        return await self.enqueue(item)

    def enqueue(self, item: ItemT) -> "asyncio.Future[AnswerT]":
        """As `submit`, for a caller that does not wait at once: cancel the future to take the item back."""
        if len(self._waiting) >= self._max_waiting:
            raise BatcherFull
        future: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future, copy_context()))
        self._start()
        return future

    async def close(self) -> None:
        """Cancel everything that waits or is under way."""
        for _, future, _ in self._waiting:
            future.cancel()
        self._waiting.clear()
        for trip in self._trips:
            trip.cancel()
        await asyncio.gather(*self._trips, return_exceptions=True)

    def _start(self) -> None:
        """Begin a trip with the next turn of the event loop, so that all who come in this one travel together."""
        if not self._is_beginning and self._may_begin():
            self._is_beginning = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _may_begin(self) -> bool:
        return len(self._trips) < self._in_flight and len(self._waiting) >= self._travelling

    def _begin(self) -> None:
        """Begin trips with those who wait. The end of a trip is the beginning of the next one."""
        self._is_beginning = False
        while self._may_begin() and (batch := self._take()):
            items, futures, contexts = zip(*batch, strict=True)
            share(contexts[0], contexts)
            trip = asyncio.create_task(self._make_trip(list(items), futures), context=contexts[0])
            self._trips.add(trip)
            self._travelling += len(batch)
            trip.add_done_callback(partial(self._ended, futures))
            _CancelWhenUnwanted(trip, futures)

    def _ended(self, futures: "Sequence[asyncio.Future[AnswerT]]", trip: "asyncio.Task[None]") -> None:
        if trip.cancelled():  # by its callers, by itself or by `close`, and perhaps before its first step
            for future in futures:
                future.cancel()
        self._trips.discard(trip)
        self._travelling -= len(futures)
        self._begin()

    async def _make_trip(self, items: list[ItemT], futures: "Sequence[asyncio.Future[AnswerT]]") -> None:
        try:
            answers = await self._send(items)
            assert len(answers) == len(items), "one answer for each item"
        except Exception as error:  # noqa: BLE001 - every caller gets it, whatever it is
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        else:
            for future, answer in zip(futures, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    def _take(self) -> "list[_Waiting[ItemT, AnswerT]]":
        batch: list[_Waiting[ItemT, AnswerT]] = []
        while self._waiting and len(batch) < self._max_batch:
            each = self._waiting.popleft()
            if not each[1].done():
                batch.append(each)
        return batch


class _CancelWhenUnwanted:
    """Cancels a trip once every one of its callers has been cancelled, so that nobody queues behind a dead one."""

    def __init__(self, trip: "asyncio.Future[Any]", futures: Sequence["asyncio.Future[AnswerT]"]) -> None:
        self._trip = trip
        self._wanted = len(futures)
        for future in futures:
            future.add_done_callback(self._on_done)

    def _on_done(self, future: "asyncio.Future[AnswerT]") -> None:
        if future.cancelled():
            self._wanted -= 1
            if self._wanted == 0:
                self._trip.cancel()
