"""The store that catalogs share: their state in etcd, and each one's memory of it, which may be older.

docs/decisions/0015-the-catalog-on-etcd.md argues for every rule. In short:

- A commit is one transaction that names the revisions of what it was planned on: `root`, `head`, and, where stocks
  change, all sessions. So of all plans made from one head at most one is ever committed, by whomever, however late.
- `refresh` is one linearizable read, shared by all who wait: root, head and sessions as of one moment, and then the
  decisions that this process has not seen. Every answer to a question is given after one that began after the question.
- The memory changes in single steps only, forwards only, and never beyond what is committed.
"""

import asyncio
import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from services.catalog.etcd import (
    MAX_REQUEST_BYTES,
    Etcd,
    EtcdCompacted,
    EtcdUnavailable,
    EtcdUnknown,
    KeyValue,
    Part,
    delete,
    end_of,
    get,
    is_at,
    is_unchanged_since,
    put,
)
from services.catalog.etcd_keeper import Keeper
from services.catalog.etcd_layout import ENTRIES, Keys, Root, Top, dump_head, dump_stock, load_entries, load_head, under
from services.catalog.etcd_reader import Loaded, load_state, position_of, read_log, remedy_of
from services.catalog.etcd_rebuild import Claims
from services.catalog.etcd_sessions import NOT_REACHED, SessionRecords
from services.catalog.inventory import Inventory, Plan
from services.catalog.shared_sessions import SharedSessions
from services.catalog.store import Outcome, Saved
from services.common.background import ends_process
from services.common.batching import Batcher, BatcherFull
from services.common.errors import IntegrityFailure, Unavailable
from services.common.http import Peer
from services.common.models import Head
from services.common.runtime import Runtime
from services.common.timing import ETCD_AGAIN_S, ETCD_BESIDE_S, ETCD_READS_S

MAX_FOLLOWED = 20_000  # further behind than that the whole state is read anew


@dataclass
class _Memory:
    """What this process knows of the data set.

    head_revision: which one changed the head of `inventory` last. base: as it is in etcd. log: the positions of the
    first entries of the decisions that are kept there, as far as they are known.
    """

    root: Root
    keys: Keys
    inventory: Inventory
    initial: dict[str, int]
    records: SessionRecords
    keeper: Keeper
    head_revision: int
    base: Head
    log: list[int]


