"""A replica's link to the catalog: every answer, in time, late, lost, from another generation, or false."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.common.digest import empty_head, entry_digest
from services.common.errors import IntegrityFailure
from services.common.http import make_client
from services.common.models import MAX_ENTRIES, DecideAnswer, Entry, GenerationAnswer, Head, Stock, Trade
from services.common.several import QUESTION_S, service_at
from services.common.timing import DECIDE_S, LEVEL_S, REPORT_ANSWER_S
from services.order.catalog_link import CatalogLink, Result
from services.order.log import OrderLog
from tests.support.fake_network import Fault, failure
from tests.support.fake_time import in_fake_time
from tests.support.order_chain import STOCKS, Chain, make_trade
from tests.support.order_peers import DecidingCatalog, Instead
from tests.support.order_world import CATALOG, Outside, once, open_log

OTHER_STOCKS = [Stock(name="GameStart", price=1_599, quantity=99)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "order-1.db"


class Linked:
    """A link, its log, and its catalog. `fetch`: what to do when entries are to be fetched, a position up to which."""

    def __init__(self, outside: Outside, log: OrderLog, catalog: DecidingCatalog) -> None:
        self.outside = outside
        self.log = log
        self.catalog = catalog
        self.fetched: list[int] = []
        self.fetch: Callable[[int], Awaitable[bool]] | None = None
        self.link = CatalogLink(outside.runtime, 1, log, outside.peer(CATALOG), self._fetch)

    async def _fetch(self, until: int) -> bool:
        self.fetched.append(until)
        return await self.fetch(until) if self.fetch else False

    async def decide(self, *trades: Trade) -> Result:
        return await self.link.decide(lambda: [trade for trade in trades if not self.log.find([trade.key])])

    def saying(self, **changes: object) -> DecideAnswer:
        """The catalog's answer to an empty request for everything, changed."""
        inventory = self.catalog.inventory
        honest = inventory.answer(inventory.after(inventory.base.position))
        return honest.model_copy(update=changes)


@asynccontextmanager
async def linked(
    path: Path, chain: Chain | None = None, *, generation: int | None = 1, catalog: DecidingCatalog | None = None
) -> AsyncIterator[Linked]:
    outside = Outside()
    async with open_log(outside, path, chain, generation=generation) as log:
        made = Linked(outside, log, catalog or DecidingCatalog(entries=chain.entries if chain else ()))
        outside.network.serve(CATALOG, made.catalog.handle)
        yield made


def _keys(log: OrderLog) -> list[str]:
    return [entry.key for entry in log.taken_after(0)]


# Deciding.


@in_fake_time
async def test_entries_are_in_the_log_when_trades_were_decided(path: Path) -> None:
    async with linked(path) as made:
        assert await made.decide(make_trade("a"), make_trade("b", quantity=1_000), make_trade("c")) == "decided"
        assert [(entry.key, entry.number) for entry in made.log.taken_after(0)] == [("a", 1), ("b", None), ("c", 2)]
        assert made.log.head == made.catalog.inventory.head


@in_fake_time
async def test_the_catalog_is_not_asked_when_no_trade_is_left(path: Path) -> None:
    async with linked(path) as made:
        assert await made.decide() == "decided"
        assert made.catalog.requests == []


@in_fake_time
async def test_nothing_is_chosen_when_there_is_no_generation(path: Path) -> None:
    async with linked(path, generation=None) as made:

        def choose() -> list[Trade]:
            raise AssertionError("these trades could count as asked for")

        assert await made.link.decide(choose) == "not_decided"
        assert made.catalog.requests == []


@in_fake_time
async def test_the_catalog_hears_what_is_on_the_disk_when_the_head_is_further(path: Path) -> None:
    chain = Chain()
    chain.add(2)
    async with linked(path, chain) as made:
        made.outside.disk.hold()
        made.log.take(1, made.catalog.decide(make_trade("x")))
        assert await made.decide(make_trade("a")) == "decided"
        request = made.catalog.requests[-1]
        assert (request.generation, request.replica_id) == (1, 1)
        assert request.head == Head(position=3, number=3, digest=made.log.taken_after(2)[0].digest)
        assert request.fsynced == 2


