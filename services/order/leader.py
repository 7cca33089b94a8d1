"""What a replica does when a front-end takes it for the leader: submit, decide, replicate, then answer.

It does not matter for safety who leads. Two leaders, or one that slept, cannot skip, double or reorder anything,
because the catalog decides, and a leader's log takes only what continues it (docs/design.md, "A trade").
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

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


@dataclass(eq=False)
class Pending:
    """A key in the queue: once, however many wait for it. `trade` is what the first of them sent."""

    trade: Trade
    entry: "asyncio.Future[Entry]"
    waiters: int = 0
    may_be_decided: bool = False
    place: "asyncio.Future[None] | None" = None


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

    async def trade(self, trade: Trade, deadline: float) -> TradeOutcome:
        """See that `trade` is decided once and remembered everywhere; say what became of it by the deadline."""
        if self._log.generation is None:
            return TradeOutcome(result="unavailable")
        came_at = self._runtime.monotonic()
        entry = self._log.find(trade.key)
        is_replay = entry is not None
        if entry is None:
            if trade.name not in self._log.names:
                return TradeOutcome(result="unknown_stock")
            decided = await self._decided(trade, deadline)
            if not isinstance(decided, Entry):
                return TradeOutcome(result=decided)
            entry = decided
        try:
            async with asyncio.timeout(deadline - self._runtime.monotonic()):
                await self._remembered(entry.position, came_at)
        except TimeoutError:
            return TradeOutcome(result="unknown")
        await self._runtime.point("order.trade.replicated")
        return _outcome(entry, trade, is_replay=is_replay)

    async def close(self) -> None:
        """Stop deciding."""
        await self._queue.close()

    async def _remembered(self, position: int, came_at: float) -> None:
        """Return when the entry is replicated, and cannot have been left out by a rebuild before the trade came.

        A rebuilt catalog has what a follower has. What some follower lacks it may have lost, if this replica was
        declared lost: then the catalog must have answered in this log's generation since the trade came. The decision
        itself is such an answer, so only a key that was in the log before may cost a question (docs/decisions/0009).
        """
        await self._replication.reach(position)
        while not (self._replication.is_everywhere(position) or self._link.is_confirmed_since(came_at)):
            if not await self._link.refresh():
                await asyncio.sleep(PAUSE_MAX_S)

    async def _decided(self, trade: Trade, deadline: float) -> "Entry | Literal['unavailable', 'unknown']":
        """Wait in the queue until the key's entry is in the log, wherever it comes from.

        At the deadline: unavailable, and the trade leaves the queue, if nobody else waits for the key and no decision
        that may have looked at it was asked for; else unknown.
        """
        pending = self._pending.get(trade.key) or self._enqueue(trade)
        if pending is None:
            return "unavailable"
        pending.waiters += 1
        try:
            await asyncio.wait([pending.entry], timeout=deadline - self._runtime.monotonic())
            if pending.entry.done():
                return pending.entry.result()
            return "unknown" if pending.may_be_decided or pending.waiters > 1 else "unavailable"
        finally:
            pending.waiters -= 1
            if pending.waiters == 0:
                self._leave(pending)

    def _enqueue(self, trade: Trade) -> Pending | None:
        pending = Pending(trade, asyncio.get_running_loop().create_future())
        try:
            pending.place = self._queue.enqueue(pending)
        except BatcherFull:
            return None
        self._pending[trade.key] = pending
        return pending

    def _leave(self, pending: Pending) -> None:
        """Take a key that nobody waits for out of the queue."""
        if self._pending.get(pending.trade.key) is pending:
            del self._pending[pending.trade.key]
        if pending.place is not None:
            pending.place.cancel()

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
                result = await self._link.decide(partial(_choose, batch, asked))
            if result == "decided":
                self._replication.push()
                return [None] * len(batch)
            if result == "not_decided":
                for pending, may_be_decided in asked.items():
                    pending.may_be_decided = may_be_decided
            await asyncio.sleep(pause * self._runtime.random.uniform(0.5, 1.0))
            pause = min(2 * pause, PAUSE_MAX_S)


def _choose(batch: Sequence[Pending], asked: dict[Pending, bool]) -> list[Trade]:
    """The trades to ask for now. From this step on they may be decided; `asked` keeps what was known before."""
    chosen = [pending for pending in batch if pending.waiters and not pending.entry.done()]
    asked.update((pending, pending.may_be_decided) for pending in chosen)
    for pending in chosen:
        pending.may_be_decided = True
    return [pending.trade for pending in chosen]


def _outcome(entry: Entry, trade: Trade, *, is_replay: bool) -> TradeOutcome:
    """What the entry under the trade's key says to whoever sent the trade."""
    if not entry.is_of(trade):
        return TradeOutcome(result="other_content")
    if entry.number is None:
        return TradeOutcome(result="refused", replayed=is_replay)
    return TradeOutcome(result="accepted", number=entry.number, replayed=is_replay)
