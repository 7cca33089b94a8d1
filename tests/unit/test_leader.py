"""What a leader tells about a trade: once decided, everywhere remembered, then answered; else definite or not."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import services.order.leader as leader_module
from services.common.models import MAX_TRADES, Entry, TradeOutcome
from services.common.timing import DECIDE_S, FOLLOWER_PATIENCE_S
from services.order.catalog_link import CatalogLink
from services.order.leader import Leader
from services.order.log import OrderLog
from services.order.replication import Replication
from tests.support.fake_network import Fault, failure
from tests.support.fake_time import in_fake_time, until
from tests.support.order_chain import STOCKS, Chain, make_trade
from tests.support.order_peers import DecidingCatalog, TakingFollower
from tests.support.order_world import CATALOG, Outside, once, open_log, replica_url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "order-3.db"


class Trading:
    """Replica 3 as the leader of 1 and 2."""

    def __init__(self, outside: Outside, log: OrderLog, catalog: DecidingCatalog) -> None:
        self.outside = outside
        self.log = log
        self.catalog = catalog
        self.followers = {i: TakingFollower() for i in (1, 2)}
        outside.network.serve(CATALOG, catalog.handle)
        for i, follower in self.followers.items():
            outside.network.serve(replica_url(i), follower.handle)
        self.link = CatalogLink(outside.runtime, 3, log, outside.peer(CATALOG), self._fetch)
        peers = {i: outside.peer(replica_url(i)) for i in self.followers}
        self.replication = Replication(outside.runtime, log, peers, self.link.refresh)
        self.leader = Leader(outside.runtime, log, self.link, self.replication)

    async def _fetch(self, _: int) -> bool:
        return False

    async def trade(self, key: str, seconds: float = 10.0, *, quantity: int = 1, sell: bool = False) -> TradeOutcome:
        trade = make_trade(key, quantity=quantity, kind="sell" if sell else "buy")
        return (await self.leader.trades([trade], self.outside.clock() + seconds))[0]

    def begin(self, key: str, seconds: float = 10.0, *, quantity: int = 1) -> "asyncio.Future[TradeOutcome]":
        return asyncio.ensure_future(self.trade(key, seconds, quantity=quantity))

    def fault(self, fault: Fault | None) -> None:
        """Have the catalog fail."""
        self.outside.network.fault(CATALOG, fault)

    @property
    def decided(self) -> list[str]:
        """The keys of the one sequence."""
        return [entry.key for entry in self.catalog.inventory.after(0)]


@asynccontextmanager
async def trading(
    path: Path, chain: Chain | None = None, *, generation: int | None = 1, catalog: DecidingCatalog | None = None
) -> AsyncIterator[Trading]:
    outside = Outside()
    async with open_log(outside, path, chain, generation=generation) as log:
        made = Trading(outside, log, catalog or DecidingCatalog(entries=chain.entries if chain else ()))
        try:
            yield made
        finally:
            await made.leader.close()
            await made.replication.close()


def accepted(number: int, *, replayed: bool = False) -> TradeOutcome:
    return TradeOutcome(result="accepted", number=number, replayed=replayed)


def refused(*, replayed: bool = False) -> TradeOutcome:
    return TradeOutcome(result="refused", replayed=replayed)


UNKNOWN = TradeOutcome(result="unknown")
UNAVAILABLE = TradeOutcome(result="unavailable")
OTHER_CONTENT = TradeOutcome(result="other_content")


async def _pass_time() -> None:
    await asyncio.sleep(0.001)


def _gated(made: Trading) -> asyncio.Event:
    """No follower takes anything until this is set; both are waited for, however long it takes."""
    gate = asyncio.Event()
    for follower in made.followers.values():
        follower.gate = gate.wait
    return gate


# What becomes of a trade.


@in_fake_time
async def test_every_replica_has_the_order_when_a_trade_is_accepted(path: Path) -> None:
    async with trading(path) as made:
        for number in (1, 2, 3):
            assert await made.trade(f"key-{number}") == accepted(number)
            assert made.log.fsynced.position == number
            assert all(follower.head.position == number for follower in made.followers.values())


@in_fake_time
async def test_a_refusal_is_remembered_everywhere_when_there_is_not_enough_stock(path: Path) -> None:
    """H3: a late copy of a refused trade never executes, though there would be stock by then."""
    async with trading(path) as made:
        assert await made.trade("a", quantity=101) == refused()
        assert made.followers[1].entries[0].number is None
        assert await made.trade("b", quantity=500, sell=True) == accepted(1)
        assert await made.trade("a", quantity=101) == refused(replayed=True)
        assert made.decided == ["a", "b"]


@in_fake_time
async def test_the_same_order_is_told_without_asking_when_the_key_is_in_the_log(path: Path) -> None:
    async with trading(path) as made:
        await made.trade("a")
        made.fault("refuses")
        for _ in range(3):
            assert await made.trade("a") == accepted(1, replayed=True)


@in_fake_time
async def test_a_key_of_the_log_waits_for_the_followers_as_any_other(path: Path) -> None:
    chain = Chain()
    chain.add(key="a")
    async with trading(path, chain) as made:
        gate = _gated(made)
        asking = made.begin("a")
        await asyncio.sleep(0.3)
        assert not asking.done()
        gate.set()
        assert await asking == accepted(1, replayed=True)
        assert made.followers[1].head == chain.head()


@in_fake_time
async def test_other_content_is_told_only_when_the_first_trade_is_replicated(path: Path) -> None:
    """H20: else the catalog's disk could be lost, and the key execute after all."""
    chain = Chain()
    chain.add(key="a")
    async with trading(path, chain) as made:
        gate = _gated(made)
        asking = made.begin("a", quantity=2)
        await asyncio.sleep(0.3)
        assert not asking.done()
        assert await made.trade("a", 0.1, quantity=2) == UNKNOWN
        gate.set()
        assert await asking == OTHER_CONTENT
        assert made.decided == ["a"]


