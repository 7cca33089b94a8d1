"""How catalogs that share etcd rebuild their state: one at a time, and what is written counts as a whole or not at all.

1. A claim names who rebuilds, and the generation that it gives to the replicas: above that of every claim before. So
   no replica ever has a generation above that of the data set that is then created; a catalog that was overtaken and
   goes on asking the replicas to adopt its own, lower one is refused by those that have the higher one already.
2. Everything is written under a fresh id, in transactions that hold only while the claim stands.
3. `root` is written if there is none and the claim still stands, and the claim is deleted with it: a late copy of a
   transaction of step 2 changes nothing any more.

A claim whose owner has not been heard of for a while is taken over. Its owner, if it lives, finds out at its next step.
"""

import asyncio
import json
from collections.abc import Iterator

from services.catalog.etcd import (
    MAX_OPERATIONS,
    MAX_REQUEST_BYTES,
    Etcd,
    EtcdUnavailable,
    EtcdUnknown,
    KeyValue,
    Part,
    delete,
    end_of,
    get,
    is_at,
    put,
)
from services.catalog.etcd_layout import ENTRIES, Keys, Top, dump, dump_head, dump_stock
from services.catalog.inventory import Inventory
from services.catalog.store import Overtaken
from services.common.logs import get_log
from services.common.models import MAX_TRADES
from services.common.runtime import Runtime
from services.common.timing import CLAIM_BEAT_S, CLAIM_PATIENCE_S, ETCD_AGAIN_S

log = get_log(__name__)


class Claims:
    """The claims of one catalog process."""

    def __init__(self, runtime: Runtime, etcd: Etcd, top: Top) -> None:
        self._runtime = runtime
        self._etcd = etcd
        self._top = top
        self._me = f"{runtime.random.getrandbits(64):016x}"
        self._revision = 0  # which one wrote our claim
        self._beating: asyncio.Task[None] | None = None
        self._seen: tuple[list[KeyValue], float] = ([], 0.0)  # somebody's claim and beat, and since when

    async def claim(self, least: int) -> int:
        """See `Store.claim`; waits for etcd, and for another one that is at it. Raises Overtaken."""
        await self.close()
        while True:
            try:
                generation = await self._try(least)
            except (EtcdUnavailable, EtcdUnknown):
                generation = None
            if generation is not None:
                log.info("this catalog rebuilds the state", generation=generation)
                self._beating = asyncio.create_task(self._beat())
                return generation
            await asyncio.sleep(ETCD_AGAIN_S)

    async def _try(self, least: int) -> int | None:
        """The generation; None when it is to be tried again."""
        result = await self._etcd.read(get(self._top.root), get(self._top.claim), get(self._top.beat))
        roots, claims, beats = result.reads
        if roots:
            raise Overtaken
        generation = least
        if claims:
            said = json.loads(claims[0].value)
            if said["by"] != self._me and not self._is_stale(claims + beats):
                return None
            generation = max(least, said["generation"] + 1)
        await self._runtime.point("etcd.claim.read")
        written = await self._etcd.change(
            [is_at(self._top.root, 0), is_at(self._top.claim, claims[0].mod_revision if claims else 0)],
            [
                put(self._top.claim, dump({"by": self._me, "generation": generation})),
                put(self._top.beat, dump(self._me)),
            ],
        )
        self._revision = written.revision
        return generation if written.succeeded else None

    def _is_stale(self, seen: list[KeyValue]) -> bool:
        """Whether this claim and its beat are what they were for so long that its owner must be dead."""
        now = self._runtime.monotonic()
        if seen != self._seen[0]:
            self._seen = (seen, now)
        return now - self._seen[1] >= CLAIM_PATIENCE_S

    async def _beat(self) -> None:
        """Say again and again that we are at it, while the claim is ours."""
        while True:
            await asyncio.sleep(CLAIM_BEAT_S)
            try:
                parts = [put(self._top.beat, dump(self._me))]
                if not (await self._etcd.change([self._stands], parts)).succeeded:
                    return
            except (EtcdUnavailable, EtcdUnknown):
                pass

    @property
    def _stands(self) -> Part:
        return is_at(self._top.claim, self._revision)

    async def create(self, inventory: Inventory) -> None:
        """Write the state; waits for etcd, however long. Raises Overtaken when it is not wanted any more."""
        data = f"{self._runtime.random.getrandbits(64):016x}"
        keys = Keys(self._top, data)
        try:
            for parts in _portions(inventory, keys):
                await self._write(parts)
                await self._runtime.point("etcd.create.wrote")
            await self._write_root(data, inventory.generation)
        except Overtaken:
            await self._delete(keys)
            raise
        finally:
            await self.close()
        await self._runtime.point("etcd.create.done")

    async def _write(self, parts: list[Part]) -> None:
        """Write a portion. It may be written twice: as long as the claim stands, nothing else is done with its keys."""
        while True:
            try:
                result = await self._etcd.change([self._stands], parts)
            except (EtcdUnavailable, EtcdUnknown):
                await asyncio.sleep(ETCD_AGAIN_S)
            else:
                if not result.succeeded:
                    raise Overtaken
                return

    async def _write_root(self, data: str, generation: int) -> None:
        """From here on everything that was written counts. When in doubt, whether it does is read."""
        value = dump({"data": data, "generation": generation})
        parts = [put(self._top.root, value), delete(self._top.claim), delete(self._top.beat)]
        while True:
            try:
                result = await self._etcd.change(
                    [is_at(self._top.root, 0), self._stands], parts, otherwise=[get(self._top.root)]
                )
            except (EtcdUnavailable, EtcdUnknown):
                await asyncio.sleep(ETCD_AGAIN_S)  # it holds once at most, so it may be sent again
            else:
                if result.succeeded or (result.reads[0] and result.reads[0][0].value == value):
                    return
                raise Overtaken

    async def _delete(self, keys: Keys) -> None:
        """Delete what was written in vain; what is left of it is found by `Keeper`."""
        try:
            _ = await self._etcd.change([], [delete(keys.all, end_of(keys.all))])
        except (EtcdUnavailable, EtcdUnknown) as error:
            log.info("a data set that does not count is left in etcd", reason=str(error))

    async def close(self) -> None:
        """Be at it no longer."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None


def _portions(inventory: Inventory, keys: Keys) -> Iterator[list[Part]]:
    """All that belongs to a data set, in portions that fit a transaction."""
    portion: list[Part] = []
    size = 0
    for part, length in _parts(inventory, keys):
        if portion and (len(portion) == MAX_OPERATIONS or size + length > MAX_REQUEST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(part)
        size += length
    yield portion


def _parts(inventory: Inventory, keys: Keys) -> Iterator[tuple[Part, int]]:
    values = {keys.mark: b"yes", keys.head: dump_head(inventory.head, inventory.base)}
    initial = {stock.name: stock.quantity for stock in inventory.initial}
    entries = inventory.after(inventory.base.position)
    for begin in range(0, len(entries), MAX_TRADES):
        some = entries[begin : begin + MAX_TRADES]
        values[keys.log_at(some[0].position)] = ENTRIES.dump_json(some)
    for name, stock in inventory.stocks.items():
        values[keys.stocks + name] = dump_stock(stock, initial[name])
    for key, value in values.items():
        yield put(key, value), len(key) + len(value)