@in_fake_time
async def test_head_and_trades_are_of_one_step_when_the_log_grows_all_the_time(path: Path) -> None:
    """H1: a key is asked for only when it is not in the log up to the head that goes with it."""
    async with linked(path) as made:
        at: list[Head] = []

        def choose() -> list[Trade]:
            made.log.take(1, made.catalog.decide(make_trade(f"other-{len(at)}")))
            at.append(made.log.head)
            return [make_trade(f"mine-{len(at)}")]

        for _ in range(5):
            assert await made.link.decide(choose) == "decided"
        assert [request.head for request in made.catalog.requests] == at
        assert len(_keys(made.log)) == len(set(_keys(made.log))) == 10


@in_fake_time
async def test_a_key_is_asked_for_with_the_head_before_it_when_it_enters_the_log_right_after_it_was_chosen(
    path: Path,
) -> None:
    """H1: whoever lets anything happen between the choice and the head has the key decided a second time."""
    async with linked(path) as made:

        def choose() -> list[Trade]:
            asyncio.get_running_loop().call_soon(lambda: made.log.take(1, made.catalog.decide(make_trade("a"))))
            return [make_trade("a")]

        assert await made.link.decide(choose) == "decided"
        assert [request.head.position for request in made.catalog.requests] == [0]
        assert _keys(made.log) == ["a"]


@in_fake_time
async def test_a_key_is_not_decided_twice_when_another_replica_had_it_decided_meanwhile(path: Path) -> None:
    """H1: decided for another replica, and appended here, while our own request with the same key is under way."""
    async with linked(path) as made:
        trade = make_trade("a")

        async def another_was_faster() -> None:
            made.log.take(1, made.catalog.decide(trade, make_trade("b")))

        made.catalog.before = another_was_faster
        assert await made.decide(trade, make_trade("c")) == "decided"
        assert _keys(made.log) == ["a", "b", "c"]


NOT_DECIDED: list[tuple[str, Instead | Fault]] = [("refused", "refuses"), ("starting", failure(503))]

UNKNOWN: list[tuple[str, Instead | Fault]] = [
    ("reset", "resets"),
    ("done, then reset", "does_then_resets"),
    ("paused", "hangs"),
    ("crashed", failure(500)),
    ("odd", failure(422)),
    ("too slow", failure(504)),
    ("nonsense", httpx.Response(200, text="hello")),
    ("empty", httpx.Response(200, json={})),
    ("of no kind", httpx.Response(200, json={"outcome": "maybe"})),
]


def _fail(made: Linked, how: "Instead | Fault") -> None:
    if isinstance(how, str):
        made.outside.network.fault(CATALOG, how)
    else:
        made.catalog.instead.append(how)


@pytest.mark.parametrize(
    ("how", "result"),
    [pytest.param(how, "not_decided", id=name) for name, how in NOT_DECIDED]
    + [pytest.param(how, "unknown", id=name) for name, how in UNKNOWN],
)
def test_what_may_have_happened_is_told_when_a_decision_fails(
    path: Path, how: "Instead | Fault", result: Result
) -> None:
    @in_fake_time
    async def run() -> None:
        async with linked(path) as made:
            _fail(made, how)
            began = made.outside.clock()
            assert await made.decide(make_trade("a")) == result
            took = made.outside.clock() - began
            assert took == pytest.approx(DECIDE_S if how == "hangs" else 0)
            assert made.log.head.position == 0
            made.outside.network.fault(CATALOG, None)
            # Asked again, the key is decided once.
            assert await made.decide(make_trade("a"), make_trade("b")) == "decided"
            assert _keys(made.log) == ["a", "b"]

    run()


