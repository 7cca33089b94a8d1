"""What every replica does whoever leads: take, fetch, hand out; and never say that it has what is not on its disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.common.background import background
from services.common.models import (
    MAX_ENTRIES,
    AdoptRequest,
    AppendAnswer,
    AppendRequest,
    EntriesAnswer,
    Head,
    Stock,
)
from services.common.timing import FETCH_S
from services.order.follower import Follower
from services.order.log import OrderLog
from tests.support.fake_network import Fault, answer, failure
from tests.support.fake_time import in_fake_time, until
from tests.support.order_chain import STOCKS, Chain, make_trade
from tests.support.order_peers import DecidingCatalog, TakingFollower
from tests.support.order_world import CATALOG, Outside, once, open_log, replica_url

OTHER_STOCKS = [Stock(name="GameStart", price=1_599, quantity=99)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "order-1.db"


class Following:
    """Replica 1, with a catalog and the others, 2 and 3."""

    def __init__(self, outside: Outside, log: OrderLog, catalog: DecidingCatalog) -> None:
        self.outside = outside
        self.log = log
        self.catalog = catalog
        self.others = {2: TakingFollower(), 3: TakingFollower()}
        peers = {i: outside.peer(replica_url(i)) for i in self.others}
        self.follower = Follower(outside.runtime, log, outside.peer(CATALOG), 1, peers)
        outside.network.serve(CATALOG, catalog.handle)
        for i, other in self.others.items():
            outside.network.serve(replica_url(i), other.handle)

    async def append(self, chain: Chain, before: int, until: int | None = None, generation: int = 1) -> AppendAnswer:
        return await self.follower.append(
            AppendRequest(generation=generation, before=chain.head(before), entries=chain.after(before, until))
        )

    def begin(self, chain: Chain, before: int, until: int | None = None) -> "asyncio.Future[AppendAnswer]":
        return asyncio.ensure_future(self.append(chain, before, until))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with background(self.outside.runtime, self.follower.run()):
            await asyncio.sleep(0)
            yield

    @property
    def asked(self) -> list[str]:
        """Whom this replica asked, in order."""
        return [address for address, _ in self.outside.network.requests]


@asynccontextmanager
async def following(
    path: Path, chain: Chain | None = None, *, generation: int | None = 1, catalog: DecidingCatalog | None = None
) -> AsyncIterator[Following]:
    outside = Outside()
    async with open_log(outside, path, chain, generation=generation) as log:
        yield Following(outside, log, catalog or DecidingCatalog(entries=chain.entries if chain else ()))


# Appending.


@in_fake_time
async def test_the_head_is_answered_after_the_fsync_when_entries_are_appended(path: Path) -> None:
    chain = Chain()
    chain.add(3)
    async with following(path) as made:
        made.outside.disk.hold()
        appending = made.begin(chain, 0)
        await asyncio.sleep(5)
        assert not appending.done()
        assert made.log.head == chain.head()
        made.outside.disk.release()
        assert await appending == AppendAnswer(generation=1, outcome="taken", head=chain.head())


@pytest.mark.parametrize("span", [(0, 3), (2, 3), (1, 2), (3, 3), (2, 2)])
def test_the_fsync_is_waited_for_when_entries_are_known_but_not_saved_yet(path: Path, span: tuple[int, int]) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(3)
        async with following(path) as made:
            made.outside.disk.hold()
            made.log.take(1, chain.entries)
            again = made.begin(chain, *span)
            await asyncio.sleep(5)
            assert not again.done()
            made.outside.disk.release()
            assert await again == AppendAnswer(generation=1, outcome="taken", head=chain.head())

    run()


@in_fake_time
async def test_equal_entries_are_answered_at_once_when_they_are_saved(path: Path) -> None:
    chain = Chain()
    chain.add(5)
    async with following(path, chain) as made:
        done = made.outside.disk.done
        for span in ((0, 5), (0, 0), (2, 4), (5, 5), (4, 5)):
            assert await made.append(chain, *span) == AppendAnswer(generation=1, outcome="taken", head=chain.head())
        assert made.outside.disk.done == done


@in_fake_time
async def test_only_what_is_new_is_taken_when_a_part_is_known(path: Path) -> None:
    chain = Chain()
    chain.add(3)
    async with following(path, chain) as made:
        chain.add(2)
        assert (await made.append(chain, 1)).head == chain.head(5)
        assert made.log.after(0, 10) == chain.entries


@in_fake_time
async def test_nothing_is_taken_and_the_saved_head_is_told_when_this_log_is_behind(path: Path) -> None:
    """H16: what it answers is on its disk, not what it has in memory, and never what the leader has."""
    chain = Chain()
    chain.add(2)
    saved = chain.head()
    async with following(path, chain) as made:
        chain.add(5)
        made.outside.disk.hold()
        made.log.take(1, chain.after(2, 4))
        for before in (5, 6, 7):
            assert await made.append(chain, before) == AppendAnswer(generation=1, outcome="behind", head=saved)
        assert made.log.head == chain.head(4)
        made.outside.disk.release()
        await made.log.fsynced.reach(4)
        assert (await made.append(chain, 5)).head == chain.head(4)
        assert (await made.append(chain, 4)).head == chain.head(7)


@in_fake_time
async def test_a_replica_that_is_behind_comes_level_when_it_is_sent_what_follows_its_answer(path: Path) -> None:
    chain = Chain()
    chain.add(2_500)
    async with following(path) as made:
        said = await made.append(chain, 2_500)
        while said.head != chain.head():
            at = said.head.position
            said = await made.append(chain, at, at + MAX_ENTRIES)
            assert said.outcome == "taken"
            assert said.head == chain.head(min(2_500, at + MAX_ENTRIES))


@pytest.mark.parametrize("generation", [0, 1, 3])
def test_nothing_is_taken_when_the_leader_is_of_another_generation(path: Path, generation: int) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(2)
        async with following(path, generation=2) as made:
            said = await made.append(chain, 0, generation=generation)
            assert said == AppendAnswer(generation=2, outcome="other_generation", head=chain.head(0))
            assert made.log.head.position == 0

    run()


@in_fake_time
async def test_the_new_generation_is_told_when_it_was_adopted_during_the_fsync(path: Path) -> None:
    """The leader of the old generation must not take this for an answer to it."""
    chain = Chain()
    chain.add(2)
    async with following(path) as made:
        made.outside.disk.hold()
        appending = made.begin(chain, 0)
        await asyncio.sleep(0.1)
        adopting = asyncio.ensure_future(made.follower.adopt(AdoptRequest(generation=2, stocks=STOCKS)))
        made.outside.at["order.append.fsynced"] = lambda: asyncio.wait([adopting])
        await asyncio.sleep(0.1)
        made.outside.disk.release()
        assert (await appending).generation == 2
        assert (await adopting).head == chain.head()


@in_fake_time
async def test_nothing_is_taken_when_an_adoption_is_under_way(path: Path) -> None:
    chain = Chain()
    chain.add(2)
    async with following(path) as made:
        made.outside.disk.hold()
        adopting = asyncio.ensure_future(made.follower.adopt(AdoptRequest(generation=2, stocks=STOCKS)))
        await asyncio.sleep(0.1)
        for generation in (1, 2):
            said = await made.append(chain, 0, generation=generation)
            assert (said.generation, said.outcome) == (None, "other_generation")
        made.outside.disk.release()
        assert (await adopting).head.position == 0
        assert (await made.append(chain, 0, generation=2)).outcome == "taken"


# Contradictions.


def _forked(chain: Chain) -> Chain:
    other = chain.fork(2)
    other.add(5, quantity=2)
    return other


@pytest.mark.parametrize("span", [(1, 7), (2, 7), (3, 7), (5, 7), (1, 3), (3, 3), (5, 5)])
def test_a_contradiction_is_told_and_the_catalog_asked_at_once_when_a_leader_has_another_log(
    path: Path, span: tuple[int, int]
) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(5)
        async with following(path, chain) as made, made.running():
            await until(lambda: made.catalog.requests)
            asked, began = len(made.catalog.requests), made.outside.clock()
            assert await made.append(_forked(chain), *span) == made.follower._answer("diverged")
            assert made.log.head == chain.head()
            await until(lambda: len(made.catalog.requests) > asked)
            assert made.outside.clock() - began < 0.05, "it does not wait for its next report"
            assert made.outside.ended_with == []  # the catalog says that this log is the right one

    run()


@in_fake_time
async def test_the_process_ends_at_once_when_the_leader_contradicts_it_and_the_catalog_does_too(path: Path) -> None:
    chain = Chain()
    chain.add(5)
    right = _forked(chain)
    async with following(path, chain) as made, made.running():
        await until(lambda: made.follower.link.is_level)
        made.outside.network.serve(CATALOG, DecidingCatalog(entries=right.entries).handle)
        began = made.outside.clock()
        assert (await made.append(right, 4)).outcome == "diverged"
        await until(lambda: made.outside.ended_with)
        assert made.outside.clock() - began < 0.05
        assert made.outside.ended_with[0] == 3


@in_fake_time
async def test_what_fits_is_saved_and_the_replica_goes_on_when_what_follows_it_does_not(path: Path) -> None:
    chain = Chain()
    chain.add(3)
    async with following(path, catalog=DecidingCatalog(entries=chain.entries[:2])) as made:
        bad = chain.entries[2].model_copy(update={"price": 1})
        request = AppendRequest(generation=1, before=chain.head(0), entries=[*chain.after(0, 2), bad])
        assert (await made.follower.append(request)).outcome == "diverged"
        async with made.running():
            await until(lambda: made.follower.link.is_level)
        assert made.log.fsynced_head == chain.head(2)


# Handing out.


@in_fake_time
async def test_only_saved_entries_are_handed_out(path: Path) -> None:
    chain = Chain()
    chain.add(3)
    async with following(path, chain) as made:
        made.outside.disk.hold()
        made.log.take(1, chain.add(2))
        expected = EntriesAnswer(generation=1, head=chain.head(3), entries=chain.after(1, 3))
        assert made.follower.entries(1, 10) == expected
        assert made.follower.entries(3, 10).entries == []
        assert made.follower.entries(4, 10).entries == []
        assert made.follower.entries(0, 2).entries == chain.after(0, 2)
        made.outside.disk.release()
        await made.log.fsynced.reach(5)
        assert made.follower.entries(3, 10).entries == chain.after(3)


@in_fake_time
async def test_no_more_than_1000_entries_are_handed_out_at_once(path: Path) -> None:
    chain = Chain()
    chain.add(MAX_ENTRIES + 5)
    async with following(path, chain) as made:
        assert made.follower.entries(0, 10**6).entries == chain.after(0, MAX_ENTRIES)
        assert made.follower.entries(5, 10**6).entries == chain.after(5)


# Fetching.


@in_fake_time
async def test_the_highest_other_is_asked_first_and_the_catalog_last_when_a_replica_starts(path: Path) -> None:
    chain = Chain()
    chain.add(2 * MAX_ENTRIES + 100)
    async with following(path, chain.fork(50), catalog=DecidingCatalog(entries=chain.entries)) as made:
        made.others[3].take(chain.after(0, MAX_ENTRIES + 100))
        made.others[2].take(chain.after(0, 2 * MAX_ENTRIES))
        async with made.running():
            await until(lambda: made.follower.link.is_level)
        assert made.others[3].fetches == [50, MAX_ENTRIES + 50, MAX_ENTRIES + 100]
        assert made.others[2].fetches == [MAX_ENTRIES + 100, 2 * MAX_ENTRIES]
        assert made.asked == [replica_url(3)] * 3 + [replica_url(2)] * 2 + [CATALOG]
        assert made.catalog.requests[0].head == chain.head(2 * MAX_ENTRIES)
        assert made.log.fsynced_head == chain.head()


@pytest.mark.parametrize(("fault", "seconds"), [("hangs", FETCH_S), ("refuses", 0), ("resets", 0)])
def test_a_silent_peer_costs_half_a_second_when_a_replica_starts(path: Path, fault: Fault, seconds: float) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(5)
        async with following(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
            began = made.outside.clock()
            made.outside.network.fault(replica_url(3), fault)
            made.others[2].take(chain.entries)
            async with made.running():
                await until(lambda: made.log.fsynced.position == 5)
                assert made.outside.clock() - began == pytest.approx(seconds, abs=0.01)
                assert made.others[2].fetches[0] == 0

    run()


@in_fake_time
async def test_a_second_is_lost_at_most_when_both_others_are_silent(path: Path) -> None:
    chain = Chain()
    chain.add(5)
    async with following(path, catalog=DecidingCatalog(entries=chain.entries)) as made:
        began = made.outside.clock()
        for i in made.others:
            made.outside.network.fault(replica_url(i), "hangs")
        async with made.running():
            await until(lambda: made.follower.link.is_level)
        assert made.outside.clock() - began == pytest.approx(2 * FETCH_S, abs=0.01)
        assert made.log.fsynced_head == chain.head()


def _false_entry(chain: Chain) -> EntriesAnswer:
    false = chain.entries[1].model_copy(update={"price": 7})
    return EntriesAnswer(generation=1, head=chain.head(), entries=[chain.entries[0], false])


@pytest.mark.parametrize(
    "bad",
    [
        lambda _: failure(503),
        lambda _: failure(500),
        lambda _: httpx.Response(200, text="nonsense"),
        lambda chain: answer(EntriesAnswer(generation=None, head=chain.head(), entries=chain.entries)),
        lambda chain: answer(EntriesAnswer(generation=2, head=chain.head(), entries=chain.entries)),
        lambda chain: answer(EntriesAnswer(generation=1, head=chain.head(), entries=[])),
        lambda chain: answer(EntriesAnswer(generation=1, head=chain.head(), entries=chain.after(1))),
        lambda chain: answer(_false_entry(chain)),
    ],
    ids=["503", "500", "nonsense", "no generation", "other generation", "nothing", "a gap", "false"],
)
def test_the_next_one_is_asked_when_a_peer_cannot_help(path: Path, bad: Callable[[Chain], httpx.Response]) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(5)
        async with following(path, catalog=DecidingCatalog(entries=chain.entries)) as made:

            async def answer_badly(_: httpx.Request) -> httpx.Response:
                return bad(chain)

            made.outside.network.serve(replica_url(3), answer_badly)
            made.others[2].take(chain.entries[:4])
            async with made.running():
                await until(lambda: made.follower.link.is_level)
            assert made.asked.count(replica_url(3)) == 1
            assert made.log.fsynced_head == chain.head()
            assert made.outside.ended_with == []

    run()


@in_fake_time
async def test_nobody_is_asked_but_the_catalog_when_a_replica_starts_without_a_generation(path: Path) -> None:
    async with following(path, generation=None, catalog=DecidingCatalog(generation=3)) as made, made.running():
        await until(lambda: made.follower.link.is_level)
        assert made.log.generation == 3
        assert set(made.asked) == {CATALOG}


@in_fake_time
async def test_a_wiped_replica_gets_base_from_the_others_and_the_rest_from_the_catalog(path: Path) -> None:
    chain = Chain()
    chain.add(1_500)
    catalog = DecidingCatalog(entries=chain.entries)
    catalog.forget(1_200)
    async with following(path, generation=None, catalog=catalog) as made:
        made.others[3].take(chain.entries[:1_100])  # it was down for a while
        made.others[2].take(chain.entries[:1_300])
        async with made.running():
            await until(lambda: made.follower.link.is_level)
        assert made.log.fsynced_head == chain.head()
        assert made.log.after(1_000, 1_000) == chain.after(1_000)


@in_fake_time
async def test_fetching_ends_when_the_wanted_position_is_reached(path: Path) -> None:
    chain = Chain()
    chain.add(MAX_ENTRIES + 10)
    async with following(path) as made:
        made.others[3].take(chain.entries)
        assert await made.follower.fetch(MAX_ENTRIES)
        assert made.others[3].fetches == [0]
        assert not await made.follower.fetch(MAX_ENTRIES + 11)
        assert made.log.fsynced_head == chain.head()
        assert await made.follower.fetch(5)
        assert len(made.others[2].fetches) == 1


@in_fake_time
async def test_fetched_entries_are_on_the_disk_when_fetching_ends(path: Path) -> None:
    chain = Chain()
    chain.add(5)
    async with following(path) as made:
        made.others[3].take(chain.entries)
        made.outside.disk.hold()
        fetching = asyncio.ensure_future(made.follower.fetch(5))
        await asyncio.sleep(3)
        assert not fetching.done()
        made.outside.disk.release()
        assert await fetching


@in_fake_time
async def test_nothing_fetched_is_taken_when_a_generation_was_adopted_meanwhile(path: Path) -> None:
    chain = Chain()
    chain.add(5)
    async with following(path) as made:
        made.others[3].take(chain.entries)
        made.outside.at["order.fetch.answered"] = once(lambda: made.log.adopt(2, STOCKS))
        assert not await made.follower.fetch(5)
        assert made.log.head.position == 0


# Reporting.


@in_fake_time
async def test_the_catalog_hears_from_every_replica_a_few_times_a_second(path: Path) -> None:
    async with following(path) as made, made.running():
        await asyncio.sleep(10)
        assert 10 / 0.4 <= len(made.catalog.requests) <= 10 / 0.15 + 1
        assert {request.fsynced for request in made.catalog.requests} == {0}
        made.catalog.decide(make_trade("a"))
        await until(lambda: made.catalog.requests[-1].fsynced == 1, within=0.9)


@in_fake_time
async def test_reports_go_on_when_the_catalog_was_away(path: Path) -> None:
    async with following(path) as made, made.running():
        for fault in ("refuses", "hangs", "resets"):
            await until(lambda: made.follower.link.is_level)
            made.outside.network.fault(CATALOG, fault)
            await asyncio.sleep(4)
            assert not made.follower.link.is_level
            made.outside.network.fault(CATALOG, None)
            await until(lambda: made.follower.link.is_level, within=1.5)


# Adopting.


@in_fake_time
async def test_the_head_and_the_generation_are_told_when_one_is_adopted_or_refused(path: Path) -> None:
    chain = Chain()
    chain.add(2)
    async with following(path, chain) as made:

        async def adopt(generation: int, stocks: list[Stock] = STOCKS) -> tuple[int, str, Head]:
            said = await made.follower.adopt(AdoptRequest(generation=generation, stocks=stocks))
            return said.generation, said.outcome, said.head

        assert await adopt(3) == (3, "adopted", chain.head())
        assert await adopt(3) == (3, "adopted", chain.head())
        assert await adopt(2) == (3, "refused", chain.head())
        assert await adopt(4, OTHER_STOCKS) == (3, "refused", chain.head())


@in_fake_time
async def test_only_what_is_saved_is_told_when_an_adoption_is_repeated(path: Path) -> None:
    chain = Chain()
    chain.add(2)
    async with following(path, chain) as made:
        made.outside.disk.hold()
        made.log.take(1, chain.add(2))
        assert (await made.follower.adopt(AdoptRequest(generation=1, stocks=STOCKS))).head == chain.head(2)


@in_fake_time
async def test_an_unsaved_entry_is_a_part_of_the_answered_head_when_a_generation_is_adopted(path: Path) -> None:
    chain = Chain()
    chain.add(4)
    async with following(path) as made:
        made.outside.disk.hold()
        made.log.take(1, chain.entries)
        adopting = asyncio.ensure_future(made.follower.adopt(AdoptRequest(generation=2, stocks=STOCKS)))
        await asyncio.sleep(1)
        assert not adopting.done()
        made.outside.disk.release()
        assert (await adopting).head == chain.head()
