"""The `bazaar` command as its users run it: processes of their own, exit codes, JSON on stdout."""

import asyncio

from tests.support.system_bazaar import Bazaar


async def test_orders_and_stocks_are_printed_when_a_customer_uses_the_command_line(bazaar: Bazaar) -> None:
    run_json = bazaar.cluster.run_json
    bought = await run_json("buy", "Boeing", "3")
    assert bought == {"number": bought["number"], "name": "Boeing", "type": "buy", "quantity": 3}
    sold, order, stock = await asyncio.gather(
        run_json("sell", "Intel", "1"), run_json("order", str(bought["number"])), run_json("stock", "Boeing")
    )
    assert sold == {"number": bought["number"] + 1, "name": "Intel", "type": "sell", "quantity": 1}
    assert order == bought
    shown = (await bazaar.http.get(f"{bazaar.url}/stocks/Boeing")).json()["data"]
    assert stock == {**shown, "cache": stock["cache"]}


async def test_exit_code_and_one_line_tell_why_when_a_command_cannot_be_done(bazaar: Bazaar) -> None:
    answer = await bazaar.cluster.run("buy", "Oracle", "1000000", "--json")
    assert answer == (1, "", "bazaar: Oracle: not enough stock; see how much there is: bazaar stock Oracle\n")


async def test_every_service_is_shown_when_the_bazaar_runs(bazaar: Bazaar) -> None:
    status = await bazaar.cluster.run_json("status")
    assert status["leader"] in {1, 2, 3}
    names = ["catalog", "order-1", "order-2", "order-3", "front-end-1", "front-end-2"]
    assert [(each["name"], each["state"]) for each in status["services"]] == [(name, "running") for name in names]
    assert len({each["pid"] for each in status["services"]}) == len(names)
