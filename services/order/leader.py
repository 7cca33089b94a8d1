"""What a replica does when a front-end takes it for the leader: submit, decide, replicate, then answer.

It does not matter for safety who leads. Two leaders, or one that slept, cannot skip, double or reorder anything,
because the catalog decides, and a leader's log takes only what continues it (docs/design.md, "A trade").
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from services.common.background import ends_process
from services.common.batching import Batcher, BatcherFull
from services.common.models import MAX_TRADES, Entry, Trade, TradeOutcome
from services.common.runtime import Runtime
from services.order.catalog_link import CatalogLink
from services.order.log import OrderLog
from services.order.replication import Replication

MAX_QUEUE = 10_000
PAUSE_MIN_S = 0.02
PAUSE_MAX_S = 0.2


Ended: TypeAlias = Literal["unknown_stock", "unavailable", "unknown"]
"""How waiting for an entry can end without one."""


@dataclass(eq=False)
class Pending:
    """A key in the queue: once, however many wait for it. `trade` is what the first of them sent."""

    trade: Trade
    entry: "asyncio.Future[Entry]"
    waiters: int = 0
    may_be_decided: bool = False
    place: "asyncio.Future[None] | None" = None

    @property
    def now(self) -> "Entry | Ended":
        """Its entry; without one: unknown if a decision may have looked at it, or somebody else waits for it."""
        if self.entry.done():
            return self.entry.result()
        return "unknown" if self.may_be_decided or self.waiters > 1 else "unavailable"


class Leader:
    """Trades on their way through one replica."""

    def __init__(self, runtime: Runtime, log_: OrderLog, link: CatalogLink, replication: Replication) -> None:
        self._runtime = runtime
        self._log = log_
        self._link = link
        self._replication = replication
        self._pending: dict[str, Pending] = {}
        self._queue: Batcher[Pending, None] = Batcher(self._decide, max_batch=MAX_TRADES, max_waiting=MAX_QUEUE)
        log_.on_taken = self._on_taken

    async def trades(self, trades: Sequence[Trade], deadline: float) -> list[TradeOutcome]:
        """See that each trade is decided once and remembered everywhere; say by the deadline what became of it."""
        if self._log.generation is None:
            return [TradeOutcome(result="unavailable")] * len(trades)
        came_at = self._runtime.monotonic()
        known = self._log.find([trade.key for trade in trades])  # in one step with queueing what is not known
        asked = [known.get(trade.key) or self._queued(trade) for trade in trades]
        waiting = [each for each in asked if isinstance(each, Pending)]
        try:
            await self._decided(waiting, deadline)
            found = [each.now if isinstance(each, Pending) else each for each in asked]
        finally:
            for pending in waiting:
                self._leave(pending)
        await self._remembered([each.position for each in found if isinstance(each, Entry)], came_at, deadline)
        return [
            self._outcome(trade, each, came_at, is_replay=trade.key in known)
            for trade, each in zip(trades, found, strict=True)
        ]

    @property
    def waiting(self) -> int:
        """How many keys wait for their entry."""
        return len(self._pending)

    async def close(self) -> None:
        """Stop deciding."""
        await self._queue.close()

    def _queued(self, trade: Trade) -> "Pending | Ended":
        """A place in the queue for a key that is not in the log, shared by all who wait for it."""
        if trade.name not in self._log.names:
            return "unknown_stock"
        pending = self._pending.get(trade.key)
        if pending is None:
            pending = Pending(trade, asyncio.get_running_loop().create_future())
            try:
                pending.place = self._queue.enqueue(pending)
            except BatcherFull:
                return "unavailable"
            self._pending[trade.key] = pending
        pending.waiters += 1
        return pending

    async def _decided(self, waiting: Sequence[Pending], deadline: float) -> None:
        """Return when the entry of every key is in the log, wherever it comes from, or at the deadline."""
        entries = {pending.entry for pending in waiting}
        if entries:
            await asyncio.wait(entries, timeout=deadline - self._runtime.monotonic())

    def _leave(self, pending: Pending) -> None:
        """One waits no longer; a key that nobody waits for is taken out of the queue."""
        pending.waiters -= 1
        if pending.waiters:
            return
        if self._pending.get(pending.trade.key) is pending:
            del self._pending[pending.trade.key]
        if pending.place is not None:
            pending.place.cancel()

    async def _remembered(self, positions: Sequence[int], came_at: float, deadline: float) -> None:
        """Return when all these entries are remembered, or at the deadline."""
        if not positions:
            return
        last = max(positions)
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - self._runtime.monotonic()):
                await self._replication.reach(last)
                while not self._is_remembered(last, came_at):
                    if not await self._link.refresh():
                        await asyncio.sleep(PAUSE_MAX_S)
        await self._runtime.point("order.trade.replicated")

    def _is_remembered(self, position: int, came_at: float) -> bool:
        """Whether an entry is replicated, and cannot have been left out by a rebuild before the trade came.

        A rebuilt catalog has what a follower has. What some follower lacks it may have lost, if this replica was
        declared lost: then the catalog must have answered in this log's generation since the trade came. The decision
        itself is such an answer, so only a key that was in the log before may cost a question (docs/decisions/0009).
        """
        is_safe = self._replication.is_everywhere(position) or self._link.is_confirmed_since(came_at)
        return is_safe and self._replication.replicated.position >= position

    def _outcome(self, trade: Trade, found: "Entry | Ended", came_at: float, *, is_replay: bool) -> TradeOutcome:
        """What to say of a trade whose entry was found, or whose waiting ended without one."""
        if not isinstance(found, Entry):
            return TradeOutcome(result=found)
        if not self._is_remembered(found.position, came_at):
            return TradeOutcome(result="unknown")
        if not found.is_of(trade):
            return TradeOutcome(result="other_content")
        if found.number is None:
            return TradeOutcome(result="refused", replayed=is_replay)
        return TradeOutcome(result="accepted", number=found.number, replayed=is_replay)

    def _on_taken(self, entry: Entry) -> None:
        """The log has a new entry, from wherever: whoever waits for its key goes on."""
        pending = self._pending.pop(entry.key, None)
        if pending is not None:
            pending.entry.set_result(entry)

    async def _decide(self, batch: Sequence[Pending]) -> list[None]:
        """Ask the catalog until every key of the batch that somebody waits for is in the log."""
        pause = PAUSE_MIN_S
        while True:
            asked: dict[Pending, bool] = {}
            with ends_process(self._runtime):
                result = await self._link.decide(partial(self._choose, batch, asked))
            if result == "decided":
                self._replication.push()
                return [None] * len(batch)
            if result == "not_decided":
                for pending, may_be_decided in asked.items():
                    pending.may_be_decided = may_be_decided
            await asyncio.sleep(pause * self._runtime.random.uniform(0.5, 1.0))
            pause = min(2 * pause, PAUSE_MAX_S)

    def _choose(self, batch: Sequence[Pending], asked: dict[Pending, bool]) -> list[Trade]:
        """The trades to ask for now. From this step on they may be decided; `asked` keeps what was known before."""
        chosen = [pending for pending in batch if pending.waiters and not pending.entry.done()]
        for pending in chosen:
            # What the log takes leaves `_pending`, and what was in it before never came there.
            assert self._pending.get(pending.trade.key) is pending, "a key that is in the log is not decided again"
            asked[pending] = pending.may_be_decided
            pending.may_be_decided = True
        return [pending.trade for pending in chosen]