@pytest.mark.parametrize("different", [{"quantity": 2}, {"sell": True}])
def test_other_content_is_told_when_the_key_waits_with_another_trade(path: Path, different: dict[str, int]) -> None:
    @in_fake_time
    async def run() -> None:
        async with trading(path) as made:
            gate = _gated(made)
            first = made.begin("a")
            second = asyncio.ensure_future(made.trade("a", **different))  # type: ignore[arg-type]
            await until(lambda: made.log.fsynced.position == 1)
            await asyncio.sleep(0.1)
            assert not second.done()
            gate.set()
            assert await first == accepted(1)
            assert await second == OTHER_CONTENT
            assert made.catalog.asked == [["a"]]

    run()


@in_fake_time
async def test_a_trade_is_refused_without_an_entry_when_there_is_no_such_stock(path: Path) -> None:
    async with trading(path) as made:
        trade = make_trade("a", name="Unknown")
        assert await made.leader.trades([trade], made.outside.clock() + 1) == [TradeOutcome(result="unknown_stock")]
        assert made.catalog.requests == []
        assert await made.trade("a") == accepted(1)
        assert await made.leader.trades([trade], made.outside.clock() + 1) == [OTHER_CONTENT]


@in_fake_time
async def test_a_trade_is_unavailable_when_there_is_no_generation(path: Path) -> None:
    async with trading(path, generation=None) as made:
        assert await made.trade("a") == UNAVAILABLE
        assert made.catalog.requests == []


# A key once.


@in_fake_time
async def test_a_key_is_asked_for_once_when_many_wait_for_it(path: Path) -> None:
    async with trading(path) as made:
        waiting = [made.begin("a", 10 + i) for i in range(20)]
        assert await asyncio.gather(*waiting) == [accepted(1)] * 20
        assert made.catalog.asked == [["a"]]


