"""A leader that was declared lost, and lives: cut off, it promises nothing that the rebuilt catalog does not have."""

import asyncio
from pathlib import Path

import pytest

from services.common.http import PeerError
from services.common.models import AdoptAnswer, AdoptRequest, TradeOutcome
from tests.support.fake_time import in_fake_time, until
from tests.support.order_chain import make_trade
from tests.support.order_cluster import Cluster

UNKNOWN = TradeOutcome(result="unknown")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def accepted(number: int, *, replayed: bool = False) -> TradeOutcome:
    return TradeOutcome(result="accepted", number=number, replayed=replayed)


async def _lose_leader(cluster: Cluster) -> None:
    """Order 2 is in the log of replica 3 alone; 3 is cut off from the catalog, which is rebuilt without it."""
    assert await cluster.trade(3, make_trade("everywhere")) == [accepted(1)]
    for i in (1, 2):
        await cluster.orders[i].kill()
    assert await cluster.trade(3, make_trade("only-at-3")) == [accepted(2)]
    cluster.orders[3].unreachable.add(cluster.catalog.url)
    for i in (1, 2):
        cluster.orders[i].unreachable.add(cluster.orders[3].url)  # they fetch from it when they start
    await cluster.catalog.kill()
    cluster.wipe(cluster.catalog)
    cluster.lost = [3]
    for service in (cluster.catalog, cluster.orders[1], cluster.orders[2]):
        await service.start()
    await cluster.ready(1, 2)


async def _replace_leader(cluster: Cluster) -> None:
    """Replica 3 hears of the rebuild, ends, and comes back with an empty disk."""
    lost = cluster.orders[3]
    for service in cluster.orders.values():
        service.unreachable.clear()
    await until(lambda: cluster.ended_with)
    assert (cluster.catalog.ended_with, lost.ended_with[0]) == ([], 3)
    await lost.kill()
    lost.ended_with.clear()
    cluster.wipe(lost)
    await lost.start()


@in_fake_time
async def test_nothing_is_promised_from_the_own_log_when_the_catalog_may_have_been_rebuilt_without_it(
    cluster: Cluster,
) -> None:
    """K1: whoever had no answer asks again, and must not be told a number that is somebody else's by now."""
    async with cluster.running():
        await _lose_leader(cluster)
        assert await cluster.trade(2, make_trade("another")) == [accepted(2)]
        for quantity in (1, 2):
            assert await cluster.trade(3, make_trade("only-at-3", quantity=quantity), seconds=3) == [UNKNOWN]
        await _replace_leader(cluster)
        assert await cluster.insist(make_trade("only-at-3"), 3) == accepted(3)
        assert [entry.key for entry in await cluster.check()] == ["everywhere", "another", "only-at-3"]


@in_fake_time
async def test_what_every_replica_has_is_still_told_when_a_leader_was_declared_lost(cluster: Cluster) -> None:
    async with cluster.running():
        await _lose_leader(cluster)
        assert await cluster.trade(3, make_trade("everywhere")) == [accepted(1, replayed=True)]
        await _replace_leader(cluster)
        assert [entry.key for entry in await cluster.check()] == ["everywhere"]


@in_fake_time
async def test_a_trade_that_waits_for_the_catalogs_word_is_not_answered_when_that_word_is_lost(
    cluster: Cluster,
) -> None:
    async with cluster.running():
        await _lose_leader(cluster)
        asking = asyncio.ensure_future(cluster.trade(3, make_trade("only-at-3"), seconds=8))
        await asyncio.sleep(2)
        assert not asking.done()
        await _replace_leader(cluster)
        with pytest.raises(PeerError):
            await asking
        assert [entry.key for entry in await cluster.check()] == ["everywhere"]


@in_fake_time
async def test_the_lost_one_ends_and_not_the_catalog_when_an_unfinished_rebuild_had_given_it_a_generation(
    cluster: Cluster,
) -> None:
    """H21: 1 + the highest generation of the others would be the very one that it has, and its log is longer."""
    async with cluster.running():
        assert await cluster.trade(3, make_trade("everywhere")) == [accepted(1)]
        for i in (1, 2):
            await cluster.orders[i].kill()
        assert await cluster.trade(3, make_trade("a"), make_trade("b")) == [accepted(2), accepted(3)]
        await cluster.catalog.kill()
        cluster.wipe(cluster.catalog)
        begun = AdoptRequest(generation=2, stocks=cluster.replica(3).log.initial)
        assert (await cluster.call(cluster.orders[3], "/adopt", AdoptAnswer, begun)).outcome == "adopted"
        await cluster.orders[3].kill()
        cluster.lost = [3]
        for service in (cluster.catalog, cluster.orders[1], cluster.orders[2]):
            await service.start()
        await cluster.ready(1, 2)
        await cluster.orders[3].start()
        await _replace_leader(cluster)
        assert [entry.key for entry in await cluster.check()] == ["everywhere"]
