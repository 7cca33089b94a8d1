"""The catalog's lives: killed at any step, its disk lost or kept, its sessions recalled, and never a stale read."""

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest

from services.common.digest import empty_head
from services.common.models import CatalogStatus, GenerationAnswer
from services.common.timing import LEASE_AT_CATALOG_S
from tests.support.catalog_entries import AT, STOCKS, buy, chain, head_of, sell
from tests.support.catalog_replica import LogReplica
from tests.support.catalog_world import CatalogWorld, Gate, Process, in_catalog_time, turns
from tests.support.fake_time import until

START = empty_head(STOCKS)
LEASE = pytest.approx(LEASE_AT_CATALOG_S, abs=0.02)


async def first_trade_takes(process: Process, world: CatalogWorld, key: str = "a") -> float:
    """Seconds until the first decision with trades is answered."""
    began = world.clock()
    told = await process.trade(world.leader, buy(key))
    assert told.outcome == "decided"
    return world.clock() - began


async def settled(process: Process) -> None:
    await until(lambda: "clear_mark" in process.disk.works)
    await turns()


# The grace at the start.


@in_catalog_time
async def test_a_rebuilt_catalog_waits_a_lease_before_its_first_decision(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        began = world.clock()
        assert await first_trade_takes(process, world) == LEASE
        assert world.clock() - began == LEASE
        assert await first_trade_takes(process, world, "b") == 0


@in_catalog_time
async def test_reads_and_empty_decides_do_not_wait_for_the_grace(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        deciding = asyncio.create_task(process.trade(world.leader, buy("a")))
        await turns()
        now = world.clock()
        assert await process.quantity() == 100
        assert (await process.decide(world.replicas[1].ask())).outcome == "decided"
        assert (await process.session("open", holder)).outcome == "opened"
        assert (await process.session("renew", holder)).outcome == "renewed"
        assert (await process.call("/generation", GenerationAnswer)).generation == 1
        assert world.clock() == now
        await asyncio.sleep(0.5)
        assert (await process.session("renew", holder)).outcome == "renewed"
        await deciding
        assert holder.floors == [{"GameStart": 1}], "a session that was opened in the grace is told"


@in_catalog_time
async def test_the_grace_counts_from_the_start_of_the_process_when_the_rebuild_took_long(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    world.network.fault(world.replicas[1].url, "refuses")
    async with world.running(ready=False) as process:
        await asyncio.sleep(5.0)
        world.network.fault(world.replicas[1].url, None)
        await until(lambda: process.catalog.missing() is None)
        assert await first_trade_takes(process, world) <= 0.01


@in_catalog_time
async def test_an_intact_database_without_sessions_does_not_wait(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process)
        await process.trade(world.leader, buy("a"))
    async with world.running() as process:
        assert await first_trade_takes(process, world, "b") == 0
        assert "create" not in process.disk.works


@in_catalog_time
async def test_a_catalog_that_was_rebuilt_and_killed_within_a_lease_waits_again(tmp_path: Path) -> None:
    """H18: its database is intact and names no session, but those of before the rebuild may still be open."""
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process)
        assert (await process.session("open", holder)).outcome == "opened"
        world.lose_disk()
        folder = tmp_path / "rebuilt"
        async with world.running(folder) as rebuilt:
            await asyncio.sleep(0.3)
            assert "create" in rebuilt.disk.works
            killed = tmp_path / "killed"
            killed.mkdir()
            for name in ("catalog.db", "catalog.db-wal"):
                (killed / name).write_bytes((folder / name).read_bytes())
        async with world.running(killed) as again:
            began = world.clock()
            assert "create" not in again.disk.works
            assert await first_trade_takes(again, world) == LEASE
            assert world.clock() - began == LEASE
            assert "clear_mark" in again.disk.works


@in_catalog_time
async def test_the_mark_goes_only_after_the_whole_lease(tmp_path: Path) -> None:
    """H18: killed again and again within the lease, it waits again and again."""
    world = CatalogWorld(tmp_path)
    for life in range(4):
        async with world.running() as process:
            began = world.clock()
            await asyncio.sleep(LEASE_AT_CATALOG_S - 0.05)
            assert "clear_mark" not in process.disk.works
            assert process.disk.works == (["load", "create"] if life == 0 else ["load"])
            assert world.clock() - began < LEASE_AT_CATALOG_S
    async with world.running() as process:
        assert await first_trade_takes(process, world) == LEASE
    async with world.running() as process:
        assert await first_trade_takes(process, world, "b") == 0


@in_catalog_time
async def test_no_decision_is_made_before_the_mark_is_gone_durably(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        gate = Gate()
        world.points.hooks["catalog.start.waited"] = gate
        deciding = asyncio.create_task(process.trade(world.leader, buy("a")))
        await gate.reached.wait()
        await asyncio.sleep(5.0)
        assert not deciding.done()
        assert "commit" not in process.disk.works
        gate.open()
        await deciding
        assert process.disk.works.index("clear_mark") < process.disk.works.index("commit")


# Recalling the sessions of the process before.


@in_catalog_time
async def test_recorded_sessions_are_recalled_before_the_first_decision(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holders = [world.front_end(8021, session="one"), world.front_end(8022, "10.0.0.7", session="two")]
    async with world.running() as process:
        await settled(process)
        for holder in holders:
            await process.session("open", holder)
        gate = holders[1].before["/sessions/recall"] = Gate()
    async with world.running() as process:
        began = world.clock()
        deciding = asyncio.create_task(process.trade(world.leader, buy("a")))
        await gate.reached.wait()
        await asyncio.sleep(0.2)
        assert not deciding.done()
        assert await process.quantity() == 100
        gate.open()
        await deciding
        assert world.clock() - began == pytest.approx(0.2, abs=0.02)
        assert [holder.session for holder in holders] == [None, None]
        assert (await process.session("renew", holders[0], "one")).outcome == "no_session"
    async with world.running() as process:
        await process.trade(world.leader, buy("b"))
        assert [holder.recalls for holder in holders] == [["one"], ["two"]], "and not again at the next start"


@in_catalog_time
async def test_floor_of_a_new_session_is_the_head_when_the_catalog_was_started_again(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process)
        await process.trade(world.leader, buy("a"), buy("b"))
    async with world.running() as process:
        assert (await process.session("open", holder)).floor == 2


@in_catalog_time
async def test_a_lease_is_waited_when_a_recorded_session_cannot_be_recalled(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end(host="10.0.0.7")
    async with world.running() as process:
        await settled(process)
        await process.session("open", holder)
    world.network.fault(holder.url, "refuses")
    async with world.running() as process:
        assert await first_trade_takes(process, world) == LEASE


@in_catalog_time
async def test_no_wait_when_the_front_end_of_this_machine_is_gone(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process)
        await process.session("open", holder)
    world.network.fault(holder.url, "refuses")
    async with world.running() as process:
        assert await first_trade_takes(process, world) == 0


@in_catalog_time
async def test_sessions_that_ended_or_lapsed_are_not_recalled(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    ended, lapsed = world.front_end(8021, session="ended"), world.front_end(8022, session="lapsed")
    async with world.running() as process:
        await settled(process)
        await process.session("open", ended)
        await process.session("open", lapsed)
        await process.session("end", ended)
        await asyncio.sleep(2 * LEASE_AT_CATALOG_S)
        assert (await process.call("/status", CatalogStatus)).sessions == 0
    async with world.running() as process:
        assert await first_trade_takes(process, world) == 0
    assert (ended.recalls, lapsed.recalls) == ([], [])


@in_catalog_time
async def test_a_session_is_recalled_when_the_process_was_killed_before_its_opening_was_answered(
    tmp_path: Path,
) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process)
        gate = world.points.hooks["catalog.session.recorded"] = Gate()
        opening = asyncio.create_task(process.session("open", holder))
        await gate.reached.wait()
        killed = world.copy_disk(tmp_path / "killed")
        gate.open()
        await opening
    del world.points.hooks["catalog.session.recorded"]
    async with world.running(killed) as process:
        await process.trade(world.leader, buy("a"))
        assert holder.recalls == ["session-1"]


@in_catalog_time
async def test_both_are_waited_for_when_it_was_rebuilt_and_has_sessions(tmp_path: Path) -> None:
    """H18: opened at the rebuilt catalog, which was then killed within its lease."""
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await process.session("open", holder)
        killed = world.copy_disk(tmp_path / "killed")
    async with world.running(killed) as process:
        assert await first_trade_takes(process, world) == LEASE
        assert holder.recalls == ["session-1"]


# Killed at every step.

STEPS: list[tuple[str, bool]] = [
    ("catalog.decide.planned", False),
    ("catalog.decide.announced", False),
    ("catalog.decide.committed", True),
    ("catalog.decide.noted", True),
]


@pytest.mark.parametrize(("step", "is_made"), STEPS)
@in_catalog_time
async def test_a_decision_is_made_or_not_when_the_process_was_killed_at_any_step(
    tmp_path: Path,
    step: str,
    is_made: bool,
) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process)
        await process.trade(world.leader, buy("before", 10))
        gate = world.points.hooks[step] = Gate()
        asked = world.leader.ask(buy("a", 30), buy("b", 80))
        deciding = asyncio.create_task(process.decide(asked))
        await gate.reached.wait()
        killed = world.copy_disk(tmp_path / "killed")
        gate.open()
        await deciding
    del world.points.hooks[step]
    async with world.running(killed) as process:
        assert await process.quantity() == (60 if is_made else 90)
        follower = world.replicas[1]
        follower.take(await process.decide(follower.ask()))
        assert [entry.key for entry in follower.entries] == ["before", "a", "b"][: 3 if is_made else 1]
        told = await process.trade(world.leader, buy("a", 30), buy("b", 80))
        assert [(entry.key, entry.number) for entry in told.entries] == [("a", 2), ("b", None)]
        assert await process.quantity() == 60, "asked again, it is decided once"


@pytest.mark.parametrize(
    ("step", "generation"),
    [
        ("catalog.rebuild.generations_known", 5),
        ("catalog.rebuild.adopted", 6),
        ("catalog.rebuild.copied", 6),
        ("catalog.rebuild.before_create", 6),
        ("catalog.rebuild.created", 5),
    ],
)
@in_catalog_time
async def test_the_rebuild_comes_to_the_same_state_when_it_was_killed_at_any_step(
    tmp_path: Path, step: str, generation: int
) -> None:
    log = chain([sell(f"k{i}") for i in range(5)])
    world = CatalogWorld(tmp_path, LogReplica(1, 4, log[:2]), LogReplica(2, 4, log), LogReplica(3))
    gate = world.points.hooks[step] = Gate()
    async with world.running(ready=False):
        await gate.reached.wait()
        killed = world.copy_disk(tmp_path / "killed")
    del world.points.hooks[step]
    async with world.running(killed) as process:
        status = await process.call("/status", CatalogStatus)
        assert status == CatalogStatus(generation=generation, base=0, head=head_of(log), sessions=0)
        assert await process.quantity() == 105
        assert await first_trade_takes(process, world) == LEASE
    assert not world.ended_with


# The disk lost.


@in_catalog_time
async def test_everything_acknowledged_is_there_when_the_disk_was_lost(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process)
        for key in ("a", "b", "c"):
            await process.trade(world.leader, buy(key, 10))
        await process.trade(world.leader, buy("refused", 1_000))
        for replica in world.replicas.values():
            replica.take(await process.decide(replica.ask()))
    before = world.leader.head
    world.lose_disk()
    async with world.running() as process:
        assert await process.call("/generation", GenerationAnswer) == GenerationAnswer(generation=2, stocks=STOCKS)
        assert (await process.call("/status", CatalogStatus)).head == before
        assert await process.quantity() == 70
        told = await process.trade(world.leader, buy("refused", 1_000), buy("d", 70))
        assert [(entry.key, entry.position, entry.number) for entry in told.entries] == [("d", 5, 4)]
    assert not world.ended_with


@in_catalog_time
async def test_a_refused_trade_stays_refused_when_the_disk_was_lost_and_stock_came_back(tmp_path: Path) -> None:
    """H3 and H20: the replicas remember it."""
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process)
        await process.trade(world.leader, buy("a", 150))
        for replica in world.replicas.values():
            replica.take(await process.decide(replica.ask()))
    world.lose_disk()
    async with world.running() as process:
        await process.trade(world.leader, sell("b", 100))
        follower = world.replicas[1]
        follower.entries = follower.entries[:0]
        told = await process.decide(follower.ask(buy("a", 150)))
        assert told.outcome == "fetch_base"
        assert await process.quantity() == 200


@in_catalog_time
async def test_an_old_decision_is_void_when_the_disk_was_lost(tmp_path: Path) -> None:
    """H4: the leader asked before, and asks again after."""
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process)
        old = world.leader.ask(buy("a", 30))
        await process.decide(old)  # the answer is lost, and then the disk
    world.lose_disk()
    async with world.running() as process:
        told = await process.decide(old)
        assert (told.outcome, told.generation, told.entries) == ("other_generation", 2, [])
        assert await process.quantity() == 100
        told = await process.trade(world.leader, buy("a", 30))
        assert [(entry.key, entry.number) for entry in told.entries] == [("a", 1)]
        assert await process.quantity() == 70


@in_catalog_time
async def test_stocks_are_those_it_began_with_when_the_file_was_edited_and_the_disk_lost(tmp_path: Path) -> None:
    """H17."""
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process)
        await process.trade(world.leader, buy("a", 100))
    world.write_stocks([stock.model_copy(update={"quantity": 5, "price": 1}) for stock in STOCKS])
    async with world.running() as process:
        assert await process.quantity() == 0
    world.lose_disk()
    async with world.running() as process:
        assert await process.quantity() == 0
        assert await process.quantity("FishCo") == 50
        assert (await process.call("/generation", GenerationAnswer)).stocks == STOCKS


@in_catalog_time
async def test_a_front_end_of_before_is_waited_for_when_the_disk_was_lost(tmp_path: Path) -> None:
    """H18 and H19: which sessions were open is unknown, so a lease is waited, and none of them is renewed."""
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process)
        await process.session("open", holder)
    world.lose_disk()
    async with world.running() as process:
        answer = await process.session("renew", holder)
        assert (answer.outcome, answer.generation) == ("no_session", 2)
        assert await first_trade_takes(process, world) == LEASE
        assert holder.floors == []


