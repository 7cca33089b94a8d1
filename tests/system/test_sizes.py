"""Bazaars of other sizes than the usual one; the small one has 2 replicas."""

import pytest

from tests.support.system_bazaar import open_bazaar
from tests.system.conftest import MakeCluster


async def test_orders_are_there_again_when_the_only_replica_is_killed(make_cluster: MakeCluster) -> None:
    async with open_bazaar(lambda: make_cluster(replicas=1)) as bazaar, bazaar.trading() as traders:
        old = await bazaar.cluster.kill_pid("order-1")
        await bazaar.cluster.wait_for_new_pid("order-1", old)
        await traders.more(10)


@pytest.mark.slow
async def test_every_replica_holds_every_order_when_there_are_nine(make_cluster: MakeCluster) -> None:
    async with open_bazaar(lambda: make_cluster(replicas=9)) as bazaar, bazaar.trading():
        assert len((await bazaar.cluster.status()).services) == 11
