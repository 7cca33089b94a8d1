"""Three real replicas and a real catalog, wired together: what is acknowledged stays, whoever dies or loses a disk."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from services.common.http import PeerError
from services.common.models import (
    MAX_ENTRIES,
    LeaderNotice,
    OrderAnswer,
    OrdersAnswer,
    ReplicaStatus,
    TradeOutcome,
)
from services.common.runtime import AdaptiveDisk
from services.common.timing import FOLLOWER_PATIENCE_S, LOOK_EVERY_S
from services.order.store import LogStore
from tests.support.fake_time import in_fake_time, until
from tests.support.order_chain import make_trade
from tests.support.order_cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def accepted(number: int, *, replayed: bool = False) -> TradeOutcome:
    return TradeOutcome(result="accepted", number=number, replayed=replayed)


async def _trade_many(cluster: Cluster, replica_id: int, count: int, prefix: str = "key") -> None:
    """`count` trades that leave the stock as it was."""
    trades = [make_trade(f"{prefix}-{i}", kind="sell" if i % 2 else "buy") for i in range(count)]
    for begin in range(0, count, 500):
        outcomes = await cluster.trade(replica_id, *trades[begin : begin + 500])
        assert all(outcome.result == "accepted" for outcome in outcomes)


@in_fake_time
async def test_every_replica_has_the_order_when_a_trade_was_accepted(cluster: Cluster) -> None:
    async with cluster.running():
        assert await cluster.trade(3, make_trade("a"), make_trade("b", quantity=3)) == [accepted(1), accepted(2)]
        for replica_id, service in cluster.orders.items():
            assert cluster.replica(replica_id).log.fsynced.position == 2
            order = (await cluster.call(service, "/orders/2", OrderAnswer)).order
            assert order is not None
            assert (order.number, order.quantity) == (2, 3)
        assert await cluster.trade(1, make_trade("a")) == [accepted(1, replayed=True)]
        assert (await cluster.stocks())["GameStart"].quantity == 96
        await cluster.check()


@in_fake_time
async def test_a_trade_does_not_wait_for_a_follower_that_fell_silent_while_its_leader_was_idle(
    cluster: Cluster,
) -> None:
    """Only who was told that it leads looks at the others."""
    async with cluster.running():
        notice = LeaderNotice(front_end="front-end-1", leader=3)
        await cluster.call(cluster.orders[3], "/leader", ReplicaStatus, notice)
        cluster.network.fault(cluster.orders[1].url, "hangs")
        await asyncio.sleep(2 * LOOK_EVERY_S + FOLLOWER_PATIENCE_S + 0.1)
        began = cluster.clock()
        assert await cluster.trade(3, make_trade("a")) == [accepted(1)]
        assert cluster.clock() - began < 0.1
        assert cluster.network.count(cluster.orders[3].url, "/append") == 0
        cluster.network.fault(cluster.orders[1].url, None)
        await cluster.check()


@in_fake_time
async def test_an_order_is_found_at_once_when_its_replica_was_the_last_to_hear(cluster: Cluster) -> None:
    """K7, at a replica that was not waited for."""
    async with cluster.running():
        cluster.network.fault(cluster.orders[1].url, "hangs")
        await cluster.trade(3, make_trade("a"))
        cluster.network.fault(cluster.orders[1].url, None)
        order = (await cluster.call(cluster.orders[1], "/orders/1", OrderAnswer)).order
        assert order is not None
        page = await cluster.call(cluster.orders[1], "/orders", OrdersAnswer)
        assert [order.number for order in page.orders] == [1]


@in_fake_time
async def test_each_key_executes_once_when_all_replicas_believe_to_lead(cluster: Cluster) -> None:
    """K8: the same keys, and others, at all three at once, in another order at each."""
    async with cluster.running():
        rng = random.Random(5)
        trades = [make_trade(f"key-{i}", quantity=rng.randint(1, 5)) for i in range(80)]

        async def send(replica_id: int) -> dict[str, TradeOutcome]:
            mine = rng.sample(trades, len(trades))
            outcomes: dict[str, TradeOutcome] = {}
            for begin in range(0, len(mine), 7):
                part = mine[begin : begin + 7]
                for trade, outcome in zip(part, await cluster.trade(replica_id, *part), strict=True):
                    outcomes[trade.key] = outcome
            return outcomes

        answers = await asyncio.gather(*(send(replica_id) for replica_id in cluster.orders))
        entries = {entry.key: entry for entry in await cluster.check()}
        assert len(entries) == len(trades)
        for outcomes in answers:
            for key, outcome in outcomes.items():
                assert outcome.result == ("refused" if entries[key].number is None else "accepted")
                assert outcome.number == entries[key].number


@in_fake_time
async def test_one_content_wins_when_two_leaders_get_one_key_with_two_trades(cluster: Cluster) -> None:
    async with cluster.running():
        for i in range(10):
            key = f"key-{i}"
            outcomes = await asyncio.gather(
                cluster.trade(3, make_trade(key, quantity=1)), cluster.trade(2, make_trade(key, quantity=2))
            )
            assert sorted(outcome.result for (outcome,) in outcomes) == ["accepted", "other_content"]
        assert len(await cluster.check()) == 10


@pytest.mark.parametrize("count", [60, 2 * MAX_ENTRIES + 300])
def test_a_wiped_replica_comes_back_with_everything_when_the_catalog_has_forgotten_it(
    cluster: Cluster, count: int
) -> None:
    @in_fake_time
    async def run() -> None:
        async with cluster.running():
            await _trade_many(cluster, 3, count)
            await asyncio.sleep(1)
            assert (await cluster.status()).base == count, "the catalog has forgotten it all"
            await cluster.orders[1].kill()
            cluster.wipe(cluster.orders[1])
            assert (await cluster.trade(3, make_trade("while-it-is-away")))[0].result == "accepted"
            await cluster.orders[1].start()
            await cluster.ready()
            assert len(cluster.log(1)) == count + 1
            assert (await cluster.trade(1, make_trade("through-it")))[0].result == "accepted"
            await cluster.check()

    run()


@in_fake_time
async def test_an_old_key_is_not_executed_again_when_its_leader_was_wiped_and_the_catalog_has_forgotten_it(
    cluster: Cluster,
) -> None:
    async with cluster.running():
        await _trade_many(cluster, 3, 40)
        await asyncio.sleep(1)
        assert (await cluster.status()).base == 40
        await cluster.orders[3].kill()
        cluster.wipe(cluster.orders[3])
        await cluster.orders[3].start()
        outcomes = await asyncio.gather(*(cluster.insist(make_trade(f"key-{i}"), 3) for i in range(0, 40, 2)))
        assert [outcome.number for outcome in outcomes] == list(range(1, 41, 2))
        assert len(await cluster.check()) == 40


@in_fake_time
async def test_trades_work_and_a_rebuild_too_when_there_is_one_replica_only(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, replicas=1)
    async with cluster.running():
        assert await cluster.trade(1, make_trade("a"), make_trade("b")) == [accepted(1), accepted(2)]
        await asyncio.sleep(1)
        assert (await cluster.status()).base == 2
        await cluster.catalog.kill()
        cluster.wipe(cluster.catalog)
        await cluster.orders[1].kill()
        await cluster.catalog.start()
        await cluster.orders[1].start()
        assert await cluster.insist(make_trade("a"), 1) == accepted(1, replayed=True)
        assert await cluster.insist(make_trade("c"), 1) == accepted(3)
        await cluster.check()


@in_fake_time
async def test_a_replica_serves_what_it_missed_when_it_starts_without_the_catalog(cluster: Cluster) -> None:
    async with cluster.running():
        await _trade_many(cluster, 3, 10)
        await cluster.orders[1].kill()
        assert await cluster.trade(3, make_trade("a")) == [accepted(11)]
        await cluster.catalog.kill()
        await cluster.orders[1].start()
        await until(lambda: cluster.replica(1).log.fsynced.position == 11)
        assert (await cluster.call(cluster.orders[1], "/orders/11", OrderAnswer)).order is not None
        assert await cluster.trade(1, make_trade("a")) == [accepted(11, replayed=True)]
        with pytest.raises(PeerError, match="503"):
            await cluster.call(cluster.orders[1], "/orders/12", OrderAnswer)
        assert (await cluster.trade(1, make_trade("b"), seconds=1))[0].result == "unavailable"
        await cluster.catalog.start()
        await cluster.check()


@in_fake_time
async def test_the_catalog_forgets_nothing_more_while_a_wiped_replica_is_behind(cluster: Cluster) -> None:
    """H12."""
    async with cluster.running():
        await _trade_many(cluster, 3, 10)
        await asyncio.sleep(1)
        await cluster.orders[1].kill()
        cluster.wipe(cluster.orders[1])
        await _trade_many(cluster, 3, 20, "more")
        await asyncio.sleep(1)
        assert (await cluster.status()).base <= 10
        await cluster.orders[1].start()
        await cluster.ready()
        await asyncio.sleep(1)
        assert (await cluster.status()).base == 30
        await cluster.check()


@in_fake_time
async def test_only_what_was_missed_is_fetched_when_a_replica_was_down(cluster: Cluster) -> None:
    async with cluster.running():
        await _trade_many(cluster, 3, 20)
        await cluster.orders[2].kill()
        await _trade_many(cluster, 3, 30, "more")
        asked = len(cluster.network.requests)
        await cluster.orders[2].start()
        await until(lambda: cluster.replica(2).log.fsynced.position == 50)
        fetches = [request.url for _, request in cluster.network.requests[asked:] if request.url.path == "/entries"]
        assert fetches[0].params["after"] == "20"
        await cluster.check()


@in_fake_time
async def test_nothing_is_lost_when_the_catalog_loses_its_disk(cluster: Cluster) -> None:
    async with cluster.running():
        await _trade_many(cluster, 3, 30)
        assert (await cluster.trade(3, make_trade("refused", quantity=200)))[0].result == "refused"
        before = [entry.model_dump() for entry in await cluster.check()]
        await cluster.catalog.kill()
        cluster.wipe(cluster.catalog)
        waiting = asyncio.ensure_future(cluster.trade(3, make_trade("while-it-is-away")))
        await asyncio.sleep(1)
        await cluster.catalog.start()
        assert (await waiting)[0] == accepted(31)
        assert (await cluster.trade(2, make_trade("key-7", kind="sell"))) == [accepted(8, replayed=True)]
        assert (await cluster.trade(2, make_trade("refused", quantity=200)))[0].result == "refused"
        assert (await cluster.status()).generation == 2
        after = await cluster.check()
        assert [entry.model_dump() for entry in after[:31]] == before
        assert [cluster.replica(i).log.generation for i in cluster.orders] == [2, 2, 2]


@in_fake_time
async def test_a_rebuild_waits_for_every_replica_when_one_is_down(cluster: Cluster) -> None:
    """H5: only the one that is down has the last order."""
    async with cluster.running():
        for i in (1, 2):
            await cluster.orders[i].kill()
        assert (await cluster.trade(3, make_trade("only-at-3"))) == [accepted(1)]
        await cluster.orders[3].kill()
        await cluster.catalog.kill()
        cluster.wipe(cluster.catalog)
        for service in (cluster.catalog, cluster.orders[1], cluster.orders[2]):
            await service.start()
        await asyncio.sleep(30)
        assert (await cluster.status()).generation is None
        with pytest.raises(PeerError, match=r"503.*waiting for order-3$"):
            await cluster.call(cluster.catalog, "/readyz", OrderAnswer)
        assert (await cluster.trade(2, make_trade("b"), seconds=1))[0].result == "unavailable"
        await cluster.orders[3].start()
        assert (await cluster.insist(make_trade("b"), 2)) == accepted(2)
        assert [entry.key for entry in await cluster.check()] == ["only-at-3", "b"]


@in_fake_time
async def test_a_trade_is_not_called_unavailable_when_its_answer_came_after_the_catalog_was_rebuilt(
    cluster: Cluster,
) -> None:
    """H4: decided, and known to replica 2; then the catalog's disk is lost, and only then the leader hears of it."""
    async with cluster.running():
        assert await cluster.trade(3, make_trade("first")) == [accepted(1)]
        leader, gate = cluster.orders[3], asyncio.Event()
        leader.at["order.decide.answered"] = leader.at["order.report.answered"] = gate.wait
        waiting = asyncio.ensure_future(cluster.trade(3, make_trade("a"), seconds=5))
        await until(lambda: cluster.replica(2).log.fsynced.position == 2)
        await cluster.catalog.kill()
        cluster.wipe(cluster.catalog)
        await cluster.catalog.start()
        await until(lambda: cluster.replica(3).log.generation == 2)
        await asyncio.sleep(3)
        assert cluster.replica(3).log.head.position == 1
        cluster.network.fault(cluster.catalog.url, "hangs")
        gate.set()
        assert (await waiting)[0].result == "unknown", "it was executed, so it must not be called unavailable"
        cluster.network.fault(cluster.catalog.url, None)
        assert (await cluster.insist(make_trade("a"), 3)).number == 2
        assert [entry.key for entry in await cluster.check()] == ["first", "a"]


