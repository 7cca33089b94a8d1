"""What decides: stocks, head, and the one sequence of entries that every replica's log is a prefix of.

Plain code over plain values; the caller does the waiting, the telling and the writing (docs/design.md, "A trade").
What holds here, and is asserted where it is decided:

- quantity = initial quantity + sells - buys over the sequence, never negative, never above 10^15;
- positions and numbers have no gaps, and every digest covers the one before;
- a key stands once in the sequence. The catalog forgets entries up to `base`, which every replica has on its disk,
  and looks for a key only among those after the asking replica's head: keys up to that head the replica itself has
  looked for, in the same step in which it read its head.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.common.digest import entry_digest, follows, head_at
from services.common.errors import IntegrityFailure
from services.common.models import (
    MAX_ENTRIES,
    MAX_STOCK,
    DecideAnswer,
    DecideOutcome,
    DecideRequest,
    Entry,
    Head,
    Stock,
    Trade,
)

MAX_KEPT = 100_000
"""So many entries are kept for a replica that does not report; beyond them, what a majority has on disk is enough."""

DELETE_FILE = "its file lost something, or an old copy was put back; delete the file, it is rebuilt from the replicas"


@dataclass(frozen=True)
class Plan:
    """A decision that is not made yet: what the sequence and the stocks become once it is committed.

    since: the entries between the asking replica's head and the first new one. They are kept here because `base` may
    pass that head while the plan waits for front-ends and disk, and the answer must still hold them. before: the head
    that it was made from. is_whole: whether every trade was looked at; if not, the rest comes in the next plan.
    """

    since: list[Entry]
    entries: list[Entry]
    before: Head
    head: Head
    stocks: Mapping[str, Stock]
    is_whole: bool = True


class Inventory:
    """The catalog's state in memory: exactly what is committed, and nothing else.

    Where several catalogs share a store it may be older than what is committed now. remedy: what to do when a replica
    knows more than the store. fsynced_heads: what each replica has said to have on its disk.
    """

    def __init__(
        self,
        generation: int,
        initial: list[Stock],
        stocks: Iterable[Stock],
        base: Head,
        entries: list[Entry],
        *,
        remedy: str = DELETE_FILE,
    ) -> None:
        self.generation = generation
        self.remedy = remedy
        self.initial = initial
        self.stocks = {stock.name: stock for stock in sorted(stocks, key=lambda stock: stock.name)}
        self._names = list(self.stocks)
        self.base = base
        self.head = base
        self._entries: list[Entry] = []
        self._position_of_key: dict[str, int] = {}
        self.fsynced_heads: dict[int, int] = {}
        for entry in entries:
            self._append(entry)

    # Step 3a: does the replica's log belong to our sequence?

    def examine(self, request: DecideRequest) -> DecideAnswer | None:
        """The answer when nothing can be decided for this replica now, else None.

        Raises IntegrityFailure when the replica knows more than we do: then we are the ones who lost something.
        """
        if request.generation < self.generation:
            return self._answer("other_generation", [])
        if request.generation > self.generation:
            raise IntegrityFailure(
                f"order-{request.replica_id} has generation {request.generation}, "
                f"this catalog only {self.generation}: {self.remedy}"
            )
        if request.head.position > self.head.position:
            raise IntegrityFailure(
                f"order-{request.replica_id} has {request.head.position} entries, "
                f"this catalog only {self.head.position}: {self.remedy}"
            )
        if request.head.position < self.base.position:
            return self._answer("fetch_base", [])
        if request.head.digest != self.digest_at(request.head.position):
            return self._answer("diverged", [])
        if self.head.position - request.head.position > MAX_ENTRIES:
            return self._answer("behind", self.after(request.head.position)[:MAX_ENTRIES])
        return None

    def may_decide_for(self, request: DecideRequest) -> bool:
        """Whether `examine` would let the request pass, be this state the latest or not: a log that fits, fits."""
        return (
            request.generation == self.generation
            and self.base.position <= request.head.position <= self.head.position
            and self.head.position - request.head.position <= MAX_ENTRIES
            and request.head.digest == self.digest_at(request.head.position)
        )

    def digest_at(self, position: int) -> str:
        """The digest at a position from `base` to the head."""
        if position == self.base.position:
            return self.base.digest
        return self._entries[position - self.base.position - 1].digest

    def after(self, position: int) -> list[Entry]:
        """The entries after a position that is not before `base`."""
        assert position >= self.base.position, "entries up to base are forgotten"
        return self._entries[position - self.base.position :]

    def page(self, after: str, limit: int) -> list[Stock]:
        """At most `limit` stocks whose names come after `after`, by name."""
        begin = bisect_right(self._names, after)
        return [self.stocks[name] for name in self._names[begin : begin + limit]]

    # Step 3b: decide.

    def plan(self, request: DecideRequest, at: int, max_stocks: int | None = None) -> Plan:
        """Decide the trades of a request that `examine` let pass. Nothing changes before `apply`.

        A trade whose key is already in the sequence after the replica's head is passed over: its entry is in `since`.
        max_stocks: the plan ends before the trade that would change one more.
        """
        head = self.head
        entries: list[Entry] = []
        stocks: dict[str, Stock] = {}
        keys: set[str] = set()
        is_whole = True
        for trade in request.trades:
            known_at = self._position_of_key.get(trade.key, 0)
            if trade.key in keys or known_at > request.head.position:
                continue
            assert not known_at, "a leader asks for no key that is in its log"
            if max_stocks is not None and len(stocks) >= max_stocks and trade.name not in stocks:
                is_whole = False
                break
            keys.add(trade.key)
            stock = stocks.get(trade.name) or self.stocks[trade.name]
            changed = _traded(stock, trade, head.position + 1)
            entry = _entry(trade, stock.price, at, head, accepted=changed is not None)
            if changed is not None:
                stocks[trade.name] = changed
            entries.append(entry)
            head = head_at(entry, head)
        return Plan(self.after(request.head.position), entries, self.head, head, stocks, is_whole)

    # After step 3d.

    def apply(self, plan: Plan) -> None:
        """Take over a plan that was committed."""
        for entry in plan.entries:
            self._append(entry)
        assert self.head == plan.head, "a plan is applied to the state it was made from"
        for stock in plan.stocks.values():
            assert 0 <= stock.quantity <= MAX_STOCK, "a quantity stays within its bounds"
            self.stocks[stock.name] = stock

    def follow(self, entries: Iterable[Entry]) -> None:
        """Take over what another catalog committed; what is here is passed over. Raises IntegrityFailure."""
        for entry in entries:
            if entry.position <= self.head.position:
                continue
            if not follows(entry, self.head):
                raise IntegrityFailure(f"what is kept contradicts itself at position {entry.position}: {self.remedy}")
            fold_one(self.stocks, entry)
            self._append(entry)

    def become(self, other: "Inventory") -> None:
        """Take over the whole state of a later moment, when what lies between is forgotten."""
        assert other.generation == self.generation, "a generation has one sequence"
        assert other.head.position >= self.head.position, "a state never becomes an older one"
        self.stocks, self.base, self.head = other.stocks, other.base, other.head
        self._entries, self._position_of_key = other._entries, other._position_of_key

    def answer(self, entries: list[Entry], head: Head | None = None) -> DecideAnswer:
        """Step 3f: `entries` are all those after the asking replica's head, up to `head` or that of now."""
        return self._answer("decided", entries, head)

    # Step 3e: forget what everybody has.

    def report(self, replica_id: int, fsynced: int, replica_ids: Iterable[int]) -> None:
        """Note what a replica has on its disk. A lower head counts too: the replica may have lost its disk."""
        self.fsynced_heads[replica_id] = min(fsynced, self.head.position)
        heads = sorted(self.fsynced_heads.get(other, 0) for other in replica_ids)
        everywhere, of_majority = heads[0], heads[(len(heads) - 1) // 2]
        if self.head.position - everywhere > MAX_KEPT:
            # A replica that is away for long must not let this grow for ever: it will have to ask the others.
            everywhere = max(everywhere, min(of_majority, self.head.position - MAX_KEPT))
        self.forget(everywhere)

    def forget(self, until: int) -> None:
        """Let go of the entries up to `until`."""
        if until > self.base.position:
            forgotten = self._entries[: until - self.base.position]
            for entry in forgotten:
                self.base = head_at(entry, self.base)
                del self._position_of_key[entry.key]
            del self._entries[: len(forgotten)]
            assert self.base.position == until, "what is forgotten was here"

    def _append(self, entry: Entry) -> None:
        assert entry.position == self.head.position + 1, "positions have no gaps"
        assert entry.number in {None, self.head.number + 1}, "numbers have no gaps"
        assert entry.key not in self._position_of_key, "a key stands once in the sequence"
        self._entries.append(entry)
        self._position_of_key[entry.key] = entry.position
        self.head = head_at(entry, self.head)

    def _answer(self, outcome: DecideOutcome, entries: list[Entry], head: Head | None = None) -> DecideAnswer:
        head = head or self.head
        return DecideAnswer(
            generation=self.generation, outcome=outcome, base=self.base.position, head=head, entries=entries
        )


def _traded(stock: Stock, trade: Trade, position: int) -> Stock | None:
    """The stock after the trade, or None when there is not enough of it, or no room for more."""
    quantity = stock.quantity - trade.quantity if trade.type == "buy" else stock.quantity + trade.quantity
    if not 0 <= quantity <= MAX_STOCK:
        return None
    return Stock(name=stock.name, price=stock.price, quantity=quantity, version=position)


def _entry(trade: Trade, price: int, at: int, before: Head, *, accepted: bool) -> Entry:
    draft = Entry(
        position=before.position + 1,
        number=before.number + 1 if accepted else None,
        key=trade.key,
        name=trade.name,
        type=trade.type,
        quantity=trade.quantity,
        price=price,
        at=at,
        digest="",
    )
    return draft.model_copy(update={"digest": entry_digest(before.digest, draft)})


def fold(initial: Iterable[Stock], entries: Iterable[Entry]) -> dict[str, Stock]:
    """The stocks after `entries`. Raises IntegrityFailure when they do not fit the initial stocks."""
    stocks = {stock.name: stock for stock in initial}
    for entry in entries:
        fold_one(stocks, entry)
    return stocks


def fold_one(stocks: dict[str, Stock], entry: Entry) -> None:
    """Let one entry of a log change `stocks`. Raises IntegrityFailure when it cannot have been decided on them."""
    stock = stocks.get(entry.name)
    if stock is None:
        raise IntegrityFailure(f"position {entry.position} trades a stock that does not exist")
    if entry.number is None:
        return
    trade = Trade(key=entry.key, name=entry.name, type=entry.type, quantity=entry.quantity)
    changed = _traded(stock, trade, entry.position)
    if changed is None:
        raise IntegrityFailure(f"position {entry.position} trades more of {entry.name} than there was")
    stocks[entry.name] = changed
