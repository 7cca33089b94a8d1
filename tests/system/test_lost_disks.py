"""Disks that are lost: the catalog's, a replica's, and one that comes back after it was given up."""

import asyncio
import sys
from pathlib import Path

from services.common.models import CatalogStatus
from tests.support.system_bazaar import Bazaar
from tests.support.system_evidence import read_log
from tests.system.conftest import MakeCluster


async def test_catalog_is_rebuilt_from_every_replica_when_its_database_is_lost(bazaar: Bazaar) -> None:
    cluster = bazaar.cluster
    generation = (await cluster.ask("catalog", "/status", CatalogStatus)).generation
    assert generation is not None

    async def waits() -> bool:
        return "waiting for order-1" in ((await cluster.service("catalog")).reason or "")

    async with bazaar.trading() as traders:
        await cluster.kill("order-1")  # it misses orders, and nothing may be decided before it has been asked
        await traders.more(10)
        await cluster.kill("catalog")
        cluster.delete_database("catalog")
        await cluster.start("catalog")
        await cluster.wait_until(waits, "the catalog waits for order-1")
        assert (await cluster.ask("catalog", "/status", CatalogStatus)).generation is None
        await cluster.start("order-1")
        await traders.more(20)
    assert (await cluster.ask("catalog", "/status", CatalogStatus)).generation == generation + 1


async def test_replica_comes_back_whole_when_its_database_is_lost(bazaar: Bazaar) -> None:
    leader = await bazaar.cluster.leader()
    async with bazaar.trading() as traders:
        await bazaar.cluster.kill(leader)
        bazaar.cluster.delete_database(leader)
        await traders.more(10)
        await bazaar.cluster.start(leader)
        await bazaar.cluster.wait_for_state(leader, "running")
    assert len(read_log(bazaar.cluster.database(leader))) > 0


async def test_replica_fails_and_stays_down_when_it_returns_after_it_was_declared_lost(small_bazaar: Bazaar) -> None:
    cluster = small_bazaar.cluster
    async with small_bazaar.trading():
        pass
    await cluster.wait_level()
    await cluster.shut_down()
    cluster.delete_database("catalog")
    cluster.flags += ["--lost", "order-2"]
    await cluster.launch()
    del cluster.flags[-2:]  # for the next start
    lost = await cluster.wait_for_state("order-2", "failed")
    await cluster.wait_ready(without=["order-2"])
    assert lost.reason is not None
    assert "rebuilt without this replica" in lost.reason
    async with small_bazaar.trading():
        # While another one dies and is back, this one would have been started as well.
        old = await cluster.kill_pid("front-end-1")
        await cluster.wait_for_new_pid("front-end-1", old)
    again = await cluster.service("order-2")
    assert (again.state, again.pid, again.restarts) == ("failed", None, lost.restarts)
    verdict = await cluster.verify(patience_s=0)
    assert not verdict.passed
    assert any("order-2" in problem for problem in verdict.problems)
    cluster.delete_database("order-2")
    await cluster.start("order-2")
    await cluster.wait_for_state("order-2", "running")


async def test_bazaar_comes_back_from_a_copy_that_was_made_while_it_traded(
    bazaar: Bazaar, make_cluster: MakeCluster
) -> None:
    """The command of docs/operations.md; then everything else is lost."""
    again = make_cluster()
    again.data_dir.mkdir()
    copy = again.data_dir / "order-1.db"
    async with bazaar.trading() as traders:
        source = f"file:{bazaar.cluster.database('order-1')}?mode=ro"
        shell = Path(sys.executable).parent / "apsw"
        copying = await asyncio.create_subprocess_exec(str(shell), source, f".backup {copy}")
        assert await copying.wait() == 0
        await traders.more(5)
    async with again:
        await again.wait_level()
        restored = read_log(again.database("order-3"))
        assert (await again.verify()).passed
    assert restored
    assert restored == (await bazaar.log())[: len(restored)]
