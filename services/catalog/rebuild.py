"""How a catalog without a database gets its state: from all replicas, always. A new bazaar starts the same way.

1. Every replica is asked for its generation; the new one is higher than all.
2. Every replica adopts it, its log on its disk first, and answers its head. From then on no entry decided by a catalog
   of before is taken anywhere.
3. The longest log is copied and its digests are checked; every other log must be a prefix of it. If not, nothing is
   saved: the replicas are named and the catalog stops for good.
4. The log is folded over the initial stocks.

A replica that is not any more what it answered (its disk was lost meanwhile, or it adopted a still higher generation)
makes all of this begin again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from services.catalog.inventory import Inventory, fold_one
from services.common.digest import empty_head, follows, head_at
from services.common.errors import IntegrityFailure, Unavailable
from services.common.http import Peer, PeerAnswered, PeerError
from services.common.logs import get_log
from services.common.models import (
    MAX_ENTRIES,
    AdoptAnswer,
    AdoptRequest,
    EntriesAnswer,
    Entry,
    GenerationAnswer,
    Head,
    Stock,
)
from services.common.runtime import Runtime
from services.common.timing import REBUILD_AGAIN_S, REPLICA_CALL_S

log = get_log(__name__)

AnswerT = TypeVar("AnswerT", GenerationAnswer, AdoptAnswer, EntriesAnswer)


class _Changed(Exception):
    """A replica is not what it answered before."""


class Rebuild:
    """One rebuild. `replicas` are all but those declared lost; `initial` gives the stocks of a new bazaar.

    claim: gives the generation to use, at least the one that it is given; see `Store.claim`.
    """

    def __init__(
        self,
        runtime: Runtime,
        replicas: Mapping[int, Peer],
        initial: Callable[[], list[Stock]],
        claim: Callable[[int], Awaitable[int]],
        *,
        without_some: bool = False,
    ) -> None:
        self.waiting_for: set[int] = set(replicas)
        self._runtime = runtime
        self._replicas = replicas
        self._initial = initial
        self._claim = claim
        self._without_some = without_some

    async def run(self) -> Inventory:
        """Wait for every replica, however long, and give the state. Raises IntegrityFailure."""
        if not self._replicas:
            raise IntegrityFailure("every replica was declared lost: there is nothing to rebuild from")
        while True:
            try:
                return await self._try()
            except _Changed as change:
                log.warning("the rebuild begins again", reason=str(change))
                await asyncio.sleep(REBUILD_AGAIN_S)

    async def _try(self) -> Inventory:
        known = await self._ask_all("/generation", GenerationAnswer)
        await self._runtime.point("catalog.rebuild.generations_known")
        least, stocks = self._next_generation(known)
        generation = await self._claim(least)
        adopted = await self._ask_all("/adopt", AdoptAnswer, AdoptRequest(generation=generation, stocks=stocks))
        await self._runtime.point("catalog.rebuild.adopted")
        for replica_id, answer in adopted.items():
            if answer.generation > generation:
                raise _Changed(f"order-{replica_id} has adopted a higher generation in between")
        refused = [i for i, answer in adopted.items() if answer.outcome == "refused"]
        self._refuse(refused, "the log there began with other initial stocks")
        return await self._copy(generation, stocks, {i: answer.head for i, answer in adopted.items()})

    def _next_generation(self, known: Mapping[int, GenerationAnswer]) -> tuple[int, list[Stock]]:
        """1 + the highest generation among the replicas, and the stocks that it began with.

        One that is declared lost may have been given that very generation by a rebuild that was not finished. So a
        rebuild without it takes the time, in milliseconds, which is higher than any before can be.
        """
        highest = max(known.values(), key=lambda answer: answer.generation or 0)
        least = self._runtime.wall_ms() if self._without_some else 1
        if highest.generation is None:
            return least, self._initial()
        return max(least, highest.generation + 1), highest.stocks

    async def _copy(self, generation: int, initial: list[Stock], heads: Mapping[int, Head]) -> Inventory:
        """Read the longest log; keep the entries that not every replica has."""
        longest = max(heads, key=lambda replica_id: heads[replica_id].position)
        keep_after = min(head.position for head in heads.values())
        ends = {head.position for head in heads.values()}
        head = base = empty_head(initial)
        digests = {0: head.digest}
        stocks = {stock.name: stock for stock in initial}
        entries: list[Entry] = []
        while head.position < heads[longest].position:
            for entry in await self._read(longest, generation, head.position, heads[longest].position):
                if not follows(entry, head):
                    raise IntegrityFailure(f"the log of order-{longest} is broken at position {entry.position}")
                head = head_at(entry, head)
                fold_one(stocks, entry)
                if head.position in ends:
                    digests[head.position] = head.digest
                if head.position <= keep_after:
                    base = head
                else:
                    entries.append(entry)
        await self._runtime.point("catalog.rebuild.copied")
        others = [i for i, end in heads.items() if digests[end.position] != end.digest]
        self._refuse(others, f"the log there is no prefix of that of order-{longest}")
        log.info("state rebuilt from all replicas", generation=generation, position=head.position, longest=longest)
        return Inventory(generation, initial, stocks.values(), base, entries)

    async def _read(self, replica_id: int, generation: int, after: int, until: int) -> list[Entry]:
        path = f"/entries?after={after}&limit={min(MAX_ENTRIES, until - after)}"
        answer = await self._ask(replica_id, path, EntriesAnswer)
        if answer.generation != generation or not answer.entries:
            raise _Changed(f"order-{replica_id} has not the log any more that it had")
        return answer.entries

    async def _ask_all(
        self, path: str, answer: type[AnswerT], message: AdoptRequest | None = None
    ) -> dict[int, AnswerT]:
        """Ask every replica at once, and again until each has answered."""
        self.waiting_for = set(self._replicas)
        answers = await asyncio.gather(*(self._ask(i, path, answer, message) for i in self._replicas))
        return dict(zip(self._replicas, answers, strict=True))

    async def _ask(
        self, replica_id: int, path: str, answer: type[AnswerT], message: AdoptRequest | None = None
    ) -> AnswerT:
        while True:
            try:
                result = await self._replicas[replica_id].call(path, answer, message, timeout_s=REPLICA_CALL_S)
            except PeerError as error:
                if answer is EntriesAnswer and isinstance(error, PeerAnswered) and error.status == Unavailable.code:
                    raise _Changed(f"order-{replica_id} has no generation any more") from error
                self.waiting_for.add(replica_id)
                await asyncio.sleep(REBUILD_AGAIN_S)
            else:
                self.waiting_for.discard(replica_id)
                return result

    def _refuse(self, wrong: list[int], why: str) -> None:
        if wrong:
            names = ", ".join(f"order-{replica_id}" for replica_id in wrong)
            raise IntegrityFailure(f"{names}: {why}; look at the files before you delete any")
