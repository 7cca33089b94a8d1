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
    in_flight: how many sends may be under way at once. max_waiting: more callers than that get BatcherFull.
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
        self._sends: set[asyncio.Task[None]] = set()

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
        sends = list(self._sends)
        for task in sends:
            task.cancel()
        await asyncio.gather(*sends, return_exceptions=True)
        self._sends.difference_update(sends)  # one that was cancelled before its first step could not do so itself

    def _start(self) -> None:
        if len(self._sends) < self._in_flight:
            self._sends.add(asyncio.create_task(self._run()))

    async def _run(self) -> None:
        """Send batch after batch until nobody waits: the task that ends a trip begins the next one."""
        this = asyncio.current_task()
        assert this is not None
        try:
            while batch := self._take():
                await self._make_trip(batch, this)
        finally:
            self._sends.discard(this)  # in the same step in which nobody waited: a later caller starts a new one

    async def _make_trip(self, batch: "list[_Waiting[ItemT, AnswerT]]", this: "asyncio.Task[Any]") -> None:
        items, futures, contexts = zip(*batch, strict=True)
        try:
            share(contexts[0], contexts)
            trip = asyncio.create_task(self._send(list(items)), context=contexts[0])
            _CancelWhenUnwanted(trip, futures)
            answers = await trip
            assert len(answers) == len(batch), "one answer for each item"
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            # By `close`: that is the end. By its callers or by itself: those who wait behind it go on.
            if this.cancelling():
                raise
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
