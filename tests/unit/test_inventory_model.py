"""The catalog's decisions against a model that forgets nothing, with three replicas that lag, lead and lose disks."""

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.catalog.inventory import Inventory, Plan, fold
from services.common.digest import empty_head
from services.common.models import DecideAnswer, DecideRequest, Entry, Stock, Trade
from tests.support.catalog_entries import AT, head_of, request

IDS = (1, 2, 3)
INITIAL = [Stock(name="A", price=100, quantity=5), Stock(name="B", price=250, quantity=0)]

REPLICA = st.sampled_from(IDS)
TRADES = st.lists(
    st.builds(
        Trade,
        key=st.integers(1, 12).map(lambda i: f"key-{i}"),
        name=st.sampled_from(["A", "B"]),
        type=st.sampled_from(["buy", "sell"]),
        quantity=st.integers(1, 6),
    ),
    min_size=1,
    max_size=5,
)


class Replica:
    """`log` is what it has taken, the first `fsynced` entries of it are on its disk."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.fsynced = 0

    def ask(self, replica_id: int, trades: Sequence[Trade] = ()) -> DecideRequest:
        """A leader takes its head and the trades whose keys it does not have, in one step."""
        known = {entry.key for entry in self.log}
        wanted = [trade for trade in trades if trade.key not in known]
        return request(*wanted, head=head_of(self.log, INITIAL), replica_id=replica_id, fsynced=self.fsynced)

    def take(self, answer: DecideAnswer) -> None:
        for entry in answer.entries:
            if entry.position <= len(self.log):
                assert self.log[entry.position - 1] == entry
            else:
                assert entry.position == len(self.log) + 1
                self.log.append(entry)


class Model:
    """The sequence as it must be: nothing forgotten, decided with two lines of arithmetic."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.quantities = {stock.name: stock.quantity for stock in INITIAL}

    def decide(self, trades: Sequence[Trade]) -> list[tuple[str, int | None]]:
        """Key and number of each new entry."""
        known = {entry.key for entry in self.entries}
        number = sum(entry.number is not None for entry in self.entries)
        decided: list[tuple[str, int | None]] = []
        for trade in trades:
            if trade.key in known:
                continue
            known.add(trade.key)
            after = self.quantities[trade.name] + (trade.quantity if trade.type == "sell" else -trade.quantity)
            if after >= 0:
                self.quantities[trade.name] = after
                number += 1
            decided.append((trade.key, number if after >= 0 else None))
        return decided


class CatalogMachine(RuleBasedStateMachine):
    """Any order of decisions, reports, fsyncs, catch-ups, lost disks and lost answers."""

    def __init__(self) -> None:
        super().__init__()
        self.inventory = Inventory(1, INITIAL, INITIAL, empty_head(INITIAL), [])
        self.model = Model()
        self.replicas = {replica_id: Replica() for replica_id in IDS}
        self.begun: tuple[DecideRequest, Plan] | None = None

    @precondition(lambda self: self.begun is None)
    @rule(replica_id=REPLICA, trades=TRADES)
    def begin(self, replica_id: int, trades: list[Trade]) -> None:
        """A decision as far as its plan; it waits for front-ends and disk."""
        asked = self.replicas[replica_id].ask(replica_id, trades)
        early = self.inventory.examine(asked)
        if early is not None:
            self.catch_up_from_peers(replica_id, early)
            return
        self.begun = (asked, self.inventory.plan(asked, AT))

    @precondition(lambda self: self.begun is not None)
    @rule(arrives=st.booleans())
    def finish(self, arrives: bool) -> None:
        """It is committed; its answer may be lost."""
        assert self.begun is not None
        (asked, plan), self.begun = self.begun, None
        self.inventory.apply(plan)
        expected = self.model.decide(asked.trades)
        assert [(entry.key, entry.number) for entry in plan.entries] == expected
        self.model.entries += plan.entries
        answer = self.inventory.answer(plan.since + plan.entries)
        assert answer.entries == self.model.entries[asked.head.position :], "everything after the leader's head"
        if arrives:
            # The log may have grown, or be gone, since it asked: what does not continue it is dropped.
            replica = self.replicas[asked.replica_id]
            if asked.head.position <= len(replica.log):
                replica.take(answer)
        self.note(asked, answer)

    @precondition(lambda self: self.begun is not None)
    @rule()
    def crash(self) -> None:
        """The catalog dies before the commit, and starts again from what is durable."""
        self.begun = None
        base, entries = self.inventory.base, self.inventory.after(self.inventory.base.position)
        self.inventory = Inventory(1, INITIAL, self.inventory.stocks.values(), base, entries)

    @rule(replica_id=REPLICA, arrives=st.booleans())
    def report(self, replica_id: int, arrives: bool) -> None:
        """An empty decide, also in the middle of another's decision."""
        asked = self.replicas[replica_id].ask(replica_id)
        answer = self.inventory.examine(asked) or self.inventory.answer(self.inventory.after(asked.head.position))
        self.note(asked, answer)
        if arrives:
            self.replicas[replica_id].take(answer)
            self.catch_up_from_peers(replica_id, answer)

    @rule(replica_id=REPLICA)
    def fsync(self, replica_id: int) -> None:
        self.replicas[replica_id].fsynced = len(self.replicas[replica_id].log)

    @rule(replica_id=REPLICA)
    def restart(self, replica_id: int) -> None:
        replica = self.replicas[replica_id]
        del replica.log[replica.fsynced :]

    @rule(replica_id=REPLICA)
    def wipe(self, replica_id: int) -> None:
        """Lose a disk; not the last one that holds what the catalog has forgotten."""
        others = [replica.fsynced for i, replica in self.replicas.items() if i != replica_id]
        if max(others) >= self.inventory.base.position:
            self.replicas[replica_id] = Replica()

    def note(self, asked: DecideRequest, answer: DecideAnswer) -> None:
        if answer.outcome in {"decided", "behind", "fetch_base"}:
            self.inventory.report(asked.replica_id, asked.fsynced, IDS)

    def catch_up_from_peers(self, replica_id: int, answer: DecideAnswer) -> None:
        assert answer.outcome in {"decided", "fetch_base"}, "no honest replica diverges"
        if answer.outcome == "fetch_base":
            longest = max(self.replicas.values(), key=lambda replica: replica.fsynced)
            assert longest.fsynced >= answer.base, "what is forgotten is on some disk"
            replica = self.replicas[replica_id]
            replica.log = longest.log[: max(longest.fsynced, len(replica.log))]

    @invariant()
    def every_log_is_a_prefix_of_one_sequence(self) -> None:
        for replica in self.replicas.values():
            assert replica.log == self.model.entries[: len(replica.log)]

    @invariant()
    def the_sequence_is_the_models(self) -> None:
        assert self.inventory.head == head_of(self.model.entries, INITIAL)
        base = self.inventory.base.position
        assert self.inventory.base == head_of(self.model.entries[:base], INITIAL)
        assert self.inventory.after(base) == self.model.entries[base:]

    @invariant()
    def quantities_add_up(self) -> None:
        assert {name: stock.quantity for name, stock in self.inventory.stocks.items()} == self.model.quantities
        assert self.inventory.stocks == fold(INITIAL, self.model.entries)
        assert all(quantity >= 0 for quantity in self.model.quantities.values())

    @invariant()
    def numbers_and_keys_stand_once(self) -> None:
        numbers = [entry.number for entry in self.model.entries if entry.number is not None]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len({entry.key for entry in self.model.entries}) == len(self.model.entries)


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, print_blob=True)
