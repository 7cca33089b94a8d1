"""The two that a replica speaks to: a catalog that decides, and followers that take; honest unless a test steps in."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

import httpx
from pydantic import BaseModel

from services.catalog.inventory import Inventory
from services.common.digest import empty_head, follows, head_at
from services.common.models import (
    AppendAnswer,
    AppendOutcome,
    AppendRequest,
    DecideAnswer,
    DecideRequest,
    EntriesAnswer,
    Entry,
    GenerationAnswer,
    Head,
    Stock,
    Trade,
)
from tests.support.fake_network import answer, failure
from tests.support.order_chain import STOCKS

Step: TypeAlias = Callable[[], Awaitable[object]]
Instead: TypeAlias = BaseModel | httpx.Response | Exception | None


def _give(instead: BaseModel | httpx.Response | Exception) -> httpx.Response:
    if isinstance(instead, Exception):
        raise instead
    return answer(instead) if isinstance(instead, BaseModel) else instead


class DecidingCatalog:
    """The catalog's side of `decide`, over a real inventory.

    instead: used up one for each request to decide, in place of deciding; None lets one through. then: the same, after
    it was decided, in place of the answer. before, after: awaited before it is decided, and before it is answered.
    """

    def __init__(self, generation: int = 1, initial: Sequence[Stock] = STOCKS, entries: Iterable[Entry] = ()) -> None:
        self.inventory = Inventory(generation, list(initial), initial, empty_head(initial), list(entries))
        self.requests: list[DecideRequest] = []
        self.answered = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.instead: deque[Instead] = deque()
        self.then: deque[Instead] = deque()
        self.before: Step | None = None
        self.after: Step | None = None
        self.is_starting = False

    @property
    def asked(self) -> list[list[str]]:
        """The keys of every request that carried trades."""
        return [[trade.key for trade in request.trades] for request in self.requests if request.trades]

    def decide(self, *trades: Trade) -> list[Entry]:
        """Decide trades for somebody else."""
        head = self.inventory.head
        request = DecideRequest(
            generation=self.inventory.generation, replica_id=9, head=head, fsynced=0, trades=list(trades)
        )
        plan = self.inventory.plan(request, at=1)
        self.inventory.apply(plan)
        return plan.entries

    def forget(self, position: int) -> None:
        """Raise base, as when every replica has reported so much."""
        self.inventory.report(1, position, [1])

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if self.is_starting:
            return failure(503)
        if request.url.path == "/generation":
            return answer(GenerationAnswer(generation=self.inventory.generation, stocks=self.inventory.initial))
        assert request.url.path == "/decide", request.url.path
        message = DecideRequest.model_validate_json(request.content)
        self.requests.append(message)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._decide(message)
        finally:
            self.in_flight -= 1

    async def _decide(self, request: DecideRequest) -> httpx.Response:
        if self.before is not None:
            await self.before()
        instead = self.instead.popleft() if self.instead else None
        if instead is not None:
            return _give(instead)
        made = self._answer(request)
        if self.after is not None:
            await self.after()
        then = self.then.popleft() if self.then else None
        self.answered += 1
        return answer(made) if then is None else _give(then)

    def _answer(self, request: DecideRequest) -> DecideAnswer:
        early = self.inventory.examine(request)
        if early is not None:
            return early
        plan = self.inventory.plan(request, at=1_760_000_000_000)
        self.inventory.apply(plan)
        return self.inventory.answer(plan.since + plan.entries)


class TakingFollower:
    """A follower's side of `append`, and any replica's of `entries`.

    instead: asked for every append; what it gives is answered. gate: awaited before an append is looked at.
    """

    def __init__(self, generation: int | None = 1, initial: Sequence[Stock] = STOCKS) -> None:
        self.generation = generation
        self.entries: list[Entry] = []
        self.appends: list[AppendRequest] = []
        self.fetches: list[int] = []
        self.most_in_flight = 0
        self.instead: Callable[[AppendRequest], Instead] | None = None
        self.gate: Step | None = None
        self._heads = [empty_head(initial)]
        self._in_flight = 0

    @property
    def head(self) -> Head:
        return self._heads[-1]

    def take(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            assert follows(entry, self.head)
            self.entries.append(entry)
            self._heads.append(head_at(entry, self.head))

    def wipe(self) -> None:
        del self.entries[:], self._heads[1:]

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/entries":
            after, limit = int(request.url.params["after"]), int(request.url.params["limit"])
            self.fetches.append(after)
            found = self.entries[after : after + limit]
            return answer(EntriesAnswer(generation=self.generation, head=self.head, entries=found))
        message = AppendRequest.model_validate_json(request.content)
        self.appends.append(message)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            if self.gate is not None:
                await self.gate()
            instead = self.instead(message) if self.instead else None
            return answer(self._append(message)) if instead is None else _give(instead)
        finally:
            self._in_flight -= 1

    def _append(self, request: AppendRequest) -> AppendAnswer:
        if request.generation != self.generation:
            return self.says("other_generation")
        if request.before.position > self.head.position:
            return self.says("behind")
        if self._heads[request.before.position] != request.before:
            return self.says("diverged")
        self.take(entry for entry in request.entries if entry.position > self.head.position)
        return self.says("taken")

    def says(self, outcome: AppendOutcome, head: Head | None = None) -> AppendAnswer:
        return AppendAnswer(generation=self.generation, outcome=outcome, head=head or self.head)


async def forever() -> None:
    await asyncio.Event().wait()
