"""The whole bazaar is stopped or killed, and started again on the same data."""

import signal

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
