"""The front-ends' sessions where several catalogs share them: who is told, who is waited for, and for how long."""

import asyncio
import itertools
from pathlib import Path

import pytest

from services.common.models import SessionRequest
from services.common.timing import (
    DECIDE_ANSWER_S,
    LEASE_AT_CATALOG_S,
    PROBE_AFTER_S,
    SILENT_S,
    TELL_S,
)
from tests.support.catalog_entries import buy
from tests.support.catalog_front_end import CacheHolder
from tests.support.catalog_world import Gate, Process, in_catalog_time
from tests.support.fake_time import until
from tests.support.shared_catalogs import SharedWorld, keys, one_sequence


@pytest.mark.parametrize("through", ["a", "b"])
@in_catalog_time
async def test_a_session_is_told_when_it_was_opened_between_announcement_and_commit(
    tmp_path: Path, through: str
) -> None:
    """H9: its front-end may have read, and kept, the state before."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        gate = world.place("a").points.hooks["etcd.commit.before"] = Gate()
        deciding = asyncio.create_task(one.trade(world.leader, buy("a", 1)))
        await gate.reached.wait()
        opened = await (one if through == "a" else other).session("open", holder)
        assert (opened.outcome, opened.floor) == ("opened", 0)
        assert await other.quantity() == 100, "and it has read what was before"
        gate.open()
        await deciding
        assert holder.floors == [{"GameStart": 1}]
        assert one.catalog.conflicts == 1
    await one_sequence(world)


@in_catalog_time
async def test_a_session_belongs_to_every_catalog(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        assert (await one.session("renew", holder)).outcome == "no_session"
        await one.session("open", holder)
        assert (await other.session("renew", holder)).outcome == "renewed"
        assert (await other.session("open", holder)).outcome == "no_session", "an id is opened once"
        await other.trade(world.leader, buy("a"))
        assert holder.floors == [{"GameStart": 1}]
        assert (await other.session("end", holder)).outcome == "ended"
        assert (await one.session("renew", holder)).outcome == "no_session"
        await one.trade(world.leader, buy("b"))
        assert len(holder.floors) == 1
        assert keys(world, "/sessions/") == []


@in_catalog_time
async def test_the_floor_is_the_head_at_the_opening(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        await one.trade(world.leader, buy("a"), buy("b"))
        assert (await other.session("open", holder)).floor == 2


@in_catalog_time
async def test_a_front_end_that_hangs_and_renews_is_revoked_and_waited_for(tmp_path: Path) -> None:
    """H11: trades wait for its lease and no longer."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    gate = Gate()
    async with world.running("a") as one, world.running("b") as other:
        await one.session("open", holder)
        holder.before["/invalidate"] = gate
        began = world.place("a").clock()
        deciding = asyncio.create_task(one.trade(world.leader, buy("a")))
        renewed_at = began
        while not deciding.done():
            if (await other.session("renew", holder)).outcome == "renewed":
                renewed_at = world.place("a").clock()
            is_over = world.place("b").clock() - renewed_at >= LEASE_AT_CATALOG_S - 0.01
            assert await other.quantity() in ({99, 100} if is_over else {100})
            await asyncio.sleep(0.01)
        await deciding
        took = world.place("a").clock() - began
        assert TELL_S + LEASE_AT_CATALOG_S <= took <= TELL_S + LEASE_AT_CATALOG_S + 0.1
        assert began + took - renewed_at >= LEASE_AT_CATALOG_S - 0.01, "no lease outlives the commit"
        assert one.catalog.expired_sessions == 1
        gate.open()
        assert (await other.session("renew", holder)).outcome == "no_session"
        await until(lambda: not keys(world, "/sessions/"))
    await one_sequence(world)