@in_fake_time
async def test_a_replica_that_was_declared_lost_ends_for_good_when_it_comes_back_with_a_longer_log(
    cluster: Cluster,
) -> None:
    """H21."""
    async with cluster.running():
        await _trade_many(cluster, 3, 5)
        for i in (1, 2):
            await cluster.orders[i].kill()
        await _trade_many(cluster, 3, 3, "only-at-3")
        await cluster.orders[3].kill()
        await cluster.catalog.kill()
        cluster.wipe(cluster.catalog)
        cluster.lost = [3]
        for service in (cluster.catalog, cluster.orders[1], cluster.orders[2]):
            await service.start()
        await cluster.ready(1, 2)
        assert await cluster.trade(2, make_trade("b")) == [accepted(6)]
        await cluster.orders[3].start()
        await until(lambda: cluster.orders[3].ended_with)
        assert cluster.orders[3].ended_with[0] == 3
        assert await cluster.trade(2, make_trade("c")) == [accepted(7)]
        assert cluster.catalog.ended_with == []
        # Its data deleted, it is a replica as any other.
        await cluster.orders[3].kill()
        cluster.orders[3].ended_with.clear()
        cluster.wipe(cluster.orders[3])
        await cluster.orders[3].start()
        assert [entry.key for entry in await cluster.check()][5:] == ["b", "c"]


