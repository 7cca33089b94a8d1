"""The whole bazaar is stopped or killed, and started again on the same data."""

import signal
import sys

from tests.support.system_bazaar import Bazaar


async def test_orders_are_there_again_when_the_supervisor_was_killed_under_load(bazaar: Bazaar) -> None:
    async with bazaar.trading() as traders:
        # The kernel kills every service with it, all at the same moment.
        await bazaar.cluster.kill_supervisor()
        await bazaar.cluster.start_up()
        await traders.more(10)


async def test_orders_are_there_again_when_the_bazaar_was_stopped_by_ctrl_c(small_bazaar: Bazaar) -> None:
    async with small_bazaar.trading() as traders:
        status = await small_bazaar.cluster.shut_down(signal.SIGINT)  # and no process is left
        assert status == 130
        await small_bazaar.cluster.start_up()
        await traders.more(10)


async def test_every_look_up_asks_the_catalog_when_the_cache_is_off(small_bazaar: Bazaar) -> None:
    async with small_bazaar.customer() as customer:
        await customer.trade("buy", "IBM", 1)
    for _ in range(2):
        answer = await small_bazaar.http.get(f"{small_bazaar.url}/stocks/IBM")
        assert answer.headers["x-cache"] == "off"
    cache = (await small_bazaar.http.get(f"{small_bazaar.url}/cache")).json()["data"]
    assert (cache["capacity"], cache["size"], cache["hits"]) == (0, 0, 0)


async def test_no_request_fails_when_every_process_is_restarted_one_by_one(bazaar: Bazaar) -> None:
    """Followers, leader, catalog, front-ends: each is told to stop (SIGTERM), as systemd would, and comes back."""
    leader = await bazaar.cluster.leader()
    replicas = [each.name for each in bazaar.cluster.topology.of("order") if each.name != leader]
    front_ends = [each.name for each in bazaar.cluster.topology.of("front-end")]
    async with bazaar.trading(4) as traders:
        told = len(bazaar.ledger.told)
        for name in (*replicas, leader, "catalog", *front_ends):
            old = await bazaar.cluster.kill_pid(name, signal.SIGTERM)
            await bazaar.cluster.wait_for_new_pid(name, old)
            await bazaar.cluster.wait_ready()
            await traders.more(5)  # and no customer has seen an error: `more` would say so
    waits = [each.answered - each.sent for each in bazaar.ledger.told[told:]]
    sys.stdout.write(f"{len(waits)} trades, the longest took {max(waits):.2f} s\n")