@in_fake_time
async def test_whoever_waits_goes_on_when_the_entry_comes_another_way(path: Path) -> None:
    async with trading(path) as made:
        made.catalog.before = once(asyncio.Event().wait)  # the answer to us never comes
        waiting = made.begin("a")
        await _pass_time()
        made.log.take(1, made.catalog.decide(make_trade("x"), make_trade("a")))
        assert await waiting == accepted(2)
        assert made.outside.clock() - 1_000 < DECIDE_S


@in_fake_time
async def test_a_key_that_waits_is_not_asked_for_when_its_entry_was_appended_meanwhile(path: Path) -> None:
    """H1: queued here, decided elsewhere, appended here, and only then would be its turn."""
    async with trading(path) as made:
        gate = asyncio.Event()
        made.catalog.before = once(gate.wait)
        first = made.begin("a")
        await _pass_time()
        second, third = made.begin("b"), made.begin("c")
        await _pass_time()
        made.log.take(1, made.catalog.decide(make_trade("b")))
        assert await second == accepted(1)
        gate.set()
        assert [await first, await third] == [accepted(2), accepted(3)]
        assert made.catalog.asked == [["a"], ["c"]]
        assert made.decided == ["b", "a", "c"]


@in_fake_time
async def test_a_lost_answer_costs_no_second_execution_when_it_is_asked_again(path: Path) -> None:
    async with trading(path) as made:
        for i, fault in enumerate(("does_then_resets", "resets", "does_then_resets")):
            made.fault(fault)  # type: ignore[arg-type]
            waiting = made.begin(f"key-{i}")
            await asyncio.sleep(0.5)
            made.fault(None)
            assert await waiting == accepted(i + 1)
        assert made.decided == ["key-0", "key-1", "key-2"]
        assert len(made.catalog.asked) > 3


@in_fake_time
async def test_a_decision_is_asked_for_again_when_it_was_not_answered_for_so_long(path: Path) -> None:
    async with trading(path) as made:
        made.catalog.after = once(asyncio.Event().wait)
        assert await made.trade("a") == accepted(1)
        assert made.outside.clock() - 1_000 == pytest.approx(DECIDE_S, abs=0.1)
        assert made.catalog.asked == [["a"], ["a"]]
        assert made.decided == ["a"]


# Batches.


@in_fake_time
async def test_those_who_come_during_a_decision_share_the_next_one(path: Path) -> None:
    async with trading(path) as made:
        gate = asyncio.Event()
        made.catalog.before = once(gate.wait)
        waiting = [made.begin("a")]
        await _pass_time()
        waiting += [made.begin(f"key-{i}") for i in range(30)]
        await _pass_time()
        gate.set()
        assert [(await future).number for future in waiting] == list(range(1, 32))
        assert [len(keys) for keys in made.catalog.asked] == [1, 30]
        assert made.catalog.most_in_flight == 1


@in_fake_time
async def test_a_batch_holds_1000_trades_at_most(path: Path) -> None:
    async with trading(path) as made:
        waiting = [made.begin(f"key-{i}") for i in range(MAX_TRADES + 5)]
        outcomes = await asyncio.gather(*waiting)
        assert sum(outcome.result == "accepted" for outcome in outcomes) == 100
        assert sum(outcome.result == "refused" for outcome in outcomes) == MAX_TRADES - 95
        assert [len(keys) for keys in made.catalog.asked] == [MAX_TRADES, 5]


@in_fake_time
async def test_the_next_batch_is_decided_while_the_one_before_is_replicated(path: Path) -> None:
    async with trading(path) as made:
        gate = _gated(made)
        waiting = [made.begin("a")]
        await until(lambda: made.decided == ["a"])
        waiting.append(made.begin("b"))
        await until(lambda: made.decided == ["a", "b"])
        assert not any(future.done() for future in waiting)
        gate.set()
        assert await asyncio.gather(*waiting) == [accepted(1), accepted(2)]