@pytest.mark.parametrize("how", [how for _, how in NOT_DECIDED + UNKNOWN], ids=[n for n, _ in NOT_DECIDED + UNKNOWN])
def test_the_head_is_not_reached_when_a_report_fails(path: Path, how: "Instead | Fault") -> None:
    @in_fake_time
    async def run() -> None:
        async with linked(path) as made:
            _fail(made, how)
            began = made.outside.clock()
            assert not await made.link.refresh()
            took = made.outside.clock() - began
            assert took == pytest.approx(REPORT_ANSWER_S if how == "hangs" else 0)
            assert not made.link.is_level
            assert made.link.level_age is None
            made.outside.network.fault(CATALOG, None)
            assert await made.link.refresh()

    run()


@in_fake_time
async def test_an_answer_that_comes_late_is_taken_once_when_its_entries_came_another_way(path: Path) -> None:
    async with linked(path) as made:
        gate = asyncio.Event()
        made.catalog.after = once(gate.wait)
        deciding = asyncio.ensure_future(made.decide(make_trade("a"), make_trade("b")))
        await asyncio.sleep(0.01)
        assert await made.link.refresh()
        assert _keys(made.log) == ["a", "b"]
        made.log.take(1, made.catalog.decide(make_trade("c")))
        gate.set()
        assert await deciding == "decided"
        assert _keys(made.log) == ["a", "b", "c"]


