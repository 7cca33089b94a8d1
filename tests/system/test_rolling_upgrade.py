"""Customers who know two front-ends notice nothing: not when every process is replaced, nor when a front-end dies."""

import asyncio
import json
import sys
from collections.abc import Collection
from typing import Any

from services.cluster.topology import Cluster as Topology
from tests.support.cluster import Cluster
from tests.support.system_bazaar import Bazaar

CLIENTS = 4
ORDERS = 40
"""After so many a front-end is killed; the first load places about 400."""


async def test_nothing_is_lost_and_nobody_sees_an_error_when_every_process_is_replaced(bazaar: Bazaar) -> None:
    before = await pids(bazaar.cluster)
    services = (await bazaar.cluster.status()).services
    leaders = {each.name for each in services if each.role == "leader"}  # a busy machine's front-ends may disagree
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
    assert order == sorted(order, key=lambda name: place(bazaar.cluster.topology, name, leaders))
    waits = [each.answered - each.sent for each in bazaar.ledger.told[told:]]
    sys.stdout.write(f"{len(waits)} trades meanwhile, the longest took {max(waits):.2f} s\n{output}")
    code, output, errors = await bazaar.cluster.run("verify")
    assert (code, errors) == (0, ""), output


async def test_load_sees_no_error_and_no_order_twice_when_a_front_end_is_killed_under_it(bazaar: Bazaar) -> None:
    cluster = bazaar.cluster
    for iterations in (250, 1_000, 4_000):
        placed = await orders_of(bazaar)
        report, was_in_time = await load_and_kill(cluster, "front-end-1", iterations, placed)
        counts = report["counts"]
        assert report["settings"]["urls"] == cluster.urls
        assert (report["errors"], counts["wrong"]) == ([], 0)
        assert counts["checked"] == counts["acknowledged"]
        placed_now = await orders_of(bazaar) - placed
        assert placed_now == counts["acknowledged"], "an order was executed that nobody was told of, or twice"
        if was_in_time:
            assert counts["retries"] > 0
            break
    else:
        raise AssertionError("every load was over before the front-end was killed")


async def load_and_kill(cluster: Cluster, name: str, iterations: int, placed: int) -> tuple[Any, bool]:
    """Run `bazaar load` with every front-end's address and kill one under it; gives its report, and whether it was."""
    flags = ["--clients", str(CLIENTS), "--p", "0.6", "--iterations", str(iterations), "--url", ",".join(cluster.urls)]
    load = asyncio.create_task(cluster.run("load", *flags, "--json"))

    async def has_begun() -> bool:
        services = (await cluster.status()).services
        heads = [each.head.number for each in services if each.head is not None]
        return load.done() or max(heads, default=0) >= placed + ORDERS

    try:
        await cluster.wait_until(has_begun, f"{ORDERS} orders")
        await cluster.kill(name)  # and it stays down until the load is over
        was_in_time = not load.done()
        code, output, errors = await load
    finally:
        load.cancel()
        await cluster.start(name)
        await cluster.wait_ready()
    assert (code, errors) == (0, ""), output
    return json.loads(output), was_in_time


async def orders_of(bazaar: Bazaar) -> int:
    """How many orders there are."""
    return sum(row.number is not None for row in await bazaar.log())


async def pids(cluster: Cluster) -> dict[str, int | None]:
    """The process of every service."""
    return {each.name: each.pid for each in (await cluster.status()).services}


def place(topology: Topology, name: str, leaders: Collection[str]) -> int:
    """When a service's turn comes: followers, leaders, catalog, front-ends."""
    kinds = {each.name: each.kind for each in topology.services}
    return 1 if name in leaders else {"order": 0, "catalog": 2, "front-end": 3}[kinds[name]]
