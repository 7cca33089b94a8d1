"""Bazaars of other sizes than the usual one."""

import pytest

from tests.support.system_bazaar import open_bazaar
from tests.system.conftest import MakeCluster


@pytest.mark.parametrize("replicas", [1, pytest.param(9, marks=pytest.mark.slow)])
async def test_orders_survive_the_leader_when_there_are_so_many_replicas(
    make_cluster: MakeCluster, replicas: int
) -> None:
    async with open_bazaar(lambda: make_cluster(replicas=replicas)) as bazaar:
        leader = await bazaar.cluster.leader()
        async with bazaar.trading() as traders:
            old = await bazaar.cluster.kill_pid(leader)
            await traders.more(10)
            await bazaar.cluster.wait_for_new_pid(leader, old)
        assert leader == f"order-{replicas}"