@in_fake_time
async def test_a_trade_is_answered_without_a_follower_that_is_silent(path: Path) -> None:
    async with trading(path) as made:
        made.outside.network.fault(replica_url(1), "hangs")
        made.outside.network.fault(replica_url(2), "refuses")
        assert await made.trade("a") == accepted(1)
        assert made.outside.clock() - 1_000 == pytest.approx(FOLLOWER_PATIENCE_S, abs=0.03)
        assert await made.trade("b") == accepted(2)
        assert made.outside.clock() - 1_000 == pytest.approx(FOLLOWER_PATIENCE_S, abs=0.03)


@in_fake_time
async def test_the_catalog_is_asked_once_for_each_trade_when_a_follower_is_gone(path: Path) -> None:
    async with trading(path) as made:
        made.outside.network.fault(replica_url(1), "refuses")
        for number in (1, 2, 3):
            assert await made.trade(f"key-{number}") == accepted(number)
        assert [len(request.trades) for request in made.catalog.requests] == [1, 1, 1]


@in_fake_time
async def test_a_key_of_the_log_waits_for_the_catalogs_word_when_a_follower_lacks_its_entry(path: Path) -> None:
    """This replica may have been declared lost meanwhile: docs/decisions/0009."""
    async with trading(path) as made:
        assert await made.trade("a") == accepted(1)
        made.outside.network.fault(replica_url(1), "refuses")
        assert await made.trade("b") == accepted(2)
        await _pass_time()
        made.fault("hangs")
        assert await made.trade("a", 3) == accepted(1, replayed=True), "both followers have it"
        assert await made.trade("b", 3) == UNKNOWN
        assert await made.trade("b", 3, quantity=2) == UNKNOWN
        asking = made.begin("b")
        made.fault("refuses")
        await asyncio.sleep(3)
        assert not asking.done()
        made.fault(None)
        assert await asking == accepted(2, replayed=True)
        made.fault("hangs")
        made.outside.network.fault(replica_url(1), None)
        made.replication.push()
        assert await made.trade("b", 3) == accepted(2, replayed=True), "that follower has caught up"


@in_fake_time
async def test_a_trade_is_not_answered_before_it_is_on_the_own_disk(path: Path) -> None:
    async with trading(path) as made:
        made.outside.disk.hold()
        assert await made.trade("a", 3) == UNKNOWN
        made.outside.disk.release()
        assert await made.trade("a", 3) == accepted(1, replayed=True)


# At the deadline: definite or not.


def _refuse(made: Trading) -> None:
    made.fault("refuses")


def _start(made: Trading) -> None:
    made.catalog.is_starting = True


def _say(outcome: str) -> Callable[[Trading], None]:
    def say(made: Trading) -> None:
        answer = made.catalog.inventory.answer([]).model_copy(update={"outcome": outcome, "base": 5})
        made.catalog.instead.extend([answer] * 1_000)

    return say


def _fail(fault: Fault) -> Callable[[Trading], None]:
    return lambda made: made.fault(fault)


def _crash(made: Trading) -> None:
    made.catalog.instead.extend([failure(500)] * 1_000)


DEFINITE = {"refused": _refuse, "starting": _start, "behind": _say("behind"), "fetch base": _say("fetch_base")}
INDEFINITE = {
    "paused": _fail("hangs"),
    "reset": _fail("resets"),
    "decided and reset": _fail("does_then_resets"),
    "crashed": _crash,
}

Cause = Callable[[Trading], None]


def _heal(made: Trading) -> None:
    made.fault(None)
    made.catalog.is_starting = False
    made.catalog.instead.clear()


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [pytest.param(cause, UNAVAILABLE, id=name) for name, cause in DEFINITE.items()]
    + [pytest.param(cause, UNKNOWN, id=name) for name, cause in INDEFINITE.items()],
)
def test_the_outcome_is_definite_or_not_when_the_catalog_fails_until_the_deadline(
    path: Path, cause: Cause, outcome: TradeOutcome
) -> None:
    @in_fake_time
    async def run() -> None:
        async with trading(path) as made:
            cause(made)
            for seconds in (0.05, 1.0, 4.0):
                began = made.outside.clock()
                assert await made.trade("a", seconds) == outcome
                assert made.outside.clock() - began == pytest.approx(seconds)
            _heal(made)
            asked = len(made.catalog.asked)
            await asyncio.sleep(5)
            assert len(made.catalog.asked) == asked, "the trade has left the queue"
            if outcome == UNAVAILABLE:
                assert made.decided == []
            assert (await made.trade("a")).number == 1
            assert made.decided == ["a"]

    run()


