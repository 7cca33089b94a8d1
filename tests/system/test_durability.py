"""`--durability process`: what outlives the processes, and what is left when all disks forget at the same moment."""

import os

import httpx

from services.common.models import CatalogStatus, Head
from tests.support.cluster import Cluster
from tests.support.disk_faults import fold
from tests.support.system_bazaar import open_bazaar
from tests.support.system_evidence import read_log
from tests.system.conftest import MakeCluster

REPLICAS = ("order-1", "order-2", "order-3")
KEPT = dict(zip(REPLICAS, (0.3, 0.6, 0.5), strict=True))
"""How much of the newest commits each replica's disk keeps; the catalog's keeps all."""
BEFORE, LATER = 5, 40
STUCK = "not level with the catalog, and nobody has the entries it lacks"


async def test_nothing_is_lost_when_every_process_is_killed_and_no_commit_waits_for_its_fsync(
    make_cluster: MakeCluster,
) -> None:
    async with open_bazaar(lambda: make_cluster("--durability", "process")) as bazaar, bazaar.trading() as traders:
        await traders.more(20)
        await bazaar.cluster.kill_supervisor()
        await bazaar.cluster.start_up()
        await traders.more(10)


async def test_bazaar_goes_on_with_what_a_replica_kept_when_the_power_was_lost(make_cluster: MakeCluster) -> None:
    """No replica has what the catalog takes all of them to have; docs/operations.md tells what to do."""
    cluster = make_cluster("--durability", "process")
    async with cluster:
        await trade(cluster, BEFORE)
        await cluster.kill_supervisor()
        for name in ("catalog", *REPLICAS):
            fold(cluster.database(name))
        await cluster.start_up()
        await trade(cluster, LATER)
        await wait_for_base(cluster)
        await trade(cluster, 1)  # the catalog keeps `base` with it
        await cluster.wait_level()
        log = read_log(cluster.database("order-1"))
        await cluster.kill_supervisor()
        for name, share in KEPT.items():
            forget(cluster, name, share)

        await cluster.launch()
        kept = await wait_for_what_was_kept(cluster)
        assert BEFORE < kept.position < BEFORE + LATER
        async with httpx.AsyncClient(timeout=60.0) as client:
            answer = await client.get(f"{cluster.urls[0]}/orders/{len(log)}")
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, "nobody says that there is no such order"

        await cluster.kill("catalog")
        cluster.delete_database("catalog")
        await cluster.start("catalog")
        await cluster.wait_ready()
        assert (await cluster.verify()).passed
        assert read_log(cluster.database("order-1")) == log[: kept.position]
        await trade(cluster, 1)
        assert (await cluster.verify()).passed


async def trade(cluster: Cluster, count: int) -> None:
    """Sell so many times: each is accepted."""
    async with cluster.client() as client:
        for _ in range(count):
            await client.sell("Apple", 1)


def forget(cluster: Cluster, name: str, share: float) -> None:
    """Leave of the newest commits of a service only this share, as a loss of power may."""
    newest = cluster.database(name).with_suffix(".db-wal")
    os.truncate(newest, int(share * newest.stat().st_size))


async def wait_for_base(cluster: Cluster) -> None:
    """Wait until the catalog knows that every replica has everything."""

    async def knows() -> bool:
        status = await cluster.ask("catalog", "/status", CatalogStatus)
        return status.head is not None and status.base == status.head.position

    await cluster.wait_until(knows, "the catalog knows that every replica has everything")


async def wait_for_what_was_kept(cluster: Cluster) -> Head:
    """Wait until the replicas have from each other what there is, and none is level; gives their head."""

    async def shared() -> Head | None:
        services = (await cluster.status()).services
        replicas = [each for each in services if each.name in REPLICAS]
        head = replicas[0].head
        is_stuck = all(each.head == head and each.reason == STUCK for each in replicas)
        has_front_end = any(each.role == "front-end" and each.leader is not None for each in services)
        return head if is_stuck and has_front_end else None

    return await cluster.wait_until(shared, "every replica has what one of them kept, and none is level")
