"""Catalogs on a real etcd: what the directed tests show on a modelled one holds there as well."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.common.models import CatalogStatus, Stock, StocksAnswer
from services.common.transport import make_transport
from tests.support.catalog_entries import buy, sell
from tests.support.catalog_world import Gate
from tests.support.etcd_cluster import EtcdCluster, require_etcd
from tests.support.patience import PATIENCE_S
from tests.support.shared_catalogs import SharedWorld

STOCKS = [Stock(name=f"S{i:05}", price=100 + i, quantity=100) for i in range(5_000)]


@asynccontextmanager
async def on_real_etcd(folder: Path, *, size: int = 1) -> AsyncIterator[tuple[SharedWorld, EtcdCluster]]:
    """The surroundings of catalogs, and an etcd of so many nodes."""
    require_etcd()
    async with EtcdCluster(folder / "etcd", size=size) as cluster:
        real = make_transport()
        try:
            yield SharedWorld(folder, stocks=STOCKS, etcd=cluster.urls, real=real), cluster
        finally:
            await real.aclose()


async def until_base(world: SharedWorld, position: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await world.saved()).inventory.base.position < position:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)


async def test_two_catalogs_decide_one_sequence(tmp_path: Path) -> None:
    async with on_real_etcd(tmp_path) as (world, _):
        holder = world.front_end()
        async with world.running("a") as one, world.running("b") as other:
            assert (await one.session("open", holder)).outcome == "opened"
            assert (await other.session("renew", holder)).outcome == "renewed"
            gate = world.place("a").points.hooks["etcd.commit.before"] = Gate()
            deciding = asyncio.create_task(one.decide(world.leader.ask(buy("a", 60, name="S00001"))))
            await gate.reached.wait()
            await other.trade(world.leader, buy("b", 60, name="S00001"), sell("c", 5, name="S00002"))
            gate.open()
            world.leader.take(await deciding)
            assert [(entry.key, entry.number) for entry in world.leader.entries] == [("b", 1), ("c", 2), ("a", None)]
            assert one.catalog.conflicts == 1
            assert await one.quantity("S00001") == await other.quantity("S00001") == 40
            assert holder.floors[-1] == {"S00001": 2, "S00002": 2} or len(holder.floors) == 2
        saved = await world.saved()
        assert saved.inventory.head == world.leader.head
        assert len(saved.inventory.stocks) == len(STOCKS)
        assert not world.ended


async def test_a_session_that_is_opened_between_announcement_and_commit_is_told(tmp_path: Path) -> None:
    async with on_real_etcd(tmp_path) as (world, _):
        holder = world.front_end()
        async with world.running("a") as one, world.running("b") as other:
            gate = world.place("a").points.hooks["etcd.commit.before"] = Gate()
            deciding = asyncio.create_task(one.trade(world.leader, buy("a", name="S00001")))
            await gate.reached.wait()
            assert (await other.session("open", holder)).floor == 0
            gate.open()
            await deciding
            assert holder.floors == [{"S00001": 1}]
            assert (await one.session("end", holder)).outcome == "ended"
            assert (await other.session("renew", holder)).outcome == "no_session"


async def test_many_stocks_change_in_one_request_and_all_is_found_again(tmp_path: Path) -> None:
    async with on_real_etcd(tmp_path) as (world, _):
        async with world.running("a") as one:
            trades = [buy(f"{i}-" + "k" * 50, 1, name=f"S{i:05}") for i in range(1_000)]
            told = await one.trade(world.leader, *trades)
            assert [entry.number for entry in told.entries] == list(range(1, 1_001))
            for replica in world.replicas.values():
                while replica.head != world.leader.head:
                    replica.take(await one.decide(replica.ask()))
                await one.decide(replica.ask())
            await one.trade(world.leader, buy("last", 1, name="S04999"))
            await until_base(world, 1_000)
        async with world.running("b") as other:
            assert (await other.call("/status", CatalogStatus)).head == world.leader.head
            shown = await other.call("/stocks", StocksAnswer)
            assert {stock.quantity for stock in shown.stocks[:1_000]} == {99}
            assert {stock.quantity for stock in shown.stocks[1_000:-1]} == {100}
        assert not world.ended


@pytest.mark.slow
@pytest.mark.parametrize("what", ["kill", "pause"])
async def test_trades_go_on_when_a_node_is_lost(tmp_path: Path, what: str) -> None:
    async with on_real_etcd(tmp_path, size=3) as (world, cluster):
        async with world.running("a") as one:
            await one.trade(world.leader, buy("before", name="S00001"))
            leader = await cluster.leader()
            if what == "kill":
                await cluster.kill(leader)
            else:
                cluster.pause(leader)
            async with asyncio.timeout(PATIENCE_S):
                again = world.leader.ask(buy("after", name="S00001"))
                while (await one.post("/decide", again)).status_code != 200:  # noqa: ASYNC110 - as a leader does
                    await asyncio.sleep(0.05)
            told = await one.trade(world.leader, buy("after", name="S00001"))
            assert [(entry.key, entry.number) for entry in told.entries] == [("after", 2)]
            assert await one.quantity("S00001") == 98
            if what == "pause":
                cluster.resume(leader)
        assert not world.ended