@pytest.mark.parametrize("first", DEFINITE.values(), ids=DEFINITE.keys())
@pytest.mark.parametrize("then", INDEFINITE.values(), ids=INDEFINITE.keys())
@pytest.mark.parametrize("is_swapped", [False, True])
def test_the_outcome_is_unknown_when_one_of_many_failures_was_indefinite(
    path: Path, first: Cause, then: Cause, is_swapped: bool
) -> None:
    @in_fake_time
    async def run() -> None:
        async with trading(path) as made:
            causes = (then, first) if is_swapped else (first, then)
            causes[0](made)
            waiting = made.begin("a", 8)
            await asyncio.sleep(3)
            _heal(made)
            causes[1](made)
            assert await waiting == UNKNOWN

    run()


@in_fake_time
async def test_a_trade_is_unavailable_and_leaves_the_queue_when_its_turn_did_not_come(path: Path) -> None:
    async with trading(path) as made:
        gate = asyncio.Event()
        made.catalog.before = once(gate.wait)
        first = made.begin("a")
        await _pass_time()
        second = made.begin("b", 1)
        third = made.begin("c", 10)
        assert await second == UNAVAILABLE
        gate.set()
        assert [await first, await third] == [accepted(1), accepted(2)]
        await asyncio.sleep(5)
        assert made.decided == ["a", "c"]
        assert made.catalog.asked == [["a"], ["c"]]


@in_fake_time
async def test_the_outcome_is_unknown_when_the_first_to_leave_is_not_the_last_who_waits(path: Path) -> None:
    """The trade stays in the queue for the other one, so it may be executed."""
    async with trading(path) as made:
        made.fault("refuses")
        first, second, third = made.begin("a", 1), made.begin("a", 2), made.begin("a", 10)
        assert await first == UNKNOWN
        assert await second == UNKNOWN
        made.fault(None)
        assert await third == accepted(1)


@in_fake_time
async def test_the_last_who_waits_is_told_for_certain_when_nothing_was_decided(path: Path) -> None:
    async with trading(path) as made:
        made.fault("refuses")
        first, second = made.begin("a", 1), made.begin("a", 2)
        assert [await first, await second] == [UNKNOWN, UNAVAILABLE]
        made.fault(None)
        await asyncio.sleep(3)
        assert made.decided == []


@in_fake_time
async def test_others_of_a_batch_are_decided_when_one_of_it_has_left(path: Path) -> None:
    async with trading(path) as made:
        made.fault("refuses")
        first, second = made.begin("a", 1), made.begin("b", 10)
        assert await first == UNAVAILABLE
        made.fault(None)
        assert await second == accepted(1)
        assert made.decided == ["b"]


@in_fake_time
async def test_the_next_batch_has_its_turn_when_nobody_waits_for_the_last_one(path: Path) -> None:
    async with trading(path) as made:
        made.fault("hangs")
        first = made.begin("a", 1)
        await _pass_time()
        second = made.begin("b", 10)
        assert await first == UNKNOWN
        made.fault(None)
        began = made.outside.clock()
        assert (await second).result == "accepted"
        assert made.outside.clock() - began < 0.01, "it does not wait until the hanging decision times out"