@in_fake_time
async def test_the_same_numbers_are_told_when_the_catalog_was_killed_in_the_middle_of_many_trades(
    cluster: Cluster,
) -> None:
    async with cluster.running():
        trades = [make_trade(f"key-{i}") for i in range(60)]
        sending = [asyncio.ensure_future(cluster.insist(trade, 3, 2, 1)) for trade in trades]
        for _ in range(3):
            await asyncio.sleep(0.003)
            await cluster.catalog.kill()
            await asyncio.sleep(0.5)
            await cluster.catalog.start()
        outcomes = [await future for future in sending]
        assert sorted(outcome.number or 0 for outcome in outcomes) == list(range(1, 61))
        entries = {entry.key: entry.number for entry in await cluster.check()}
        assert [entries[trade.key] for trade in trades] == [outcome.number for outcome in outcomes]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_acknowledged_is_lost_doubled_or_contradicted_when_processes_come_and_go(
    cluster: Cluster, seed: int
) -> None:
    @in_fake_time
    async def run() -> None:
        rng = random.Random(seed)
        async with cluster.running():
            known: dict[str, TradeOutcome] = {}

            async def customer(name: int) -> None:
                for i in range(25):
                    trade = make_trade(f"{name}-{i}", kind=rng.choice(["buy", "sell"]), quantity=rng.randint(1, 40))
                    leaders = rng.sample([1, 2, 3], 3)
                    known[trade.key] = await cluster.insist(trade, *leaders)
                    again = await cluster.insist(trade, *reversed(leaders))
                    assert (again.result, again.number) == (known[trade.key].result, known[trade.key].number)
                    await asyncio.sleep(rng.uniform(0, 0.3))

            customers = [asyncio.ensure_future(customer(name)) for name in range(6)]
            while not all(future.done() for future in customers):
                await asyncio.sleep(rng.uniform(0, 0.6))
                await _harm(cluster, rng)
            await asyncio.gather(*customers)
            entries = {entry.key: entry for entry in await cluster.check()}
            assert len(entries) == len(known) == 150
            assert {key: entry.number for key, entry in entries.items()} == {
                key: outcome.number for key, outcome in known.items()
            }

    run()


