"""Customers who know two front-ends notice nothing: not when every process is replaced, nor when a front-end dies."""

import asyncio
import json
import sys
from functools import partial

from services.cluster.topology import Cluster as Topology
from tests.support.cluster import Cluster
from tests.support.system_bazaar import Bazaar

CLIENTS = 4
ITERATIONS = 250
ORDERS = 40
"""After so many a front-end is killed; the load places about 400."""


async def test_nothing_is_lost_and_nobody_sees_an_error_when_every_process_is_replaced(bazaar: Bazaar) -> None:
    leader, before = await bazaar.cluster.leader(), await pids(bazaar.cluster)
    assert len(bazaar.cluster.urls) == 2
    async with bazaar.trading(CLIENTS) as traders:
        told = len(bazaar.ledger.told)
        code, output, errors = await bazaar.cluster.run("restart", "--rolling")
        assert (code, errors) == (0, ""), output
        await traders.more(5)  # and no customer has seen an error: `more` would say so
    after = await pids(bazaar.cluster)

    assert before.keys() == after.keys() == {each.name for each in bazaar.cluster.topology.services}
    assert not set(before.values()) & set(after.values()), "a process was not replaced"
    order = [line.split()[1] for line in output.splitlines()]
    assert sorted(order) == sorted(before)
    assert order == sorted(order, key=lambda name: place(bazaar.cluster.topology, name, leader))
    waits = [each.answered - each.sent for each in bazaar.ledger.told[told:]]
    sys.stdout.write(f"{len(waits)} trades meanwhile, the longest took {max(waits):.2f} s\n{output}")
    code, output, errors = await bazaar.cluster.run("verify")
    assert (code, errors) == (0, ""), output


async def test_load_sees_no_error_and_no_order_twice_when_a_front_end_is_killed_under_it(bazaar: Bazaar) -> None:
    cluster, first = bazaar.cluster, bazaar.cluster.topology.of("front-end")[0]
    placed = sum(row.number is not None for row in await bazaar.log())
    flags = ["--clients", str(CLIENTS), "--p", "0.6", "--iterations", str(ITERATIONS), "--url", ",".join(cluster.urls)]
    load = asyncio.create_task(cluster.run("load", *flags, "--json"))
    try:
        await cluster.wait_until(partial(has_orders, cluster, placed + ORDERS), f"{ORDERS} orders")
        await cluster.kill(first.name)  # and it stays down
        assert not load.done(), "the load was over before the front-end was killed"
        code, output, errors = await load
    finally:
        load.cancel()
        await cluster.start(first.name)
        await cluster.wait_ready()

    assert (code, errors) == (0, ""), output
    report = json.loads(output)
    counts = report["counts"]
    assert report["settings"]["urls"] == cluster.urls
    assert (report["errors"], counts["wrong"]) == ([], 0)
    assert counts["checked"] == counts["acknowledged"]
    assert counts["retries"] > 0
    now = sum(row.number is not None for row in await bazaar.log())
    assert now - placed == counts["acknowledged"], "an order was executed that nobody was told of, or twice"


async def pids(cluster: Cluster) -> dict[str, int | None]:
    """The process of every service."""
    return {each.name: each.pid for each in (await cluster.status()).services}


async def has_orders(cluster: Cluster, orders: int) -> bool:
    """Whether so many orders have been placed."""
    services = (await cluster.status()).services
    return any(each.head is not None and each.head.number >= orders for each in services)


def place(topology: Topology, name: str, leader: str) -> int:
    """When a service's turn comes: followers, leader, catalog, front-ends."""
    kinds = {each.name: each.kind for each in topology.services}
    return 1 if name == leader else {"order": 0, "catalog": 2, "front-end": 3}[kinds[name]]
