"""The order log of one replica: taken in memory first, then on its disk, and only ever appended to.

Entries come in through `take` and through nothing else, whoever sent them. What holds here:

- the log is a prefix of the catalog's sequence: an entry is taken only at the next position, when its digest covers the
  head, and in the generation of this replica; entries that are here already must be equal, which one digest shows;
- `fsynced` never says more than what is on the disk, and only fsynced entries are handed out to others as history.

Memory holds the entries that are not on the disk yet and a bounded number of recent ones, never the whole log.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from services.common.background import ends_process
from services.common.digest import empty_head, follows, head_at
from services.common.distribution import SIZES, Distribution
from services.common.errors import Unavailable
from services.common.models import MAX_ENTRIES, Entry, Order, Stock
from services.common.runtime import Runtime
from services.order.store import LogStore
from services.order.watermark import Watermark

RECENT = 2 * MAX_ENTRIES
SENDING_TURNS = 3
"""Turns of the event loop until a leader has sent what it took: then its own disk works beside its followers'."""


class Contradiction(Exception):
    """What was sent does not continue this log: one of the two is wrong, and only the catalog can say which."""


class OtherGeneration(Exception):
    """What was sent belongs to another generation; it is dropped."""


class OrderLog:
    """The log with its generation and initial stocks.

    `on_taken` hears of every new entry, in order; `on_fsynced` after each fsync. `fsync_seconds`, `fsync_entries`: how
    long each fsync took, and how many entries shared it.
    """

    def __init__(self, runtime: Runtime, store: LogStore) -> None:
        self.on_taken: Callable[[Entry], None] = lambda _: None
        self.on_fsynced: Callable[[], None] = lambda: None
        self.fsync_seconds = Distribution()
        self.fsync_entries = Distribution(SIZES)
        self.generation = store.generation()
        self.initial = store.initial()
        self.names = frozenset(stock.name for stock in self.initial)
        self.head = store.last() or empty_head(self.initial)
        self.fsynced_head = self.head
        self.fsynced = Watermark(self.head.position)
        self._runtime = runtime
        self._store = store
        self._disk = runtime.disk()
        self._recent: deque[Entry] = deque()  # without gaps, up to the head
        self._unsaved: dict[str, Entry] = {}  # by key
        self._dirty = asyncio.Event()
        self._saving = asyncio.Lock()
        self._write: asyncio.Task[None] | None = None  # the last one, in a task of its own

    def require_generation(self) -> int:
        """The generation; without one, a replica answers nothing else. Raises Unavailable."""
        if self.generation is None:
            raise Unavailable("no generation")
        return self.generation

    # Reading.

    def find(self, keys: list[str]) -> dict[str, Entry]:
        """The entries with these keys that there are, on the disk already or not."""
        found = {entry.key: entry for entry in self._store.find(keys)}
        return found | {key: self._unsaved[key] for key in keys if key in self._unsaved}

    def head_of(self, position: int) -> str | None:
        """The digest at a position, None beyond the head."""
        if position == self.head.position:
            return self.head.digest
        if position == 0:
            return empty_head(self.initial).digest
        if position > self.head.position:
            return None
        entry = self._recent_at(position) or self._store.at(position)
        return entry.digest if entry else None

    def taken_after(self, position: int) -> list[Entry]:
        """At most 1,000 entries after `position`, also those that are not on the disk yet."""
        first = self._recent[0].position if self._recent else self.head.position + 1
        if position + 1 >= first:
            begin = position + 1 - first
            return [self._recent[i] for i in range(begin, min(begin + MAX_ENTRIES, len(self._recent)))]
        found = self._store.after(position, MAX_ENTRIES)
        assert found, "what memory does not hold is on the disk"
        newer = (entry for entry in self._recent if entry.position > found[-1].position)
        return [*found, *islice(newer, MAX_ENTRIES - len(found))]

    def after(self, position: int, limit: int) -> list[Entry]:
        """At most `limit` entries after `position` that are on the disk."""
        return [e for e in self._store.after(position, limit) if e.position <= self.fsynced.position]

    def order(self, number: int) -> Order | None:
        """The order with this number, when it is on the disk."""
        return self._store.order(number) if 1 <= number <= self.fsynced_head.number else None

    def orders(self, after: int, limit: int) -> list[Order]:
        """At most `limit` orders on the disk with numbers above `after`."""
        return [order for order in self._store.orders(after, limit) if order.number <= self.fsynced_head.number]

    # Appending: the one way in.

    def take(self, generation: int, entries: Sequence[Entry]) -> list[Entry]:
        """Append what is new of `entries`, and give it back. One step: nothing of it waits.

        Raises OtherGeneration, or Contradiction for what does not fit; entries before the one that does not are kept.
        """
        if generation != self.generation:
            raise OtherGeneration
        known = [entry for entry in entries if entry.position <= self.head.position]
        if known and self.head_of(known[-1].position) != known[-1].digest:
            raise Contradiction(f"another entry is at position {known[-1].position}")
        new = list(entries[len(known) :])
        for entry in new:
            if not follows(entry, self.head):
                raise Contradiction(f"the entry sent for position {entry.position} does not follow this log's head")
            self.head = head_at(entry, self.head)
            self._recent.append(entry)
            self._unsaved[entry.key] = entry
            self._dirty.set()
            self.on_taken(entry)
        return new

    async def adopt(self, generation: int, initial: list[Stock], *, only_empty: bool = False) -> bool:
        """Take a higher generation, durably, the log before it; from then on lower ones are refused.

        False when this log did not begin with these stocks, the generation is not higher, or the log is not empty and
        must be.
        """
        async with self._saving:
            begins_alike = self.head.position == 0 or empty_head(initial) == empty_head(self.initial)
            if generation == self.generation:
                return begins_alike  # an adoption whose answer was lost
            if not begins_alike or generation < (self.generation or 0) or (only_empty and self.head.position):
                return False
            self.generation = None  # from here on nothing of a lower generation is taken
            await self._save()
            await self._runtime.point("order.adopt.before_disk")
            with ends_process(self._runtime):
                await self._disk.run(self._store.adopt, generation, initial)
            await self._runtime.point("order.adopt.after_disk")
            self._begin(generation, initial)
            return True

    async def run(self) -> None:
        """In the background: put on the disk what was taken, all of it with one fsync."""
        while True:
            await self._dirty.wait()
            for _ in range(SENDING_TURNS):
                await asyncio.sleep(0)
            self._dirty.clear()
            async with self._saving:
                await self._save()

    async def close(self) -> None:
        """Save what was taken, then let go of the disk."""
        async with self._saving:
            await self._save()
        self._disk.close()
        self._store.close()

    async def _save(self) -> None:
        """Put everything taken so far on the disk. Only one at a time: the caller holds `_saving`.

        A write that was begun is finished, and waited for by the next one, whatever becomes of the caller.
        """
        if self._write is not None:
            await asyncio.shield(self._write)
        self._write = asyncio.create_task(self._save_all())
        await asyncio.shield(self._write)

    async def _save_all(self) -> None:
        entries, head = list(self._unsaved.values()), self.head
        if not entries:
            return
        assert entries[0].position == self.fsynced.position + 1, "the disk has no gaps"
        assert entries[-1].position == head.position, "everything up to the head is saved"
        await self._runtime.point("order.log.before_fsync")
        began = self._runtime.monotonic()
        with ends_process(self._runtime):
            await self._disk.run(self._store.append, entries)
        self.fsync_seconds.add(self._runtime.monotonic() - began)
        self.fsync_entries.add(len(entries))
        await self._runtime.point("order.log.after_fsync")
        self.fsynced_head = head
        for entry in entries:
            del self._unsaved[entry.key]
        for _ in range(min(len(self._recent) - RECENT, len(self._recent) - len(self._unsaved))):
            self._recent.popleft()
        self.fsynced.rise_to(head.position)
        self.on_fsynced()

    def _begin(self, generation: int, initial: list[Stock]) -> None:
        self.generation, self.initial = generation, initial
        self.names = frozenset(stock.name for stock in initial)
        if self.head.position == 0:
            self.head = self.fsynced_head = empty_head(initial)

    def _recent_at(self, position: int) -> Entry | None:
        if not self._recent or position < self._recent[0].position:
            return None
        return self._recent[position - self._recent[0].position]