@in_catalog_time
async def test_a_session_that_another_catalog_revoked_is_waited_for_from_when_that_was_known(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        await one.session("open", holder)
        world.place("a").network.fault(holder.url, "hangs")
        revoked = world.place("a").points.hooks["etcd.session.revoked"] = Gate()
        deciding = asyncio.create_task(one.trade(world.leader, buy("a")))
        await revoked.reached.wait()
        began = world.place("b").clock()
        told = await other.decide(world.replicas[2].ask(buy("b")))
        assert world.place("b").clock() - began >= LEASE_AT_CATALOG_S - 0.01
        assert holder.floors == []
        revoked.open()
        await deciding
        assert [entry.key for entry in told.entries] == ["b"]
    await one_sequence(world)


async def open_at(world: SharedWorld, holder: CacheHolder, *catalogs: Process) -> None:
    """Open a session that names these catalogs as its grantors, and have each renew it once."""
    grantors = [(await each.session("renew", holder, "none")).grantor for each in catalogs]
    assert len(set(grantors)) == len(catalogs)
    assert (await catalogs[0].session("open", holder, grantors=grantors)).outcome == "opened"
    for each, grantor in zip(catalogs, grantors, strict=True):
        said = await each.session("renew", holder)
        assert (said.outcome, said.grantor) == ("renewed", grantor)


@in_catalog_time
async def test_a_grantor_waits_for_a_lease_that_it_counted_itself(tmp_path: Path) -> None:
    """Whoever fell silent a while ago is not waited for any more, and nothing is asked of etcd for that."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        await open_at(world, holder, one, other)
        began = world.place("b").clock()
        world.place("b").network.fault(holder.url, "hangs")
        await asyncio.sleep(LEASE_AT_CATALOG_S - 0.3)
        assert (await one.session("renew", holder)).outcome == "renewed", "which is no lease without the other one"
        await other.trade(world.leader, buy("a"))
        assert world.place("b").clock() - began == pytest.approx(LEASE_AT_CATALOG_S, abs=0.02)
        assert other.catalog.expired_sessions == 1
        assert (await other.session("renew", holder)).outcome == "no_session"
        await until(lambda: not keys(world, "/sessions/"))
    await one_sequence(world)


@in_catalog_time
async def test_a_grantor_waits_for_a_lease_that_it_has_not_renewed_yet(tmp_path: Path) -> None:
    """The opening is one, and another catalog has answered it."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        grantors = [(await each.session("renew", holder, "none")).grantor for each in (one, other)]
        began = world.place("b").clock()
        assert (await one.session("open", holder, grantors=grantors)).outcome == "opened"
        world.place("b").network.fault(holder.url, "hangs")
        await other.trade(world.leader, buy("a"))
        assert world.place("b").clock() - began >= LEASE_AT_CATALOG_S - 0.01
    await one_sequence(world)


@in_catalog_time
async def test_a_lease_that_was_not_renewed_is_counted_from_when_its_session_was_seen(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        grantors = [(await each.session("renew", holder, "none")).grantor for each in (one, other)]
        assert (await one.session("open", holder, grantors=grantors)).outcome == "opened"
        world.place("b").network.fault(holder.url, "hangs")
        assert await other.quantity() == 100
        began = world.place("b").clock()
        await asyncio.sleep(0.7)
        await other.trade(world.leader, buy("a"))
        assert world.place("b").clock() - began == pytest.approx(LEASE_AT_CATALOG_S, abs=0.01)
    await one_sequence(world)


@in_catalog_time
async def test_a_lease_is_over_by_the_time_etcd_can_be_asked_again(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        await open_at(world, holder, one, other)
        world.place("b").etcd("hangs")
        world.place("b").network.fault(holder.url, "hangs")
        await asyncio.sleep(1.5)
        world.place("b").etcd(None)
        began = world.place("b").clock()
        await other.trade(world.leader, buy("a"))
        assert world.place("b").clock() - began < 0.1
    await one_sequence(world)


@in_catalog_time
async def test_a_decision_ends_in_time_when_a_lease_and_then_etcd_have_to_be_waited_for(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one:
        await open_at(world, holder, one)
        place = world.place("a")
        place.network.fault(holder.url, "hangs")
        place.etcd("hangs")
        began = place.clock()
        looking = asyncio.create_task(one.client.get("/stocks/GameStart"))
        response = await one.post("/decide", world.leader.ask(buy("a")))
        assert response.status_code == 503, "nothing was sent to etcd"
        assert LEASE_AT_CATALOG_S < place.clock() - began <= DECIDE_ANSWER_S + 0.001
        assert (await looking).status_code == 503


@in_catalog_time
async def test_a_grantor_is_busy_while_a_front_end_has_not_answered(tmp_path: Path) -> None:
    """H11 for grantors: else one that hangs, and renews, would be waited for without an end."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    gate = Gate()
    async with world.running("a") as one, world.running("b") as other:
        await open_at(world, holder, one, other)
        holder.before["/invalidate"] = gate
        began = world.place("a").clock()
        deciding = asyncio.create_task(one.trade(world.leader, buy("a")))
        await gate.reached.wait()
        while not deciding.done():
            assert (await other.session("renew", holder)).outcome == "renewed"
            assert (await one.session("renew", holder)).outcome in {"busy", "no_session"}
            await asyncio.sleep(0.05)
        await deciding
        assert world.place("a").clock() - began == pytest.approx(LEASE_AT_CATALOG_S, abs=0.06)
        assert (await one.session("renew", holder)).outcome == "no_session"
        gate.open()
    await one_sequence(world)


@in_catalog_time
async def test_a_catalog_that_is_no_grantor_revokes_a_session(tmp_path: Path) -> None:
    """It was started later, say: it knows nothing of the lease."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        await open_at(world, holder, one)
        world.place("b").network.fault(holder.url, "hangs")
        began = world.place("b").clock()
        await other.trade(world.leader, buy("a"))
        assert world.place("b").clock() - began >= TELL_S + LEASE_AT_CATALOG_S - 0.01
        assert (await one.session("renew", holder)).outcome == "no_session"
    await one_sequence(world)


@in_catalog_time
async def test_a_session_of_a_grantor_is_forgotten_when_nobody_renews_it(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        await open_at(world, holder, one, other)
        await until(lambda: not keys(world, "/sessions/"))
        assert (await one.session("renew", holder)).outcome == "no_session"


@in_catalog_time
async def test_no_session_is_written_by_a_catalog_that_hears_nothing_of_etcd(tmp_path: Path) -> None:
    """What it sends arrives: everybody else would have to give up a session that nobody has."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one:
        world.place("a").etcd("does_then_resets")
        message = SessionRequest(session="session-1", url=holder.url)
        response = await one.client.post("/sessions/open", json=message.model_dump())
        assert response.status_code == 503
        assert keys(world, "/sessions/") == []


@in_catalog_time
async def test_a_decision_is_left_to_the_catalog_that_reaches_the_front_end(tmp_path: Path) -> None:
    """It opens one session after the other there, and nobody may wait for the last of them."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:

        async def keep_a_session() -> None:
            for number in itertools.count():
                holder.session = f"session-{number}"
                await other.session("open", holder)
                while (await other.session("renew", holder)).outcome == "renewed":  # noqa: ASYNC110 - as a front-end
                    await asyncio.sleep(0.1)

        keeping = asyncio.create_task(keep_a_session())
        await until(lambda: keys(world, "/sessions/"))
        world.place("a").network.fault(holder.url, "hangs")
        for i in range(3):
            began = world.place("a").clock()
            assert (await one.post("/decide", world.leader.ask(buy(f"k{i}")))).status_code == 503
            assert world.place("a").clock() - began <= 2.2
            began = world.place("b").clock()
            await other.trade(world.leader, buy(f"k{i}"))
            assert world.place("b").clock() - began <= 0.1
        keeping.cancel()
    await one_sequence(world)


@pytest.mark.parametrize(
    ("host", "least", "most"), [("127.0.0.1", 0, 0.001), ("10.0.0.7", TELL_S + LEASE_AT_CATALOG_S, 1.65)]
)
@in_catalog_time
async def test_a_dead_front_end_costs_nothing_on_this_machine_and_a_lease_elsewhere(
    tmp_path: Path, host: str, least: float, most: float
) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end(host=host)
    async with world.running("a") as one:
        await one.session("open", holder)
        world.place("a").network.fault(holder.url, "refuses")
        began = world.place("a").clock()
        await one.trade(world.leader, buy("a"))
        assert least <= world.place("a").clock() - began <= most
        began = world.place("a").clock()
        await one.trade(world.leader, buy("b"))
        assert world.place("a").clock() == began, "once"
        await until(lambda: not keys(world, "/sessions/"))
    await one_sequence(world)


@in_catalog_time
async def test_a_session_that_its_front_end_has_given_up_is_not_waited_for(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one:
        await one.session("open", holder)
        holder.session = "another"
        began = world.place("a").clock()
        await one.trade(world.leader, buy("a"))
        assert world.place("a").clock() == began
        await until(lambda: not keys(world, "/sessions/"))


@in_catalog_time
async def test_sessions_of_front_ends_that_are_gone_are_found_without_a_trade(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    gone, restarted, alive = (world.front_end(8020 + i, session=f"session-{i}") for i in (1, 2, 3))
    async with world.running("a") as one, world.running("b") as other:
        for holder in (gone, restarted, alive):
            await one.session("open", holder)
        for place in world.places.values():
            place.network.fault(gone.url, "hangs")
        restarted.session = "another"
        await asyncio.sleep(PROBE_AFTER_S + 3)
        assert len(keys(world, "/sessions/")) == 2
        await asyncio.sleep(SILENT_S)
        assert len(keys(world, "/sessions/")) == 1
        assert (await other.session("renew", alive)).outcome == "renewed"
        assert (await other.session("renew", gone)).outcome == "no_session"


@in_catalog_time
async def test_a_front_end_that_answers_late_is_told_all_the_same(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one:
        await one.session("open", holder)
        world.place("a").network.delay(holder.url, TELL_S - 0.1)
        await one.trade(world.leader, buy("a"))
        assert one.catalog.expired_sessions == 0
        assert (await one.session("renew", holder)).outcome == "renewed"
