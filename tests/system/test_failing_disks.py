"""Disks that fail, fill up, or give back something else: nothing acknowledged is lost, and the operator's cure works.

After each test everything that a customer was told is held against the log (`Bazaar.check`).
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import apsw
import httpx
import psutil
import pytest
import pytest_asyncio

from services.cluster.verify import Verdict
from tests.support.cluster import Cluster
from tests.support.disk_faults import Fault, FaultyCluster, damage, fold, needs_faults, small_disk, without_room
from tests.support.system_bazaar import Bazaar, open_bazaar

SMALL_DISK = 1_000_000


@pytest_asyncio.fixture(loop_scope="session")
async def faulty(tmp_path: Path) -> AsyncIterator[Bazaar]:
    """A bazaar whose disks can be broken."""
    async with open_bazaar(lambda: FaultyCluster(tmp_path / "data")) as bazaar:
        yield bazaar


def cluster_of(bazaar: Bazaar) -> FaultyCluster:
    assert isinstance(bazaar.cluster, FaultyCluster)
    return bazaar.cluster


async def name_of(bazaar: Bazaar, who: str) -> str:
    """The service that plays this part."""
    return await bazaar.cluster.leader() if who == "leader" else who


async def assert_failed(cluster: Cluster, name: str, reason: str) -> None:
    """It stays down, and the operator is told why, by whatever he asks."""
    await cluster.wait_for_state(name, "failed")
    shown = next(each for each in (await cluster.run_json("status"))["services"] if each["name"] == name)
    assert shown["state"] == "failed"
    assert reason in shown["reason"]
    assert "delete" in shown["reason"], "it says what to do"
    assert_named(await cluster.verify(patience_s=0), name)


def assert_named(verdict: Verdict, name: str) -> None:
    """`bazaar verify` does not pass, and says who is to blame."""
    assert not verdict.passed
    assert any(name in problem for problem in verdict.problems), verdict.problems


async def replace_disk(cluster: Cluster, name: str) -> None:
    """What the reason of a failure, and docs/operations.md, tell the operator to do."""
    cluster.delete_database(name)
    code, _, errors = await cluster.run("start", name)
    assert code == 0, errors
    await cluster.wait_for_state(name, "running")
    code, output, errors = await cluster.run("verify")
    assert code == 0, output + errors


def said(cluster: Cluster, name: str, words: str) -> bool:
    """Whether a service's log holds these words."""
    return words in (cluster.data_dir / "logs" / f"{name}.log").read_text()


# Calls that fail.


@needs_faults
@pytest.mark.parametrize("fault", ["fsync fails", "write fails", "read fails"])
async def test_leader_fails_and_trades_go_on_without_it_when_its_disk_breaks(faulty: Bazaar, fault: Fault) -> None:
    cluster = cluster_of(faulty)
    leader = await cluster.leader()
    async with faulty.trading() as traders:
        await cluster.break_disk(leader, fault)
        await assert_failed(cluster, leader, f"{leader}.db cannot be trusted")
        await traders.more(20)
        cluster.delete_database(leader)
        await cluster.start(leader)
        await cluster.wait_for_state(leader, "running")


@needs_faults
@pytest.mark.parametrize("fault", ["fsync fails", "write fails"])
async def test_trades_wait_until_the_catalog_is_rebuilt_when_its_disk_breaks(faulty: Bazaar, fault: Fault) -> None:
    cluster = cluster_of(faulty)
    async with faulty.trading() as traders:
        await cluster.break_disk("catalog", fault)
        await assert_failed(cluster, "catalog", "catalog.db cannot be trusted")
        cluster.delete_database("catalog")
        await cluster.start("catalog")
        await traders.more(20)


@needs_faults
@pytest.mark.parametrize("who", ["catalog", "leader"])
async def test_process_comes_back_with_its_data_when_it_found_no_room(faulty: Bazaar, who: str) -> None:
    cluster = cluster_of(faulty)
    name = await name_of(faulty, who)
    async with faulty.trading() as traders:
        old = await cluster.pid(name)
        await cluster.break_disk(name, "no room")
        await cluster.wait_for_new_pid(name, old)
        assert said(cluster, name, f"no room on the disk for {name}.db")
        await traders.more(20)


@needs_faults
async def test_nothing_is_acknowledged_that_was_not_synced_when_there_is_one_replica(tmp_path: Path) -> None:
    """Its file is kept here: there is no other replica to rebuild it from, and the catalog has what is missing."""
    async with open_bazaar(lambda: FaultyCluster(tmp_path / "data", replicas=1)) as bazaar:
        cluster = cluster_of(bazaar)
        async with bazaar.trading():
            pass
        await cluster.break_disk("order-1", "fsync fails")
        trade = {"name": "Boeing", "type": "buy", "quantity": 1}
        answer = await bazaar.http.post(f"{bazaar.url}/orders", json=trade, headers={"Idempotency-Key": "unsynced"})
        assert answer.status_code in {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT}
        await cluster.wait_for_state("order-1", "failed")
        await cluster.start("order-1")
        async with bazaar.trading():
            pass
        async with cluster.client() as client:
            await client.trade("buy", "Boeing", 1, "unsynced")
        assert sum(row.key == "unsynced" for row in await bazaar.log()) == 1