@in_fake_time
async def test_a_trade_that_comes_back_is_a_new_one_when_it_had_left_the_queue(path: Path) -> None:
    async with trading(path) as made:
        made.fault("refuses")
        other = made.begin("other", 30)  # keeps the batch alive
        assert await made.trade("a", 1) == UNAVAILABLE
        again = made.begin("a", 30)
        await _pass_time()
        made.fault(None)
        assert {(await other).number, (await again).number} == {1, 2}
        assert sorted(made.decided) == ["a", "other"]


@in_fake_time
async def test_the_outcome_is_unknown_when_the_followers_are_not_heard_by_the_deadline(path: Path) -> None:
    async with trading(path) as made:
        made.outside.network.fault(replica_url(1), "hangs")
        assert await made.trade("a", 0.2) == UNKNOWN
        assert await made.trade("a", 0.2) == UNKNOWN
        assert await made.trade("a", 2) == accepted(1, replayed=True)


@in_fake_time
async def test_the_outcome_is_unknown_when_a_decided_answer_came_after_an_adoption(path: Path) -> None:
    """H4: another replica had the entry already, so the rebuilt catalog has it as well."""
    async with trading(path) as made:
        made.outside.at["order.decide.answered"] = once(lambda: made.log.adopt(2, STOCKS))
        waiting = made.begin("a", 0.5)
        await until(lambda: made.log.generation == 2)
        entries = made.catalog.inventory.after(0)
        made.catalog.is_starting = True  # it is not up again before the deadline
        assert await waiting == UNKNOWN
        made.outside.network.serve(CATALOG, DecidingCatalog(generation=2, entries=entries).handle)
        for follower in made.followers.values():
            follower.generation = 2
        assert await made.trade("a") == accepted(1)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_an_answer_comes_at_once_when_the_deadline_is_over(path: Path, seconds: float) -> None:
    @in_fake_time
    async def run() -> None:
        async with trading(path) as made:
            assert (await made.trade("a", seconds)).result in {"unavailable", "unknown"}
            assert (await made.trade("b")).result == "accepted"
            assert await made.trade("b", seconds) == accepted(made.decided.index("b") + 1, replayed=True)
            made.fault("hangs")
            began = made.outside.clock()
            assert (await made.trade("c", seconds)).result in {"unavailable", "unknown"}
            assert made.outside.clock() - began == 0

    run()


@in_fake_time
async def test_a_trade_leaves_the_queue_when_whoever_asked_is_gone(path: Path) -> None:
    async with trading(path) as made:
        made.fault("refuses")
        first, second = made.begin("a"), made.begin("b")
        await asyncio.sleep(0.5)
        first.cancel()
        made.fault(None)
        assert await second == accepted(1)
        await asyncio.sleep(5)
        assert made.decided == ["b"]


@in_fake_time
async def test_a_trade_is_unavailable_at_once_when_the_queue_is_full(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_module, "MAX_QUEUE", 5)
    async with trading(path) as made:
        gate = asyncio.Event()
        made.catalog.before = once(gate.wait)
        first = made.begin("first")
        await _pass_time()
        waiting = [made.begin(f"key-{i}") for i in range(5)]
        await _pass_time()
        assert await made.trade("one-too-many") == UNAVAILABLE
        same = made.begin("key-3")  # a key that waits already needs no place of its own
        gate.set()
        assert await first == accepted(1)
        assert [(await future).number for future in waiting] == [2, 3, 4, 5, 6]
        assert await same == accepted(5)
        assert await made.trade("one-too-many") == accepted(7)


# What ends the process, and what must not.


@in_fake_time
async def test_nothing_is_promised_and_the_process_ends_when_the_catalog_says_that_this_log_diverged(
    path: Path,
) -> None:
    chain = Chain()
    chain.add(3)
    right = chain.fork(1)
    right.add(3, quantity=2)
    async with trading(path, chain, catalog=DecidingCatalog(entries=right.entries)) as made:
        assert await made.trade("a", 1) == UNKNOWN
        assert made.outside.ended_with[0] == 3
        assert len(made.catalog.asked) == 1