@pytest.mark.parametrize("outcome", ["behind", "fetch_base"])
def test_nothing_was_decided_when_this_log_is_too_far_behind(path: Path, outcome: str) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(MAX_ENTRIES + 5)
        async with linked(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
            if outcome == "fetch_base":
                made.catalog.forget(3)
            assert await made.decide(make_trade("a")) == "not_decided"
            assert made.catalog.inventory.head.position == MAX_ENTRIES + 5
            assert made.log.head.position == (MAX_ENTRIES if outcome == "behind" else 0)
            assert made.fetched == ([] if outcome == "behind" else [3])

    run()


@in_fake_time
async def test_base_is_missing_until_somebody_has_it_when_the_catalog_has_forgotten_more_than_this_log_has(
    path: Path,
) -> None:
    """As after a loss of power, when commits did not wait for their fsync."""
    chain = Chain()
    chain.add(5)
    async with linked(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
        made.catalog.forget(3)
        assert not await made.link.refresh()
        assert made.link.is_base_missing

        async def fetch(until: int) -> bool:
            made.log.take(1, chain.entries[:until])
            return True

        made.fetch = fetch
        assert await made.link.refresh()
        assert not made.link.is_base_missing
        assert made.log.head.position == 5


# Another generation.


@pytest.mark.parametrize("way", ["decide", "refresh"])
def test_the_process_ends_for_good_when_the_catalog_was_rebuilt_without_this_replica(path: Path, way: str) -> None:
    """H21."""

    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add()
        async with linked(path, chain, catalog=DecidingCatalog(generation=2)) as made:
            with pytest.raises(IntegrityFailure, match="rebuilt without this replica"):
                await (made.decide(make_trade("a")) if way == "decide" else made.link.refresh())
            assert made.outside.ended_with[0] == 3
            assert made.log.generation == 1
            assert not made.link.is_level

    run()


@pytest.mark.parametrize("way", ["decide", "refresh"])
@pytest.mark.parametrize("stocks", [STOCKS, OTHER_STOCKS], ids=["same stocks", "other stocks"])
def test_a_higher_generation_is_taken_when_the_log_is_empty(path: Path, way: str, stocks: list[Stock]) -> None:
    @in_fake_time
    async def run() -> None:
        async with linked(path, catalog=DecidingCatalog(generation=4, initial=stocks)) as made:
            assert await (made.decide(make_trade("a")) if way == "decide" else made.link.refresh()) in {
                "not_decided",
                False,
            }
            assert (made.log.generation, made.log.initial) == (4, stocks)
            assert made.catalog.inventory.head.position == 0
            assert await made.link.refresh()
            assert await made.decide(make_trade("a")) == "decided"

    run()


@in_fake_time
async def test_a_higher_generation_is_not_taken_when_the_log_grew_while_it_was_asked_for(path: Path) -> None:
    """H21: what came in meanwhile is of a sequence that the rebuilt catalog does not have."""
    async with linked(path, catalog=DecidingCatalog(generation=2)) as made:

        async def an_old_leader_was_faster(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/generation":
                made.log.take(1, Chain().add())
            return await made.catalog.handle(request)

        made.outside.network.serve(CATALOG, an_old_leader_was_faster)
        assert not await made.link.refresh()
        assert made.log.generation == 1
        with pytest.raises(IntegrityFailure, match="rebuilt without this replica"):
            await made.link.refresh()


@pytest.mark.parametrize("outcome", ["decided", "other_generation", "diverged", "behind", "fetch_base"])
def test_an_answer_of_a_lower_generation_is_dropped(path: Path, outcome: str) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(2)
        old = DecidingCatalog(generation=2, entries=chain.entries)
        async with linked(path, generation=3, catalog=old) as made:
            made.catalog.instead.extend([made.saying(outcome=outcome)] * 2)
            assert not await made.link.refresh()
            assert await made.decide(make_trade("a")) != "decided"
            assert made.log.head.position == 0
            assert made.log.generation == 3
            assert made.fetched == []

    run()


@in_fake_time
async def test_nothing_of_a_late_answer_is_taken_when_a_rebuilt_catalog_was_adopted_meanwhile(path: Path) -> None:
    """H4. And the old catalog did decide: through another replica its entry may have come into the new state."""
    async with linked(path) as made:
        made.outside.at["order.decide.answered"] = lambda: made.log.adopt(2, STOCKS)
        assert await made.decide(make_trade("a")) == "unknown"
        assert made.log.generation == 2
        assert made.log.head.position == 0


@in_fake_time
async def test_nothing_of_a_late_report_is_taken_when_a_rebuilt_catalog_was_adopted_meanwhile(path: Path) -> None:
    async with linked(path) as made:
        made.catalog.decide(make_trade("a"))
        made.outside.at["order.report.answered"] = lambda: made.log.adopt(2, STOCKS)
        assert not await made.link.refresh()
        assert made.link.level_age is None
        assert made.log.head.position == 0


@in_fake_time
async def test_a_late_answer_is_dropped_while_the_adoption_is_not_on_the_disk_yet(path: Path) -> None:
    async with linked(path) as made:
        made.catalog.decide(make_trade("x"))
        made.outside.disk.hold()
        adopting: list[asyncio.Future[bool]] = []

        async def begin() -> None:
            adopting.append(asyncio.ensure_future(made.log.adopt(2, STOCKS)))
            await asyncio.sleep(0.01)

        made.outside.at["order.report.answered"] = once(begin)
        assert not await made.link.refresh()
        assert made.log.generation is None
        assert await made.decide(make_trade("a")) == "not_decided"
        made.outside.disk.release()
        assert await adopting[0]
        assert made.log.head.position == 0


@in_fake_time
async def test_a_refusal_of_our_generation_is_no_failure_when_it_was_adopted_while_the_refusal_travelled(
    path: Path,
) -> None:
    chain = Chain()
    chain.add(2)
    async with linked(path, chain, catalog=DecidingCatalog(generation=2, entries=chain.entries)) as made:
        for way in (made.link.refresh, lambda: made.decide(make_trade("a"))):
            point = "order.report.answered" if way == made.link.refresh else "order.decide.answered"
            made.outside.at[point] = lambda: made.log.adopt(2, STOCKS)
            assert await way() in {False, "not_decided", "decided"}
        assert made.outside.ended_with == []
        assert await made.link.refresh()
        assert made.log.generation == 2


@in_fake_time
async def test_a_refusal_of_our_generation_is_no_failure_while_it_is_being_adopted(path: Path) -> None:
    chain = Chain()
    chain.add(2)
    async with linked(path, chain, catalog=DecidingCatalog(generation=2, entries=chain.entries)) as made:
        made.outside.disk.hold()
        adopting: list[asyncio.Future[bool]] = []

        async def begin() -> None:
            adopting.append(asyncio.ensure_future(made.log.adopt(2, STOCKS)))
            await asyncio.sleep(0.01)

        made.outside.at["order.report.answered"] = once(begin)
        assert not await made.link.refresh()
        made.outside.disk.release()
        assert await adopting[0]
        assert await made.link.refresh()


@in_fake_time
async def test_the_generation_comes_first_when_there_is_none(path: Path) -> None:
    catalog = DecidingCatalog(generation=7)
    catalog.decide(make_trade("a"))
    async with linked(path, generation=None, catalog=catalog) as made:
        made.catalog.is_starting = True
        assert not await made.link.refresh()
        assert made.log.head == empty_head([])
        made.catalog.is_starting = False
        assert await made.link.refresh()
        assert (made.log.generation, made.log.initial) == (7, STOCKS)
        assert _keys(made.log) == ["a"]
        assert made.link.is_level


@in_fake_time
async def test_nothing_begins_when_the_catalog_has_no_generation_either(path: Path) -> None:
    async with linked(path, generation=None) as made:

        async def none_yet(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=GenerationAnswer(generation=None, stocks=[]).model_dump_json())

        made.outside.network.serve(CATALOG, none_yet)
        assert not await made.link.refresh()
        assert made.log.generation is None


# A contradiction.


@pytest.mark.parametrize("way", ["decide", "refresh"])
def test_the_process_ends_for_good_when_its_log_has_diverged(path: Path, way: str) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(3)
        other = chain.fork(1)
        other.add(4, quantity=2)
        async with linked(path, chain, catalog=DecidingCatalog(entries=other.entries)) as made:
            with pytest.raises(IntegrityFailure, match="another digest at position 3"):
                await (made.decide(make_trade("a")) if way == "decide" else made.link.refresh())
            assert made.outside.ended_with[0] == 3
            assert made.log.head == chain.head()

    run()


@in_fake_time
async def test_the_process_ends_for_good_when_it_began_with_other_stocks(path: Path) -> None:
    async with linked(path, catalog=DecidingCatalog(initial=OTHER_STOCKS)) as made:
        with pytest.raises(IntegrityFailure):
            await made.link.refresh()
        assert made.outside.ended_with[0] == 3


def _falsified(entries: list[Entry]) -> list[Entry]:
    return [*entries[:-1], entries[-1].model_copy(update={"price": 1})]


def _resealed(entries: list[Entry]) -> list[Entry]:
    changed = entries[-1].model_copy(update={"number": 9})
    digest = entry_digest(entries[-2].digest, changed)
    return [*entries[:-1], changed.model_copy(update={"digest": digest})]


@pytest.mark.parametrize(
    "change",
    [_falsified, _resealed, lambda entries: entries[1:], lambda entries: entries[::-1], lambda entries: entries[::2]],
    ids=["falsified", "wrong number", "first one missing", "backwards", "gaps"],
)
def test_the_process_ends_for_good_when_the_catalogs_entries_do_not_follow(
    path: Path, change: Callable[[list[Entry]], list[Entry]]
) -> None:
    @in_fake_time
    async def run() -> None:
        async with linked(path) as made:
            entries = made.catalog.decide(make_trade("a"), make_trade("b"), make_trade("c"))
            made.catalog.instead.append(made.saying(entries=change(entries)))
            with pytest.raises(IntegrityFailure, match="contradicts this log"):
                await made.link.refresh()
            assert made.outside.ended_with[0] == 3
            assert made.link.level_age is None

    run()


# Catching up.


@in_fake_time
async def test_everything_comes_in_steps_when_this_log_is_far_behind(path: Path) -> None:
    chain = Chain()
    chain.add(2 * MAX_ENTRIES + 500)
    async with linked(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
        assert await made.link.refresh()
        assert made.log.fsynced_head == chain.head()
        assert [request.head.position for request in made.catalog.requests] == [0, MAX_ENTRIES, 2 * MAX_ENTRIES]


@in_fake_time
async def test_refreshing_ends_when_behind_brings_nothing(path: Path) -> None:
    async with linked(path) as made:
        made.catalog.instead.append(made.saying(outcome="behind"))
        assert not await made.link.refresh()
        assert len(made.catalog.requests) == 1


@in_fake_time
async def test_the_rest_comes_from_the_catalog_when_the_others_gave_everything_up_to_base(path: Path) -> None:
    chain = Chain()
    chain.add(20)
    async with linked(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
        made.catalog.forget(15)

        async def fetch(until: int) -> bool:
            made.log.take(1, chain.after(0, until))
            return True

        made.fetch = fetch
        assert await made.link.refresh()
        assert made.fetched == [15]
        assert made.log.fsynced_head == chain.head()


@in_fake_time
async def test_base_is_fetched_again_when_it_moved_away_meanwhile(path: Path) -> None:
    chain = Chain()
    chain.add(20)
    async with linked(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
        made.catalog.forget(5)

        async def fetch(until: int) -> bool:
            made.log.take(1, chain.after(0, until))
            made.catalog.forget(min(20, until + 6))
            return True

        made.fetch = fetch
        assert await made.link.refresh()
        assert made.fetched == [5, 11, 17, 20]
        assert made.log.fsynced_head == chain.head()


@in_fake_time
async def test_refreshing_ends_when_nobody_has_the_entries_up_to_base(path: Path) -> None:
    chain = Chain()
    chain.add(20)
    async with linked(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
        made.catalog.forget(15)
        assert not await made.link.refresh()
        assert await made.decide(make_trade("a")) == "not_decided"
        assert made.fetched == [15, 15]
        assert made.link.level_age is None


@in_fake_time
async def test_refreshing_ends_quietly_when_an_adoption_begins_while_base_is_fetched(path: Path) -> None:
    chain = Chain()
    chain.add(20)
    async with linked(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
        made.catalog.forget(15)
        adopting: list[asyncio.Future[bool]] = []

        async def fetch(_: int) -> bool:
            made.log.take(1, chain.after(0, 7))
            await made.log.fsynced.reach(7)
            made.outside.disk.hold()
            adopting.append(asyncio.ensure_future(made.log.adopt(2, STOCKS)))
            await asyncio.sleep(0.01)
            return False

        made.fetch = fetch
        assert not await made.link.refresh()
        assert made.outside.ended_with == []
        made.outside.disk.release()
        assert await adopting[0]


# Level.


@in_fake_time
async def test_the_age_counts_from_before_the_question_when_the_answer_was_slow(path: Path) -> None:
    """H13: what is known is how things stood when the catalog answered, at the earliest when it was asked."""
    async with linked(path) as made:
        made.outside.network.delay(CATALOG, 0.4)
        assert await made.link.refresh()
        assert made.link.level_age == pytest.approx(0.4)
        await asyncio.sleep(0.3)
        assert made.link.level_age == pytest.approx(0.7)


@in_fake_time
async def test_a_replica_is_level_no_longer_when_its_news_is_old(path: Path) -> None:
    async with linked(path) as made:
        assert not made.link.is_level
        assert await made.link.refresh()
        assert made.link.is_level
        await asyncio.sleep(LEVEL_S - 0.01)
        assert made.link.is_level
        await asyncio.sleep(0.02)
        assert not made.link.is_level
        assert await made.link.refresh()
        assert made.link.is_level
        made.outside.clock.stop(LEVEL_S + 0.01)  # in the middle of a turn of the event loop
        assert not made.link.is_level


@in_fake_time
async def test_a_replica_is_not_level_before_the_head_is_on_its_disk(path: Path) -> None:
    async with linked(path) as made:
        made.catalog.decide(make_trade("a"))
        made.outside.disk.hold()
        refreshing = asyncio.ensure_future(made.link.refresh())
        await asyncio.sleep(0.7)
        assert not refreshing.done()
        assert made.link.level_age is None
        made.outside.disk.release()
        assert await refreshing
        assert made.link.level_age == pytest.approx(0.7)


@in_fake_time
async def test_a_replica_is_not_level_when_it_only_decided(path: Path) -> None:
    async with linked(path) as made:
        assert await made.decide(make_trade("a")) == "decided"
        assert made.link.level_age is None


# Sharing.


@in_fake_time
async def test_a_question_joins_only_a_trip_that_begins_later(path: Path) -> None:
    """K7: what was decided before the question was asked is in the log when it is answered."""
    async with linked(path) as made:
        gates = [asyncio.Event(), asyncio.Event()]
        waiting = iter(gates)
        made.catalog.after = lambda: next(waiting).wait()  # after the answer was made: it is stale when it arrives
        first = asyncio.ensure_future(made.link.refresh())
        await asyncio.sleep(0.01)
        made.catalog.decide(make_trade("a"))
        others = [asyncio.ensure_future(made.link.refresh()) for _ in range(20)]
        await asyncio.sleep(0.01)
        gates[0].set()
        assert await first
        assert made.log.head.position == 0
        await asyncio.sleep(0.01)
        assert not any(other.done() for other in others)
        gates[1].set()
        assert await asyncio.gather(*others) == [True] * 20
        assert _keys(made.log) == ["a"]
        assert len(made.catalog.requests) == 2


@in_fake_time
async def test_others_get_their_answer_when_one_of_them_no_longer_waits(path: Path) -> None:
    async with linked(path) as made:
        gate = asyncio.Event()
        made.catalog.after = gate.wait
        first, second = (asyncio.ensure_future(made.link.refresh()) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        gate.set()
        assert await second
        assert len(made.catalog.requests) == 1


@in_fake_time
async def test_the_next_trip_begins_when_nobody_waits_for_the_last_one(path: Path) -> None:
    async with linked(path) as made:
        made.outside.network.fault(CATALOG, "hangs")
        alone = asyncio.ensure_future(made.link.refresh())
        await asyncio.sleep(0.01)
        alone.cancel()
        made.outside.network.fault(CATALOG, None)
        began = made.outside.clock()
        assert await made.link.refresh()
        assert made.outside.clock() - began < 0.1


# Several catalogs.


@in_fake_time
async def test_a_report_is_made_to_several_catalogs_and_a_decision_to_one(path: Path) -> None:
    async with linked(path) as made:
        outside, other = made.outside, "http://catalog-2:8010"

        async def only_lives(request: httpx.Request) -> httpx.Response:
            if request.url.path != "/livez":
                await asyncio.Event().wait()
            return httpx.Response(200)

        outside.network.serve(CATALOG, only_lives)
        outside.network.serve(other, made.catalog.handle)

        def new_link() -> CatalogLink:
            catalogs = service_at(make_client(outside.runtime), [CATALOG, other], outside.clock)
            return CatalogLink(outside.runtime, 1, made.log, catalogs, _no)

        made.link = new_link()
        began = outside.clock()
        assert await made.link.refresh()
        assert outside.clock() - began == pytest.approx(QUESTION_S)
        reports = outside.network.count(other, "/decide")
        made.link = new_link()
        assert await made.decide(make_trade("a")) == "unknown"
        assert outside.network.count(other, "/decide") == reports


async def _no(_: int) -> bool:
    return False
