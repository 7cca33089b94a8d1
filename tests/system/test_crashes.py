"""Processes that are killed or paused while customers trade.

No customer sees an error, or `Traders` would fail; after each test the whole bazaar is checked. Which replica leads in
the end is not asserted: on a machine that is busy, a front-end may take any of them for silent.
"""

import os
import signal

from tests.support.system_bazaar import Bazaar
from tests.support.system_evidence import read_log


async def follower(bazaar: Bazaar) -> str:
    """A replica that no front-end has selected."""
    services = (await bazaar.cluster.status()).services
    leaders = {f"order-{each.leader}" for each in services}
    return next(each.name for each in services if each.name.startswith("order-") and each.name not in leaders)


async def test_another_replica_leads_when_the_leader_is_killed(bazaar: Bazaar) -> None:
    leader = await bazaar.cluster.leader()
    async with bazaar.trading() as traders:
        old = await bazaar.cluster.kill_pid(leader)
        await bazaar.cluster.wait_for_other_leader(leader)
        await traders.more(20)
        await bazaar.cluster.wait_for_new_pid(leader, old)


async def test_trades_go_on_when_a_follower_is_killed(bazaar: Bazaar) -> None:
    name = await follower(bazaar)
    async with bazaar.trading() as traders:
        old = await bazaar.cluster.kill_pid(name)
        await traders.more(20)
        await bazaar.cluster.wait_for_new_pid(name, old)


async def test_trades_wait_and_go_on_when_the_catalog_is_killed(bazaar: Bazaar) -> None:
    async with bazaar.trading() as traders:
        old = await bazaar.cluster.kill_pid("catalog")
        await bazaar.cluster.wait_for_new_pid("catalog", old)
        await traders.more(20)


async def test_customers_turn_to_another_front_end_when_theirs_is_killed(bazaar: Bazaar) -> None:
    async with bazaar.trading() as traders:
        old = await bazaar.cluster.kill_pid("front-end-1")
        await traders.more(20)
        await bazaar.cluster.wait_for_new_pid("front-end-1", old)


async def test_paused_leader_changes_nothing_when_it_goes_on_after_another_has_taken_over(bazaar: Bazaar) -> None:
    leader = await bazaar.cluster.leader()
    async with bazaar.trading() as traders:
        # In the middle of its work: trades of before are in its queue, in its memory and on their way.
        pid = await bazaar.cluster.kill_pid(leader, signal.SIGSTOP)
        try:
            await bazaar.cluster.wait_for_state(leader, "paused")
            await bazaar.cluster.wait_for_other_leader(leader)
            await traders.more(20)
        finally:
            os.kill(pid, signal.SIGCONT)
        await bazaar.cluster.wait_for_state(leader, "running")
        await traders.more(20)
        assert await bazaar.cluster.pid(leader) == pid, "it was not restarted"


async def test_killed_service_stays_down_when_the_operator_has_killed_it(bazaar: Bazaar) -> None:
    name = await follower(bazaar)
    code, output, _ = await bazaar.cluster.run("kill", name)
    assert (code, output) == (0, f"{name}: down\n")
    restarts = (await bazaar.cluster.service(name)).restarts
    async with bazaar.trading():
        # While another one dies and is back, this one would have been started as well.
        old = await bazaar.cluster.kill_pid("front-end-2")
        await bazaar.cluster.wait_for_new_pid("front-end-2", old)
        service = await bazaar.cluster.service(name)
        assert (service.state, service.pid, service.restarts) == ("down", None, restarts)
    await bazaar.cluster.start(name)
    await bazaar.cluster.wait_for_state(name, "running")


async def test_replica_fetches_what_it_missed_from_the_others_when_the_catalog_is_down(bazaar: Bazaar) -> None:
    name = await follower(bazaar)
    await bazaar.cluster.kill(name)
    async with bazaar.trading():
        pass
    wanted = (await bazaar.cluster.service("catalog")).head
    assert wanted is not None
    await bazaar.cluster.kill("catalog")

    def fetched() -> list[int]:
        event = "fetched missed entries from the other replicas"
        return [each["entries"] for each in bazaar.cluster.events(name) if each["event"] == event]

    async def is_whole() -> bool:
        missing = wanted.position - len(read_log(bazaar.cluster.database(name)))
        before = len(fetched())
        await bazaar.cluster.start(name)

        async def has_fetched() -> list[int] | None:
            return fetched()[before:] or None

        (entries,) = await bazaar.cluster.wait_until(has_fetched, f"{name} has fetched")
        if entries == missing > 0 and (await bazaar.cluster.service(name)).head == wanted:
            return True
        await bazaar.cluster.kill(name)  # on a machine that is busy, the others may have answered too late
        return False

    await bazaar.cluster.wait_until(is_whole, f"{name} has what it missed")
    await bazaar.cluster.start("catalog")
