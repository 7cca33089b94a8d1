"""What is durable of the catalog, as an interface: embedded in this process, or shared by any number of catalogs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from services.catalog.inventory import Inventory, Plan
from services.common.digest import follows, head_at
from services.common.http import Peer
from services.common.models import MAX_STOCK, Head


class Overtaken(Exception):
    """Another catalog has rebuilt the state, or is about to: what this one has rebuilt is not wanted."""


Outcome = Literal["committed", "conflict", "unknown"]
"""conflict: definite, nothing was committed, the plan is outdated. unknown: it may be, or still become, committed; at
most one of all plans made from one head ever is."""


@dataclass(frozen=True)
class Saved:
    """What a catalog finds when it starts. sessions: those to be recalled, by id, with their addresses.

    is_rebuilt: sessions may be open that no record names. since: none of those was renewed after this moment, by the
    runtime's clock; None: after the start of the process.
    """

    inventory: Inventory
    sessions: Mapping[str, str]
    is_rebuilt: bool
    since: float | None = None


class SessionBook(Protocol):
    """The front-ends' sessions; see `services.catalog.invalidation`.

    expired: how many did not answer an announcement until they were over. grantor: see SessionAnswer.
    """

    expired: int
    grantor: str

    def __len__(self) -> int:
        """How many are live, as far as this process knows."""

    async def open(self, session_id: str, url: str, grantors: Sequence[str]) -> int | None:
        """Open a session once and give its floor, a position; None when it is not, or no longer, wanted.

        grantors: a lease of it is renewed only when each of these catalogs has renewed it.
        """

    async def renew(self, session_id: str) -> bool | None:
        """Renew a lease: True when done, False when an announcement is unanswered, None when there is no such lease."""

    async def end(self, session_id: str) -> None:
        """End a session because its front-end said so."""

    async def announce(self, position: int, names: Iterable[str]) -> int:
        """Step 3c: return when no cache can answer with what `names` were before `position`.

        What it gives says which sessions were told; `Store.commit` takes it.
        """

    async def recall(self, recorded: Mapping[str, str]) -> None:
        """End the sessions of the process before this one."""

    async def sweep(self) -> None:
        """In the background: forget sessions that are over."""


class Store(Protocol):
    """The catalog's durable state. Whatever returns is durable, unless it says otherwise.

    is_shared: whether other catalogs commit to it as well. The state in memory is then brought up to date by `refresh`,
    and may change at every await. max_stocks: how many stocks one commit may change; None for any number. trouble: what
    keeps the store from serving at this moment, in words. is_silent: whether it has owed us an answer for a while, so
    that a commit of now might get lost.

    What a shared store does may fail with Unavailable: definite, nothing happened, or nothing that matters.
    """

    is_shared: bool
    max_stocks: int | None

    @property
    def trouble(self) -> str | None:
        """See above."""

    @property
    def is_silent(self) -> bool:
        """See above."""

    async def load(self) -> Saved | None:
        """What was saved; None for a new or lost database. Raises IntegrityFailure when it contradicts itself."""

    async def claim(self, least: int) -> int:
        """Begin to rebuild: the generation to give to the replicas, at least this one. Raises Overtaken."""

    async def create(self, inventory: Inventory) -> Saved:
        """Save a rebuilt inventory, with the mark that sessions from before may be open. Raises Overtaken."""

    def open_sessions(self, saved: Saved, connect: Callable[[str], Peer]) -> SessionBook:
        """The sessions that belong to what was saved."""

    async def refresh(self, deadline: float = math.inf) -> None:
        """Bring the inventory up to what is committed now or later. Raises Unavailable, by the deadline."""

    async def commit(self, plan: Plan, base: Head, told: int) -> Outcome:
        """Save a decision, and forget the entries up to `base`. told: what `SessionBook.announce` gave."""

    async def clear_mark(self) -> None:
        """Forget the mark of `create`: all sessions from before are over."""

    async def close(self) -> None:
        """Let go of it."""


def check_state(inventory: Inventory, head: Head) -> None:
    """Raise ValueError when what was read of a store cannot have been written together."""
    before = inventory.base
    for entry in inventory.after(before.position):
        if not follows(entry, before):
            raise ValueError(f"position {entry.position} does not follow the one before")
        before = head_at(entry, before)
    if before != head:
        raise ValueError("the entries do not end at the head")
    if {s.name: s.price for s in inventory.stocks.values()} != {s.name: s.price for s in inventory.initial}:
        raise ValueError("the stocks are not those that the bazaar began with")
    if not all(0 <= stock.quantity <= MAX_STOCK for stock in inventory.stocks.values()):
        raise ValueError("a quantity is out of bounds")
