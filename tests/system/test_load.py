"""The promise to every user: a load sees no error while leaders are killed under it."""

import asyncio
import json
from functools import partial
from typing import Any

from tests.support.cluster import Cluster
from tests.support.system_bazaar import Bazaar

CLIENTS = 5
ORDERS = (25, 110)
"""After so many a leader is killed; the first load places about 240."""


async def test_load_sees_no_error_when_the_leader_is_killed_twice(bazaar: Bazaar) -> None:
    for iterations in (120, 500, 2_000):
        before = await bazaar.log()
        placed = sum(row.number is not None for row in before)
        report, kills = await load_and_kill(bazaar.cluster, iterations, placed)
        counts = report["counts"]
        assert (report["errors"], report["failed_checks"], counts["errors"], counts["wrong"]) == ([], [], 0, 0)
        assert counts["look_ups"] == CLIENTS * iterations
        assert counts["checked"] == counts["acknowledged"]
        new = (await bazaar.log())[len(before) :]
        assert sum(row.number is not None for row in new) == counts["acknowledged"], "some orders nobody knows of"
        assert sum(row.number is None for row in new) == counts["refused"]
        if kills == len(ORDERS):
            break
    else:
        raise AssertionError("every load was over before the second kill")
    code, output, errors = await bazaar.cluster.run("verify")
    assert (code, errors) == (0, "")
    assert output.startswith(f"3 of 3 replicas hold the same {placed + counts['acknowledged']:,} orders")


async def load_and_kill(cluster: Cluster, iterations: int, placed: int) -> tuple[Any, int]:
    """Run `bazaar load` and kill leaders under it; gives its report and how many were killed before it was over."""
    flags = ["--clients", str(CLIENTS), "--p", "0.4", "--iterations", str(iterations), "--json"]
    load = asyncio.create_task(cluster.run("load", *flags))

    async def leader_after(orders: int) -> str | None:
        """The leader, once there are so many new orders; nobody when the load is over."""
        services = (await cluster.status()).services
        leads = (each for each in services if each.role == "leader" and each.pid is not None)
        leader = next((each.name for each in leads if each.head and each.head.number >= placed + orders), None)
        return "" if load.done() else leader

    killed: dict[str, int] = {}
    kills = 0
    for orders in ORDERS:
        leader = await cluster.wait_until(partial(leader_after, orders), f"{orders} orders")
        if leader:
            killed[leader] = await cluster.kill_pid(leader)
            kills += not load.done()
    code, output, errors = await load
    assert (code, errors) == (0, ""), output
    for name, pid in killed.items():
        await cluster.wait_for_new_pid(name, pid)
    return json.loads(output), kills
