"""Reading orders: an acknowledged one is always found, and "there is none" is said for certain or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.common.background import background
from services.common.errors import Unavailable
from services.common.models import MAX_ENTRIES, Order, OrderAnswer
from services.common.timing import LOOK_UP_S
from services.order.follower import Follower
from services.order.log import OrderLog
from services.order.queries import Queries
from tests.support.fake_network import Fault, failure
from tests.support.fake_time import in_fake_time, until
from tests.support.order_chain import STOCKS, Chain, make_trade
from tests.support.order_peers import DecidingCatalog
from tests.support.order_world import CATALOG, Outside, once, open_log

NONE = OrderAnswer(generation=1, order=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "order-1.db"


class Querying:
    """A replica that is asked for orders."""

    def __init__(self, outside: Outside, log: OrderLog, catalog: DecidingCatalog) -> None:
        self.outside = outside
        self.log = log
        self.catalog = catalog
        self.follower = Follower(outside.runtime, log, outside.peer(CATALOG), 1, {})
        self.queries = Queries(log, self.follower.link)
        outside.network.serve(CATALOG, catalog.handle)

    def fault(self, fault: Fault | None) -> None:
        self.outside.network.fault(CATALOG, fault)

    def begin(self, number: int) -> "asyncio.Future[OrderAnswer]":
        return asyncio.ensure_future(self.queries.order(number))

    async def page(self, after: int, limit: int) -> tuple[list[int], int | None]:
        answer = await self.queries.orders(after, limit)
        return [order.number for order in answer.orders], answer.next


@asynccontextmanager
async def querying(
    path: Path, chain: Chain | None = None, *, catalog: DecidingCatalog | None = None
) -> AsyncIterator[Querying]:
    outside = Outside()
    async with open_log(outside, path, chain) as log:
        yield Querying(outside, log, catalog or DecidingCatalog(entries=chain.entries if chain else ()))


def _order(number: int, generation: int = 1) -> OrderAnswer:
    return OrderAnswer(generation=generation, order=Order(number=number, name="GameStart", type="buy", quantity=1))


# One order.


@in_fake_time
async def test_an_order_is_read_without_the_catalog_when_it_is_on_the_disk(path: Path) -> None:
    chain = Chain()
    chain.add(2)
    chain.add(accepted=False)
    chain.add()
    async with querying(path, chain) as made:
        made.fault("hangs")
        assert [await made.queries.order(number) for number in (1, 2, 3)] == [_order(1), _order(2), _order(3)]
        assert made.catalog.requests == []


@pytest.mark.parametrize("number", [4, 0, -1, 2**63, -(2**63) - 1, 10**30])
def test_there_is_no_order_for_certain_when_the_catalog_was_asked(path: Path, number: int) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(3)
        async with querying(path, chain) as made:
            assert await made.queries.order(number) == NONE
            assert len(made.catalog.requests) == 1

    run()


@in_fake_time
async def test_an_order_is_found_when_it_was_acknowledged_through_another_replica(path: Path) -> None:
    """K7."""
    async with querying(path) as made:
        made.catalog.decide(make_trade("a"))
        assert await made.queries.order(1) == _order(1)


@in_fake_time
async def test_an_order_is_found_when_it_is_in_memory_only(path: Path) -> None:
    async with querying(path) as made:
        made.outside.disk.hold()
        made.log.take(1, made.catalog.decide(make_trade("a")))
        asking = made.begin(1)
        await asyncio.sleep(1)
        assert not asking.done()
        made.outside.disk.release()
        assert await asking == _order(1)


@in_fake_time
async def test_a_question_does_not_join_a_look_at_the_catalog_that_began_before_it(path: Path) -> None:
    """K7: between that look and the question the order was acknowledged."""
    async with querying(path) as made:
        gate = asyncio.Event()
        made.catalog.after = once(gate.wait)  # its answer is made, and is stale when it arrives
        early = made.begin(1)
        await asyncio.sleep(0.01)
        made.catalog.decide(make_trade("a"))
        late = made.begin(1)
        await asyncio.sleep(0.01)
        gate.set()
        assert await late == _order(1)
        assert await early in (NONE, _order(1))
        assert len(made.catalog.requests) == 2


@in_fake_time
async def test_an_order_is_found_after_many_steps_when_this_replica_is_far_behind(path: Path) -> None:
    chain = Chain()
    chain.add(2 * MAX_ENTRIES + 1)
    async with querying(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
        assert await made.queries.order(2 * MAX_ENTRIES + 1) == _order(2 * MAX_ENTRIES + 1)


@pytest.mark.parametrize("fault", ["hangs", "refuses", "resets"])
def test_nothing_is_said_when_the_catalog_cannot_be_reached_within_two_seconds(path: Path, fault: Fault) -> None:
    @in_fake_time
    async def run() -> None:
        async with querying(path) as made:
            made.fault(fault)
            for ask in (made.queries.order(1), made.queries.orders(0, 10)):
                began = made.outside.clock()
                with pytest.raises(Unavailable):
                    await ask
                assert made.outside.clock() - began == pytest.approx(LOOK_UP_S)
            made.fault(None)
            assert await made.queries.order(1) == NONE

    run()


@pytest.mark.parametrize("outcome", ["behind", "fetch_base"])
def test_nothing_is_said_when_this_replica_cannot_catch_up_within_two_seconds(path: Path, outcome: str) -> None:
    @in_fake_time
    async def run() -> None:
        async with querying(path) as made:
            said = made.catalog.inventory.answer([]).model_copy(update={"outcome": outcome, "base": 9})
            made.catalog.instead.extend([said] * 1_000)
            with pytest.raises(Unavailable):
                await made.queries.order(1)
            assert len(made.catalog.requests) < 100

    run()


@in_fake_time
async def test_nothing_is_said_when_the_disk_is_too_slow_for_the_catalogs_head(path: Path) -> None:
    async with querying(path) as made:
        made.catalog.decide(make_trade("a"))
        made.outside.disk.hold()
        with pytest.raises(Unavailable):
            await made.queries.order(1)
        made.outside.disk.release()
        assert await made.queries.order(1) == _order(1)


@in_fake_time
async def test_an_order_is_found_when_the_catalog_comes_back_in_time(path: Path) -> None:
    async with querying(path) as made:
        made.catalog.decide(make_trade("a"))
        made.fault("refuses")
        asking = made.begin(1)
        await asyncio.sleep(1.5)
        made.fault(None)
        assert await asking == _order(1)
        assert made.outside.clock() - 1_000 < LOOK_UP_S
        made.catalog.instead.append(failure(503))
        assert await made.queries.order(2) == NONE


@in_fake_time
async def test_others_get_their_answer_when_one_question_runs_out_of_time(path: Path) -> None:
    async with querying(path) as made:
        made.catalog.decide(make_trade("a"))
        made.fault("hangs")
        first = made.begin(1)
        await asyncio.sleep(1.5)
        second = made.begin(1)
        with pytest.raises(Unavailable):
            await first
        made.fault(None)
        assert await second == _order(1)


@in_fake_time
async def test_no_trip_is_lost_when_questions_run_out_of_time_beside_the_background_report(path: Path) -> None:
    async with querying(path) as made, background(made.outside.runtime, made.follower.run()):
        await until(lambda: made.follower.link.is_level)
        made.fault("hangs")
        for _ in range(3):
            questions = [made.begin(1) for _ in range(10)]
            for result in await asyncio.gather(*questions, return_exceptions=True):
                assert isinstance(result, Unavailable)
        made.fault(None)
        await until(lambda: made.follower.link.is_level, within=1.5)
        assert await made.queries.order(1) == NONE


@in_fake_time
async def test_a_late_answer_does_not_count_when_a_generation_was_adopted_meanwhile(path: Path) -> None:
    async with querying(path) as made:
        made.catalog.decide(make_trade("a"))
        rebuilt = DecidingCatalog(generation=2, entries=made.catalog.inventory.after(0))

        async def rebuild() -> None:
            made.outside.network.serve(CATALOG, rebuilt.handle)
            assert await made.log.adopt(2, STOCKS)

        made.outside.at["order.report.answered"] = once(rebuild)
        assert await made.queries.order(1) == _order(1, generation=2)
        assert len(rebuilt.requests) == 1


# Pages.


@in_fake_time
async def test_pages_follow_each_other_without_gap_when_orders_are_listed(path: Path) -> None:
    chain = Chain()
    for _ in range(10):
        chain.add()
        chain.add(accepted=False)
    async with querying(path, chain) as made:
        assert await made.page(0, 4) == ([1, 2, 3, 4], 4)
        assert await made.page(4, 4) == ([5, 6, 7, 8], 8)
        assert made.catalog.requests == []
        assert await made.page(8, 4) == ([9, 10], None)
        assert len(made.catalog.requests) == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_page_that_ends_just_at_the_end_is_looked_up_at_the_catalog(path: Path, limit: int) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(limit)
        async with querying(path, chain) as made:
            assert await made.page(0, limit) == (list(range(1, limit + 1)), None)
            assert len(made.catalog.requests) == 1
            made.catalog.decide(make_trade("a"))
            assert await made.page(0, limit) == (list(range(1, limit + 1)), limit)
            assert await made.page(limit, limit) == ([limit + 1], None)

    run()


@in_fake_time
async def test_the_newest_orders_are_listed_when_they_were_acknowledged_through_another_replica(path: Path) -> None:
    chain = Chain()
    chain.add(3)
    async with querying(path, chain) as made:
        made.catalog.decide(make_trade("a"), make_trade("b"))
        assert await made.page(2, 10) == ([3, 4, 5], None)
        assert await made.page(0, 4) == ([1, 2, 3, 4], 4)
        assert await made.page(100, 4) == ([], None)


@in_fake_time
async def test_a_full_page_holds_1000_orders(path: Path) -> None:
    chain = Chain()
    chain.add(MAX_ENTRIES + 1)
    async with querying(path, chain) as made:
        assert await made.page(0, MAX_ENTRIES) == (list(range(1, MAX_ENTRIES + 1)), MAX_ENTRIES)
        assert await made.page(1, MAX_ENTRIES) == (list(range(2, MAX_ENTRIES + 2)), None)


@in_fake_time
async def test_an_unsaved_order_is_not_listed_before_its_fsync(path: Path) -> None:
    async with querying(path) as made:
        made.outside.disk.hold()
        made.log.take(1, made.catalog.decide(make_trade("a")))
        listing = asyncio.ensure_future(made.page(0, 10))
        await asyncio.sleep(0.5)
        assert not listing.done()
        made.outside.disk.release()
        assert await listing == ([1], None)