@in_catalog_time
async def test_a_lost_replica_is_left_out_and_still_holds_base(tmp_path: Path) -> None:
    log = chain([sell("a"), sell("b")])
    world = CatalogWorld(tmp_path, LogReplica(1, 1, log), LogReplica(2, 1, log), LogReplica(3, 1, log[:1]), lost=[3])
    world.network.fault(world.replicas[3].url, "refuses")
    async with world.running() as process:
        await settled(process)
        for replica_id in (1, 2):
            replica = world.replicas[replica_id]
            await process.trade(replica, sell(f"c{replica_id}"))
            await process.decide(replica.ask())
        assert (await process.call("/status", CatalogStatus)).base == 2
        late: Any = world.replicas[3]
        told = await process.decide(late.ask())
        assert (told.outcome, told.generation) == ("other_generation", AT), "an unfinished rebuild may have had 2"
    assert not world.ended_with


@in_catalog_time
async def test_a_lost_replica_that_comes_back_with_the_longest_log_stops_the_next_rebuild(tmp_path: Path) -> None:
    """H21."""
    log = chain([sell("a"), sell("b"), sell("c")])
    world = CatalogWorld(
        tmp_path, LogReplica(1, 1, log[:1]), LogReplica(2, 1, log[:1]), LogReplica(3, 1, log), lost=[3]
    )
    async with world.running() as process:
        await settled(process)
        for replica_id in (1, 2):
            await process.trade(world.replicas[replica_id], sell("other"))
    world.lose_disk()
    world.lost = []
    async with world.running(ready=False) as process:
        await until(lambda: world.ended_with)
        assert world.ended_with == [3]
        assert process.disk.works == ["load"]


# An old copy of the file.


@in_catalog_time
async def test_status_3_when_an_old_copy_of_the_file_was_put_back(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process)
        old = world.copy_disk(tmp_path / "old")
        await process.trade(world.leader, buy("a"))
    async with world.running(old) as process:
        assert (await process.post("/decide", world.leader.ask())).status_code == 500
    assert world.ended_with == [3]


@in_catalog_time
async def test_status_3_when_a_file_of_before_a_rebuild_was_put_back(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process)
        old = world.copy_disk(tmp_path / "old")
    world.lose_disk()
    async with world.running() as process:
        await settled(process)
    async with world.running(old) as process:
        assert (await process.post("/decide", world.leader.ask(buy("a")))).status_code == 500
        assert await process.quantity() == 100
    assert world.ended_with == [3]


@in_catalog_time
async def test_status_3_when_the_file_contradicts_itself(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process)
        await process.trade(world.leader, buy("a"), buy("b"))
    with apsw.Connection(str(world.folder / "catalog.db")) as other:
        other.execute("DELETE FROM entries WHERE position = 1")
    async with world.running(ready=False):
        await until(lambda: world.ended_with)
    assert world.ended_with == [3]