# No room.


@pytest.mark.parametrize("who", ["catalog", "leader"])
async def test_process_comes_back_with_its_data_when_its_file_could_not_grow(bazaar: Bazaar, who: str) -> None:
    cluster = bazaar.cluster
    name = await name_of(bazaar, who)
    async with bazaar.trading() as traders:
        await traders.more(100)
        process = psutil.Process(await cluster.pid(name))
        written = cluster.database(name).with_suffix(".db-wal").stat().st_size
        process.rlimit(psutil.RLIMIT_FSIZE, (written, psutil.RLIM_INFINITY))
        await cluster.wait_for_new_pid(name, process.pid)
        await traders.more(20)
    assert said(cluster, name, f"no room on the disk for {name}.db")


@pytest.mark.parametrize("who", ["catalog", "order-3"])
async def test_service_comes_back_when_there_is_room_again_on_its_disk(tmp_path: Path, who: str) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "disk", SMALL_DISK))
        data = tmp_path / "data"
        data.mkdir()
        (data / f"{who}.db").symlink_to(disk / f"{who}.db")
        async with open_bazaar(lambda: Cluster(data)) as bazaar, bazaar.trading() as traders:
            with without_room(disk):
                service = await bazaar.cluster.wait_for_state(who, "down")
                assert service.reason is not None
                assert "no room on the disk" in service.reason, "the log may have had no room to say so"
                assert said(bazaar.cluster, who, f"no room on the disk for {who}.db")
                if who != "catalog":
                    await traders.more(20)
                service = await bazaar.cluster.service(who)

                async def was_started_again() -> bool:
                    now = await bazaar.cluster.service(who)
                    assert now.state != "failed", now.reason
                    return (now.restarts or 0) >= (service.restarts or 0) + 2

                await bazaar.cluster.wait_until(was_started_again, f"{who} is started again, in vain")
            await bazaar.cluster.wait_for_state(who, "running")
            await traders.more(20)


async def test_bazaar_comes_back_when_there_is_room_again_on_the_disk_of_all(tmp_path: Path) -> None:
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "disk", 4 * SMALL_DISK))
        async with open_bazaar(lambda: Cluster(disk / "data")) as bazaar, bazaar.trading() as traders:
            with without_room(disk):
                await bazaar.cluster.wait_for_state("catalog", "down")
            await traders.more(20)
            await bazaar.cluster.wait_ready()


# What is read is not what was written.


@pytest.mark.parametrize("who", ["catalog", "leader"])
@pytest.mark.parametrize("how", ["overwritten", "cut short", "noise"])
async def test_service_fails_at_its_start_until_its_file_is_deleted_when_that_is_damaged(
    bazaar: Bazaar, who: str, how: Literal["overwritten", "cut short", "noise"]
) -> None:
    cluster = bazaar.cluster
    async with bazaar.trading():
        pass
    name = await name_of(bazaar, who)
    await cluster.kill(name)
    damage(cluster.database(name), how)
    await cluster.start(name)
    await assert_failed(cluster, name, f"{name}.db cannot be trusted")
    await replace_disk(cluster, name)


async def test_catalog_fails_until_its_file_is_deleted_when_its_last_commits_are_gone(bazaar: Bazaar) -> None:
    cluster = bazaar.cluster
    await cluster.kill("catalog")
    fold(cluster.database("catalog"))
    await cluster.start("catalog")
    async with bazaar.trading():
        pass
    await cluster.kill("catalog")
    cluster.database("catalog").with_suffix(".db-wal").write_bytes(b"")
    await cluster.start("catalog")
    await assert_failed(cluster, "catalog", "its file lost something")
    await replace_disk(cluster, "catalog")


async def test_replica_fetches_what_is_missing_when_its_last_commits_are_gone(bazaar: Bazaar) -> None:
    leader = await bazaar.cluster.leader()
    async with bazaar.trading():
        pass
    await bazaar.cluster.kill(leader)
    bazaar.cluster.database(leader).with_suffix(".db-wal").write_bytes(b"")
    await bazaar.cluster.start(leader)
    await bazaar.cluster.wait_for_state(leader, "running")


@pytest.mark.parametrize(
    ("who", "flip"),
    [
        ("leader", "UPDATE log SET quantity = quantity + 64 WHERE position = 2"),
        ("catalog", "UPDATE stocks SET quantity = quantity + 64 WHERE name = 'Tesla'"),
    ],
    ids=["leader", "catalog"],
)
async def test_verify_names_the_service_when_a_bit_in_a_row_was_flipped(bazaar: Bazaar, who: str, flip: str) -> None:
    """SQLite has no checksums; the digests and the sums of `bazaar verify` are what finds it."""
    cluster = bazaar.cluster
    async with bazaar.trading():
        pass
    name = await name_of(bazaar, who)
    await cluster.kill(name)
    connection = apsw.Connection(str(cluster.database(name)))
    connection.execute(flip)
    assert connection.changes() == 1
    connection.close()
    await cluster.start(name)
    await cluster.wait_ready()
    assert_named(await cluster.verify(), name)
    await cluster.kill(name)
    await replace_disk(cluster, name)
