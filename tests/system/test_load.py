"""The promise to every user: a load sees no error while leaders are killed under it."""

import asyncio
import json

from tests.support.system_bazaar import Bazaar

CLIENTS = 5
ITERATIONS = 120


async def test_load_sees_no_error_when_the_leader_is_killed_twice(bazaar: Bazaar) -> None:
    cluster = bazaar.cluster
    before = await bazaar.log()
    placed = sum(row.number is not None for row in before)

    async def wait_for(orders: int) -> str:
        """Wait for so many new orders; gives the leader of that moment."""

        async def are_there() -> str | None:
            services = (await cluster.status()).services
            leads = (each for each in services if each.role == "leader" and each.pid is not None)
            return next((each.name for each in leads if each.head and each.head.number >= placed + orders), None)

        return await cluster.wait_until(are_there, f"{orders} orders")

    flags = ["--clients", str(CLIENTS), "--p", "0.4", "--iterations", str(ITERATIONS), "--json"]
    load = asyncio.create_task(cluster.run("load", *flags))
    killed = {}
    for orders in (25, 110):  # of about 240
        leader = await wait_for(orders)
        killed[leader] = await cluster.kill_pid(leader)
        assert not load.done(), "it goes on while the leader is killed"
    code, output, errors = await load
    report = json.loads(output)
    assert (code, errors, report["errors"], report["failed_checks"]) == (0, "", [], [])
    for name, pid in killed.items():
        await cluster.wait_for_new_pid(name, pid)

    counts = report["counts"]
    assert counts["look_ups"] == CLIENTS * ITERATIONS
    assert counts["checked"] == counts["acknowledged"] > 110
    log = await bazaar.log()
    new = log[len(before) :]
    assert sum(row.number is not None for row in new) == counts["acknowledged"], "there are orders that nobody knows of"
    assert sum(row.number is None for row in new) == counts["refused"]
    code, output, errors = await cluster.run("verify")
    assert (code, errors) == (0, "")
    assert output.startswith(f"3 of 3 replicas hold the same {placed + counts['acknowledged']:,} orders")
