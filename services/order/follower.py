"""What every replica does whoever leads: take what the leader sends, fetch what it missed, hand out what it has."""

import asyncio
from collections.abc import Mapping

from services.common.http import Peer, PeerError
from services.common.logs import get_log
from services.common.models import (
    MAX_ENTRIES,
    AdoptAnswer,
    AdoptRequest,
    AppendAnswer,
    AppendOutcome,
    AppendRequest,
    EntriesAnswer,
)
from services.common.runtime import Runtime
from services.common.timing import FETCH_S, REPORT_MAX_S, REPORT_MIN_S
from services.order.catalog_link import CatalogLink
from services.order.log import Contradiction, OrderLog, OtherGeneration

log = get_log(__name__)


class Follower:
    """Appending, catching up, handing out. others: the other replicas. fetched: entries that came from them."""

    def __init__(
        self, runtime: Runtime, log_: OrderLog, catalog: Peer, replica_id: int, others: Mapping[int, Peer]
    ) -> None:
        self.fetched = 0
        self.link = CatalogLink(runtime, replica_id, log_, catalog, self.fetch)
        self._runtime = runtime
        self._log = log_
        self._others = others
        self._report_now = asyncio.Event()

    async def run(self) -> None:
        """In the background: fetch what was missed, then report to the catalog and take its news, for ever."""
        if self._log.generation is not None:
            before, began = self._log.head.position, self._runtime.monotonic()
            await self.fetch(None)
            log.info(
                "fetched missed entries from the other replicas",
                entries=self._log.head.position - before,
                seconds=round(self._runtime.monotonic() - began, 4),
            )
        while True:
            await self.link.refresh()
            try:
                async with asyncio.timeout(self._runtime.random.uniform(REPORT_MIN_S, REPORT_MAX_S)):
                    await self._report_now.wait()
            except TimeoutError:
                pass
            self._report_now.clear()

    async def append(self, request: AppendRequest) -> AppendAnswer:
        """Take the leader's entries and answer our head once they are on the disk. One that is behind takes nothing."""
        await self._runtime.point("order.append.received")
        if request.generation != self._log.generation:
            return self._answer("other_generation")
        own = self._log.head_of(request.before.position)
        if own is None:
            return self._answer("behind")
        if own != request.before.digest:
            return self._contradicted("the leader's entries follow another digest")
        try:
            self._log.take(request.generation, request.entries)
        except Contradiction as error:
            return self._contradicted(str(error))
        await self._runtime.point("order.append.taken")
        last = request.entries[-1].position if request.entries else request.before.position
        await self._log.fsynced.reach(last)
        await self._runtime.point("order.append.fsynced")
        return self._answer("taken")

    async def adopt(self, request: AdoptRequest) -> AdoptAnswer:
        """Take the generation of a catalog that is being rebuilt."""
        is_adopted = await self._log.adopt(request.generation, request.stocks)
        return AdoptAnswer(
            generation=self._log.generation or 0,
            outcome="adopted" if is_adopted else "refused",
            head=self._log.fsynced_head,
        )

    def entries(self, after: int, limit: int) -> EntriesAnswer:
        """Entries that are on our disk."""
        limit = min(limit, MAX_ENTRIES)
        return EntriesAnswer(
            generation=self._log.generation, head=self._log.fsynced_head, entries=self._log.after(after, limit)
        )

    async def fetch(self, until: int | None) -> bool:
        """Fetch missed entries from the other replicas, up to a position or all they have.

        Each that does not answer costs 0.5 s at most. False when `until` was not reached.
        """
        for replica_id in sorted(self._others, reverse=True):
            while until is None or self._log.head.position < until:
                if not await self._fetch_once(replica_id):
                    break
        return until is None or self._log.head.position >= until

    async def _fetch_once(self, replica_id: int) -> bool:
        """Fetch up to 1,000 entries from one replica; False when it has no more for us."""
        path = f"/entries?after={self._log.head.position}&limit={MAX_ENTRIES}"
        try:
            answer = await self._others[replica_id].call(path, EntriesAnswer, timeout_s=FETCH_S)
            if answer.generation is None:
                return False
            await self._runtime.point("order.fetch.answered")
            taken = self._log.take(answer.generation, answer.entries)
            self.fetched += len(taken)
            await self._log.fsynced.reach(self._log.head.position)
            return bool(taken)
        except (PeerError, OtherGeneration):
            return False
        except Contradiction as error:
            log.warning("another replica contradicts this log", replica=replica_id, reason=str(error))
            return False

    def _contradicted(self, reason: str) -> AppendAnswer:
        """One of the two logs is wrong, and the catalog knows which: it is asked at once, and stops that one."""
        log.error("a leader contradicts this log", reason=reason)
        self._report_now.set()
        return self._answer("diverged")

    def _answer(self, outcome: AppendOutcome) -> AppendAnswer:
        return AppendAnswer(generation=self._log.generation, outcome=outcome, head=self._log.fsynced_head)
