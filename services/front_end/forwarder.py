"""Trades and order queries to the leader; when it fails, to the next one, with the same key, until the deadline.

Asking two replicas for the same trade at once is safe, because a key executes at most once, whoever asks. So the only
thing to be exact about is what the customer is told when the time is over. *Definite* (503): no attempt can have been
executed. *Indefinite* (504): one may have been. An attempt counts as indefinite from the moment its batch is sent, and
becomes definite again only when the replica is known to have done nothing: it refused the connection, answered 503, or
gave the outcome `unavailable`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from pydantic import BaseModel

from services.common.batching import Batcher, BatcherFull
from services.common.distribution import SIZES, Distribution
from services.common.errors import KeyReused, NotEnoughStock, NotFound, OutcomeUnknown, Unavailable
from services.common.http import PeerAnswered, PeerError, PeerLost, PeerRefused, PeerTimeout
from services.common.models import (
    MAX_TRADES,
    Order,
    OrderAnswer,
    OrdersAnswer,
    Trade,
    TradeOutcome,
    TradesAnswer,
    TradesRequest,
)
from services.common.runtime import Runtime
from services.common.timing import ANSWER_MARGIN_S, LAST_ATTEMPT_S, LOOK_UP_S, REQUEST_S
from services.front_end.health import Replicas
from services.front_end.pauses import pauses
from services.front_end.turns import Turns

AnswerT = TypeVar("AnswerT")
MessageT = TypeVar("MessageT", bound=BaseModel)
QueryT = TypeVar("QueryT", OrderAnswer, OrdersAnswer)

BATCHES_IN_FLIGHT = 2  # to each replica: one is decided while the next one travels
UNAVAILABLE = TradeOutcome(result="unavailable")


class _NoAnswer(Exception):
    """One attempt failed; whoever asked may ask the next replica."""


class _Attempt:
    """One trade on its way to one replica. may_have_run: whether the replica may have executed it."""

    __slots__ = ("deadline", "may_have_run", "trade")

    def __init__(self, trade: Trade, deadline: float) -> None:
        self.trade = trade
        self.deadline = deadline
        self.may_have_run = False


class Forwarder:
    """Brings trades and order queries to a replica that can answer them.

    `newest_generation` gives the catalog's: the log of a replica with an older one was left out of a rebuild, and what
    is read from it is dropped. batch_trades: how many trades shared a call to a replica.
    """

    def __init__(
        self, replicas: Replicas, runtime: Runtime, newest_generation: Callable[[], int], *, max_trades: int
    ) -> None:
        self.trades_in_flight = 0
        self.batch_trades = Distribution(SIZES)
        self._replicas = replicas
        self._clock = runtime.monotonic
        self._random = runtime.random
        self._newest_generation = newest_generation
        self._max_trades = max_trades
        self._batchers = {replica_id: self._make_batcher(replica_id) for replica_id in replicas.peers}

    async def trade(self, trade: Trade) -> TradeOutcome:
        """Have `trade` executed; the outcome is `accepted`.

        Raises NotEnoughStock, KeyReused or NotFound, which are final for its key, Unavailable or OutcomeUnknown.
        """
        if self.trades_in_flight >= self._max_trades:
            raise Unavailable("too many trades are under way; this one was not executed, try again")
        self.trades_in_flight += 1
        try:
            outcome = await self._forward(trade)
        finally:
            self.trades_in_flight -= 1
        if outcome.result == "refused":
            raise NotEnoughStock(is_replay=outcome.replayed)
        if outcome.result == "other_content":
            raise KeyReused
        if outcome.result == "unknown_stock":
            raise NotFound("there is no such stock")
        assert outcome.number is not None, "an accepted trade has a number"
        return outcome

    async def order(self, number: int) -> Order:
        """The order of this number. Raises NotFound or Unavailable."""
        answer = await self._query(f"/orders/{number}", OrderAnswer)
        if answer.order is None:
            raise NotFound("there is no such order")
        return answer.order

    async def orders(self, after: int, limit: int) -> OrdersAnswer:
        """Up to `limit` orders whose numbers follow `after`. Raises Unavailable."""
        return await self._query(f"/orders?after={after}&limit={limit}", OrdersAnswer)

    async def close(self) -> None:
        """Give up what is under way."""
        for batcher in self._batchers.values():
            await batcher.close()

    # Trades.

    async def _forward(self, trade: Trade) -> TradeOutcome:
        deadline = self._clock() + REQUEST_S
        may_have_run = False

        async def ask(replica_id: int) -> TradeOutcome:
            nonlocal may_have_run
            attempt = _Attempt(trade, deadline)
            try:
                outcome = await self._batchers[replica_id].submit(attempt)
            except (PeerError, BatcherFull):
                outcome = UNAVAILABLE
            finally:  # also when the attempt is cut
                may_have_run = may_have_run or attempt.may_have_run
            if outcome.result in {"unavailable", "unknown"}:
                raise _NoAnswer
            return outcome

        outcome = await self._ask_in_turn(ask, deadline)
        if outcome is not None:
            return outcome
        raise OutcomeUnknown if may_have_run else Unavailable

    def _make_batcher(self, replica_id: int) -> Batcher[_Attempt, TradeOutcome]:
        async def send(batch: list[_Attempt]) -> Sequence[TradeOutcome]:
            return await self._send(replica_id, batch)

        return Batcher(send, max_batch=MAX_TRADES, in_flight=BATCHES_IN_FLIGHT)

    async def _send(self, replica_id: int, batch: list[_Attempt]) -> list[TradeOutcome]:
        """Send a batch to a replica; those whose time is nearly over are left out, for they would hurry all others."""
        now = self._clock()
        sent = [attempt for attempt in batch if attempt.deadline - now >= LAST_ATTEMPT_S]
        if not sent:
            return [UNAVAILABLE] * len(batch)
        left = min(attempt.deadline for attempt in sent) - now
        request = TradesRequest(time_left=left - ANSWER_MARGIN_S, trades=[attempt.trade for attempt in sent])
        for attempt in sent:
            attempt.may_have_run = True
        self.batch_trades.add(len(sent))
        try:
            answer = await self._call(replica_id, "/trades", TradesAnswer, left, request)
        except (PeerRefused, PeerAnswered) as error:
            if isinstance(error, PeerRefused) or error.status == Unavailable.code:
                for attempt in sent:
                    attempt.may_have_run = False
            raise
        if len(answer.outcomes) != len(sent):
            raise PeerLost(f"replica {replica_id} answered {len(answer.outcomes)} of {len(sent)} trades")
        outcomes = dict(zip(sent, answer.outcomes, strict=True))
        for attempt, outcome in outcomes.items():
            attempt.may_have_run = outcome.result != "unavailable"
        return [outcomes.get(attempt, UNAVAILABLE) for attempt in batch]

    # Order queries.

    async def _query(self, path: str, kind: type[QueryT]) -> QueryT:
        deadline = self._clock() + LOOK_UP_S

        async def ask(replica_id: int) -> QueryT:
            try:
                answer = await self._call(replica_id, path, kind, deadline - self._clock())
            except PeerError as error:
                raise _NoAnswer from error
            if answer.generation < self._newest_generation():
                raise _NoAnswer
            return answer

        answer = await self._ask_in_turn(ask, deadline)
        if answer is None:
            raise Unavailable("no order replica could answer; try again")
        return answer

    # What both share.

    async def _ask_in_turn(self, ask: Callable[[int], Awaitable[AnswerT]], deadline: float) -> AnswerT | None:
        """Ask one replica after the other until one answers; None when the time is over."""
        turns = Turns()
        waits: Iterator[float] | None = None
        while (left := deadline - self._clock()) >= LAST_ATTEMPT_S:
            replica_id = turns.next(self._replicas.leader, self._replicas.candidates())
            if replica_id is None:
                waits = waits or pauses(self._random)
                await asyncio.sleep(min(next(waits), left))
                continue
            try:
                async with self._replicas.attempt(replica_id, left):
                    return await ask(replica_id)
            except (_NoAnswer, TimeoutError):
                continue
        return None

    async def _call(
        self, replica_id: int, path: str, kind: type[MessageT], left: float, message: BaseModel | None = None
    ) -> MessageT:
        """One call. A connection that is refused or breaks is told to the selection at once; a time-out is not."""
        try:
            return await self._replicas.peers[replica_id].call(path, kind, message, timeout_s=left)
        except (PeerRefused, PeerLost) as error:
            if not isinstance(error, PeerTimeout):
                self._replicas.failed(replica_id)
            raise