async def _harm(cluster: Cluster, rng: random.Random) -> None:
    """One process is killed, hangs, or has its answers lost for a while; now and then a disk is lost as well."""
    service = rng.choice(cluster.services)
    how = rng.random()
    if how < 0.5:
        await service.kill()
        # One disk at a time, and only when all others have everything: what was acknowledged is on at least one more.
        if how < 0.2:
            cluster.wipe(service)
        await asyncio.sleep(rng.uniform(0, 1.5))
        await service.start()
    else:
        cluster.network.fault(service.url, rng.choice(["hangs", "resets", "does_then_resets"]))
        await asyncio.sleep(rng.uniform(0, 1.5))
        cluster.network.fault(service.url, None)
    if how < 0.2:
        await cluster.ready()


async def test_trades_work_when_disks_are_threads_and_time_is_real(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, clock=time.monotonic, make_disk=AdaptiveDisk)
    async with cluster.running():
        for number in range(1, 21):
            assert await cluster.trade(number % 3 + 1, make_trade(f"key-{number}")) == [accepted(number)]
        outcomes = await asyncio.gather(
            *(cluster.trade(i % 3 + 1, make_trade(f"more-{i % 30}")) for i in range(60)),
        )
        assert {outcome.number for (outcome,) in outcomes} == set(range(21, 51))
        await cluster.orders[1].stop()
        cluster.wipe(cluster.orders[1])
        await cluster.orders[1].start()
        await cluster.ready()
        assert len(await cluster.check()) == 50


@in_fake_time
async def test_status_shows_the_same_head_everywhere_when_the_bazaar_is_at_rest(cluster: Cluster) -> None:
    async with cluster.running():
        await _trade_many(cluster, 2, 4)
        await cluster.check()
        heads = [(await cluster.call(s, "/status", ReplicaStatus)).head for s in cluster.orders.values()]
        assert heads == [(await cluster.status()).head] * 3
    store = LogStore(cluster.folder / "order-1.db")
    assert store.last() == heads[0]
    store.close()