@in_fake_time
async def test_the_process_stops_rather_than_have_a_key_decided_that_the_log_took(path: Path) -> None:
    async with trading(path) as made:
        gate = asyncio.Event()
        made.catalog.before = once(gate.wait)
        first = made.begin("a")
        await _pass_time()
        second = made.begin("b")
        await _pass_time()
        made.leader._pending.pop("b")  # as when the log has taken it
        gate.set()
        assert [await first, await second] == [accepted(1), UNAVAILABLE]
        assert made.outside.ended_with[0] == 1
        assert made.decided == ["a"]


@in_fake_time
async def test_trades_go_on_when_a_generation_was_adopted_between_two_of_them(path: Path) -> None:
    async with trading(path) as made:
        assert await made.trade("a") == accepted(1)
        rebuilt = DecidingCatalog(generation=2, entries=made.catalog.inventory.after(0))
        made.outside.network.serve(CATALOG, rebuilt.handle)
        assert await made.log.adopt(2, STOCKS)
        for follower in made.followers.values():
            follower.generation = 2
        assert await made.trade("b") == accepted(2)
        assert await made.trade("a") == accepted(1, replayed=True)
        assert made.followers[1].head == rebuilt.inventory.head


@in_fake_time
async def test_trades_go_on_when_a_generation_was_adopted_while_they_waited(path: Path) -> None:
    async with trading(path) as made:
        made.fault("refuses")
        waiting = made.begin("a")
        await asyncio.sleep(0.3)
        rebuilt = DecidingCatalog(generation=2)
        made.outside.network.serve(CATALOG, rebuilt.handle)
        assert await made.log.adopt(2, STOCKS)
        for follower in made.followers.values():
            follower.generation = 2
        made.fault(None)
        assert await waiting == accepted(1)


@pytest.mark.parametrize("seed", range(6))
def test_unavailable_trades_never_execute_and_accepted_ones_have_their_number_when_all_fails_at_random(
    path: Path, seed: int
) -> None:
    """Each key is sent once, so `unavailable` is a promise about it for ever."""

    @in_fake_time
    async def run() -> None:
        rng = random.Random(seed)
        async with trading(path) as made:
            waiting = await _disturb(made, rng)
            outcomes = {key: await future for key, future in waiting.items()}
            _heal(made)
            await made.trade("last")
            await asyncio.sleep(10)
            entries: dict[str, Entry] = {entry.key: entry for entry in made.catalog.inventory.after(0)}
            for key, outcome in outcomes.items():
                if outcome == UNAVAILABLE:
                    assert key not in entries, key
                elif outcome != UNKNOWN:
                    assert (entries[key].number, outcome.replayed) == (outcome.number, False), key
            kinds = {outcome.result for outcome in outcomes.values()}
            assert kinds >= {"accepted", "unavailable", "unknown"}, "the test tests something"
            assert not made.leader._pending, "nothing is left in the queue"
            assert made.log.head == made.catalog.inventory.head

    run()


async def _disturb(made: Trading, rng: random.Random) -> "dict[str, asyncio.Future[TradeOutcome]]":
    waiting: dict[str, asyncio.Future[TradeOutcome]] = {}
    faults: list[Fault | None] = ["hangs", "refuses", "resets", "does_then_resets", None, None]

    def trade() -> None:
        key = f"key-{len(waiting)}"
        waiting[key] = made.begin(key, rng.uniform(0.05, 3))

    def others_trade() -> None:
        entries = made.catalog.decide(make_trade(f"other-{made.outside.clock()}-{rng.random()}"[:64]))
        if made.log.head.position + 1 == entries[0].position:
            made.log.take(1, entries)

    steps: list[Callable[[], None]] = [
        trade,
        trade,
        trade,
        others_trade,
        lambda: made.fault(rng.choice(faults)),
        lambda: setattr(made.catalog, "is_starting", rng.random() < 0.3),
    ]
    for _ in range(250):
        rng.choice(steps)()
        await asyncio.sleep(rng.choice([0, 0.001, 0.02, 0.2]))
    return waiting