class EtcdStore:
    """See `Store`. replica_ids: whose disks count for what may be forgotten."""

    is_shared = True
    max_stocks: int | None = 100  # with all else that a commit writes: less than etcd's operations in a transaction

    def __init__(self, runtime: Runtime, etcd: Etcd, prefix: str, replica_ids: Collection[int]) -> None:
        self._runtime = runtime
        self._etcd = etcd
        self._top = Top(prefix)
        self._claims = Claims(runtime, etcd, self._top)
        self._replica_ids = frozenset(replica_ids)
        self._memory: _Memory | None = None
        self._asked_at = math.inf  # when the first look began that was not answered yet
        self._refreshes: Batcher[None, None] = Batcher(self._refresh, max_batch=10_000)

    @property
    def trouble(self) -> str | None:
        """See `Store.trouble`: why the last call of etcd failed."""
        return self._etcd.trouble

    @property
    def is_silent(self) -> bool:
        """See `Store.is_silent`: a transaction that etcd forwards to a leader that is gone is lost."""
        return self._now() > self._asked_at + ETCD_BESIDE_S

    async def load(self) -> Saved | None:
        """See `Store.load`; waits for etcd, however long."""
        while True:
            try:
                loaded = await load_state(self._etcd, self._top)
            except EtcdUnavailable:
                await asyncio.sleep(ETCD_AGAIN_S)
            except EtcdCompacted:
                continue  # it took longer than etcd remembers
            else:
                return None if loaded is None else self._take(loaded)

    def _take(self, loaded: Loaded) -> Saved:
        records = SessionRecords(self._runtime, self._etcd, loaded.root, loaded.keys)
        records.saw(loaded.sessions, loaded.revision)
        keeper = Keeper(self._etcd, loaded.root, loaded.keys, self._top, loaded.inventory, self._replica_ids)
        self._memory = _Memory(
            loaded.root,
            loaded.keys,
            loaded.inventory,
            {stock.name: stock.quantity for stock in loaded.inventory.initial},
            records,
            keeper,
            loaded.head.mod_revision,
            loaded.inventory.base,
            loaded.log,
        )
        # The sessions of a data set that was replaced were renewed last before this process read of the new one.
        return Saved(loaded.inventory, {}, is_rebuilt=loaded.is_rebuilt, since=self._runtime.monotonic())

    async def claim(self, least: int) -> int:
        """See `Store.claim`."""
        return await self._claims.claim(least)

    async def create(self, inventory: Inventory) -> Saved:
        """See `Store.create`."""
        await self._claims.create(inventory)
        saved = await self.load()
        if saved is None:
            raise IntegrityFailure("the state in etcd was deleted as soon as it was rebuilt: start this catalog again")
        return saved

    def open_sessions(self, saved: Saved, connect: Callable[[str], Peer]) -> SharedSessions:
        """See `Store.open_sessions`."""
        memory = self._known()
        generation = saved.inventory.generation
        return SharedSessions(
            self._runtime, connect, generation, memory.records, self.refresh, lambda: memory.keeper.keep(self._now())
        )

    async def close(self) -> None:
        """See `Store.close`."""
        await self._claims.close()
        await self._refreshes.close()

    # Reading.

    async def refresh(self, deadline: float = math.inf) -> None:
        """See `Store.refresh`."""
        try:
            # Also for one that has to wait for the look before it.
            async with asyncio.timeout(min(ETCD_READS_S, deadline - self._now())):
                await self._refreshes.submit(None)
        except (TimeoutError, BatcherFull) as error:
            raise Unavailable(NOT_REACHED) from error

    async def _refresh(self, callers: Sequence[None]) -> list[None]:
        memory = self._known()
        self._asked_at = min(self._asked_at, self._now())
        try:
            while not await self._catch_up(memory):
                pass
        except EtcdUnavailable as error:
            raise Unavailable(NOT_REACHED) from error
        except (IntegrityFailure, AssertionError, ValueError):
            with ends_process(self._runtime):
                raise
        self._asked_at = math.inf
        return [None] * len(callers)

    async def _catch_up(self, memory: _Memory) -> bool:
        """One look at etcd; False when it has to be repeated. Raises EtcdUnavailable or IntegrityFailure."""
        keys = memory.keys
        result = await self._etcd.read(get(self._top.root), get(keys.head), under(keys.sessions))
        roots, heads, sessions = result.reads
        if roots != [memory.root.key_value] or not heads:
            raise IntegrityFailure(
                "the state in etcd was deleted or replaced while this catalog ran: start it again, it takes what is "
                "there now"
            )
        await self._runtime.point("etcd.refresh.read")
        if heads[0].mod_revision > memory.head_revision and not await self._follow(memory, heads[0], result.revision):
            return False
        memory.records.saw(sessions, result.revision)
        return True

    async def _follow(self, memory: _Memory, found: KeyValue, revision: int) -> bool:
        """Take over what was decided up to `revision`; False when etcd has forgotten what it was then."""
        inventory = memory.inventory
        head, base = load_head(found.value)
        try:
            if head.position - inventory.head.position <= MAX_FOLLOWED and base.position <= inventory.head.position:
                after = inventory.head.position
                decisions = await read_log(self._etcd, memory.keys, after + 1, head.position, revision)
                # One step from here.
                inventory.follow(load_entries(decisions))
                last = memory.log[-1] if memory.log else 0
                memory.log += [first for each in decisions if (first := position_of(each)) > last]
            else:
                loaded = await load_state(self._etcd, self._top)
                if loaded is None or loaded.root != memory.root:
                    return False  # the next look says what happened
                head, base, found = loaded.inventory.head, loaded.inventory.base, loaded.head
                if head.position > inventory.head.position:
                    inventory.become(loaded.inventory)
                    memory.log = loaded.log
        except EtcdCompacted:
            return False
        if not _is_or_was_at(inventory, head):
            raise IntegrityFailure(f"the decisions in etcd do not end at their head: {remedy_of(self._top)}")
        self._is_at(memory, found.mod_revision, base)
        return True

    def _is_at(self, memory: _Memory, head_revision: int, base: Head) -> None:
        """The inventory is at the head that this revision wrote, or beyond."""
        if head_revision > memory.head_revision:
            memory.head_revision, memory.base = head_revision, base
            memory.inventory.forget(min(base.position, memory.inventory.head.position))
            del memory.log[: max(bisect_right(memory.log, base.position + 1) - 1, 0)]

    # Committing.

    async def commit(self, plan: Plan, base: Head, told: int) -> Outcome:
        """See `Store.commit`. told: the revision up to which all sessions were told."""
        memory = self._known()
        if memory.inventory.head != plan.before:
            return "conflict"  # another decision was read since
        base = max(base, memory.base, key=lambda head: head.position)
        compares = [memory.root.stands, is_at(memory.keys.head, memory.head_revision)]
        if plan.stocks:
            compares.append(is_unchanged_since(memory.keys.sessions, end_of(memory.keys.sessions), told))
        first = plan.entries[0].position
        parts = self._parts(memory, plan, base)
        await self._runtime.point("etcd.commit.before")
        try:
            result = await self._etcd.change(compares, parts)
        except EtcdUnavailable as error:
            raise Unavailable(NOT_REACHED) from error
        except EtcdUnknown:
            return "unknown"
        if not result.succeeded:
            return "conflict"
        # One step from here. A refresh may have seen this commit before us.
        if memory.inventory.head == plan.before:
            memory.inventory.apply(plan)
            memory.log.append(first)
        self._is_at(memory, result.revision, base)
        return "committed"

    def _parts(self, memory: _Memory, plan: Plan, base: Head) -> list[Part]:
        """All that a commit writes."""
        keys = memory.keys
        content = ENTRIES.dump_json(plan.entries)
        assert len(content) <= MAX_REQUEST_BYTES, "a thousand entries are far from the limit"
        parts = [put(keys.log_at(plan.entries[0].position), content), put(keys.head, dump_head(plan.head, base))]
        parts += [
            put(keys.stocks + stock.name, dump_stock(stock, memory.initial[stock.name]))
            for stock in plan.stocks.values()
        ]
        # A decision is forgotten when its last entry is; and its last is the one before the next one's first.
        kept = bisect_right(memory.log, base.position + 1) - 1
        if kept > 0:
            parts.append(delete(keys.log_at(0), keys.log_at(memory.log[kept])))
        return parts

    async def clear_mark(self) -> None:
        """See `Store.clear_mark`; waits for etcd, however long."""
        memory = self._known()
        while True:
            try:
                _ = await self._etcd.change([memory.root.stands], [delete(memory.keys.mark)])
            except (EtcdUnavailable, EtcdUnknown):  # it may be deleted twice
                await asyncio.sleep(ETCD_AGAIN_S)
            else:
                return

    def _known(self) -> _Memory:
        assert self._memory is not None, "it is loaded or created first"
        return self._memory

    def _now(self) -> float:
        return self._runtime.monotonic()


def _is_or_was_at(inventory: Inventory, head: Head) -> bool:
    if inventory.base.position > head.position:
        return True  # by commits of our own, while this was read
    return inventory.head.position >= head.position and inventory.digest_at(head.position) == head.digest
