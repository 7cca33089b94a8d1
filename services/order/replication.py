"""The leader's side of replication: which entries are on every replica that must be waited for.

An entry is replicated when it is on the leader's own disk, and each other replica has answered a head that covers it,
or has refused the connection, or has failed to answer for 500 ms. One that refused or failed is not waited for again
until an answer of it covers what was sent: it is caught up. Safety does not rest on this count, for the catalog has
committed the entry before; it is what lets a customer's order outlive the catalog's disk and the leader's.

A follower that says that this log is the wrong one (another digest, another generation) is another matter: this leader
may be the one that was declared lost. It is waited for until the catalog has answered that this log is right.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from services.common.background import ends_process
from services.common.batching import Batcher
from services.common.distribution import SIZES, Distribution
from services.common.http import Peer, PeerError, PeerGone
from services.common.logs import get_log
from services.common.models import AppendAnswer, AppendRequest, Head
from services.common.runtime import Runtime
from services.common.timing import APPEND_S, FOLLOWER_PATIENCE_S, LOOK_EVERY_S, REQUEST_S
from services.order.log import OrderLog
from services.order.watermark import Watermark

log = get_log(__name__)

REST_S = 0.1  # a replica that refused is not asked again before
AGAIN_S = 0.02  # after an append that failed

Confirm = Callable[[], Awaitable[bool]]
"""Asks the catalog whether this log belongs to its sequence; a log that does not ends the process."""


class FollowerLink:
    """One other replica as the leader sees it. `on_change` is called when its head or `is_awaited` changed.

    append_seconds, append_entries: of the appends that it answered.
    """

    def __init__(
        self,
        runtime: Runtime,
        log_: OrderLog,
        replica_id: int,
        peer: Peer,
        confirm: Confirm,
        on_change: Callable[[], None],
    ) -> None:
        self.replica_id = replica_id
        self.position = 0
        self.is_awaited = True
        self.append_seconds = Distribution()
        self.append_entries = Distribution(SIZES)
        self._runtime = runtime
        self._log = log_
        self._peer = peer
        self._confirm = confirm
        self._on_change = on_change
        self._head: Head | None = None  # its last answered head, when that is part of our log
        self._rests_until = 0.0
        self._is_disputed = False  # it says that this log is wrong, and the catalog has not said otherwise since
        self._heard_at = runtime.monotonic()
        self._trips: Batcher[tuple[int, float], None] = Batcher(self._bring, max_batch=10_000)
        self._last: tuple[int, asyncio.Future[None]] | None = None  # the last push, and when its trip is over

    def push(self, position: int) -> None:
        """Begin to bring the follower to `position`, unless that is under way. Nobody waits for the trip itself."""
        if self._last is None or self._last[0] < position or self._last[1].done():
            self._last = position, self._trips.enqueue((position, -math.inf))

    def look(self) -> None:
        """See whether the follower is there, unless it was heard of lately.

        So the trades that come after the loss of a host do not wait for it one after the other: for the catalog and the
        cache there, and then for the follower.
        """
        if self.is_awaited and self._heard_at < self._runtime.monotonic() - LOOK_EVERY_S:
            sent = 0 if self._last is None else self._last[0]
            _ = self._trips.enqueue((sent, self._runtime.monotonic()))

    async def close(self) -> None:
        """Stop sending."""
        await self._trips.close()

    async def _bring(self, wanted: Sequence[tuple[int, float]]) -> list[None]:
        with ends_process(self._runtime):  # nobody waits for a trip, so nobody else would see why it failed
            positions, moments = zip(*wanted, strict=True)
            await self._bring_to(max(positions), max(moments))
        return [None] * len(wanted)

    async def _bring_to(self, target: int, since: float) -> None:
        """Send until its head covers `target` and it was heard of after `since`, or it must not be waited for."""
        began = self._runtime.monotonic()
        if began < self._rests_until:
            return
        while self.position < target or self._heard_at < since:
            if self._is_disputed and await self._confirm():
                self._is_disputed = False
            left = began + FOLLOWER_PATIENCE_S - self._runtime.monotonic()
            if self.is_awaited and left <= 0 and not self._is_disputed:
                self._give_up("it did not answer in time")
            if self._is_disputed and left <= FOLLOWER_PATIENCE_S - REQUEST_S:
                return  # no trade waits longer; the next one begins again
            if not await self._try(left):
                return
        self._is_disputed = False
        if not self.is_awaited:
            log.info("a follower has caught up", replica=self.replica_id)
            self.is_awaited = True
        self._on_change()

    async def _try(self, left: float) -> bool:
        """One append, and a pause when it failed; False when this trip is over."""
        try:
            await self._send(timeout_s=left if self.is_awaited and left > 0 else APPEND_S)
        except PeerGone:
            if not self._is_disputed:
                self._give_up("it refused the connection")
                self._rests_until = self._runtime.monotonic() + REST_S
                return False
            await asyncio.sleep(REST_S)
        except PeerError:
            if not self.is_awaited:
                return False
            await asyncio.sleep(AGAIN_S)
        return True

    async def _send(self, timeout_s: float) -> None:
        """One append. Raises PeerError when it did not bring us nearer."""
        generation = self._log.generation
        if generation is None:
            raise PeerError("no generation")
        # At first we take it to be where our own disk is; if it is not, its answer says where it is.
        before = self._head or self._log.fsynced_head
        request = AppendRequest(generation=generation, before=before, entries=self._log.taken_after(before.position))
        await self._runtime.point("order.append.before_send")
        began = self._runtime.monotonic()
        answer = await self._peer.call("/append", AppendAnswer, request, timeout_s=timeout_s)
        self.append_seconds.add(self._runtime.monotonic() - began)
        self.append_entries.add(len(request.entries))
        await self._runtime.point("order.append.answered")
        if answer.outcome in {"diverged", "other_generation"} or answer.generation != self._log.generation:
            self._head = None
            self._is_disputed = self.is_awaited
            raise PeerError(f"the follower answered {answer.outcome}")
        if answer.head.position <= self._log.head.position:
            self._head = answer.head
        self.position = answer.head.position
        self._heard_at = self._runtime.monotonic()
        if request.entries and answer.head.position == before.position:
            raise PeerError("the follower took nothing")

    def _give_up(self, why: str) -> None:
        if self.is_awaited:
            log.warning("a follower is not waited for", replica=self.replica_id, reason=why)
            self.is_awaited = False
            self._on_change()


class Replication:
    """All followers together. `replicated`: every entry up to there is replicated."""

    def __init__(self, runtime: Runtime, log_: OrderLog, others: Mapping[int, Peer], confirm: Confirm) -> None:
        self.replicated = Watermark()
        self._log = log_
        self._links = [FollowerLink(runtime, log_, i, peer, confirm, self._update) for i, peer in others.items()]
        log_.on_fsynced = self._update

    @property
    def links(self) -> Sequence[FollowerLink]:
        """Every other replica as this one sees it."""
        return self._links

    async def reach(self, position: int) -> None:
        """Return when everything up to `position` is replicated, which is begun here if it was not."""
        if position > self.replicated.position:
            self.push()
            await self.replicated.reach(position)

    def push(self) -> None:
        """Begin to replicate everything that was taken so far."""
        for link in self._links:
            link.push(self._log.head.position)
        self._update()

    def look(self) -> None:
        """See which followers are there."""
        for link in self._links:
            link.look()

    def is_everywhere(self, position: int) -> bool:
        """Whether every follower, waited for or not, has answered that it has everything up to `position`."""
        return all(link.position >= position for link in self._links)

    async def close(self) -> None:
        """Stop sending."""
        for link in self._links:
            await link.close()

    def _update(self) -> None:
        """The dangerous computation: the lowest head of all that are waited for, the own disk always among them."""
        heads = [link.position for link in self._links if link.is_awaited]
        self.replicated.rise_to(min([self._log.fsynced.position, *heads]))
