"""A decision from a leader's question to its answer: who waits for whom, what is seen meanwhile, what goes wrong."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.catalog.catalog import MAX_DECIDES
from services.catalog.inventory import Inventory
from services.catalog.sqlite_store import SqliteStore
from services.common.digest import empty_head
from services.common.errors import NO_ROOM_STATUS, IntegrityFailure
from services.common.models import CatalogStatus, DecideRequest, Head, StockAnswer, StocksAnswer
from services.common.timing import LEASE_AT_CATALOG_S
from tests.support.catalog_entries import STOCKS, buy, request, sell
from tests.support.catalog_replica import LogReplica
from tests.support.catalog_world import CatalogWorld, Gate, Process, in_catalog_time, turns
from tests.support.fake_time import until

START = empty_head(STOCKS)

STEPS = ["catalog.decide.planned", "catalog.decide.announced", "catalog.decide.committed", "catalog.decide.noted"]


async def settled(process: Process, world: CatalogWorld) -> None:
    """Past the lease that a new catalog waits; nothing was traded."""
    await until(lambda: "clear_mark" in process.disk.works)
    await turns()
    assert not world.ended_with


async def saved(process: Process, world: CatalogWorld, to: Path) -> Inventory:
    """What the database holds."""
    store = SqliteStore(world.copy_disk(to) / "catalog.db")
    found = store.load()
    store.close()
    assert found is not None
    return found.inventory


async def consistent(process: Process, world: CatalogWorld, folder: Path) -> None:
    """Memory, database, and what replicas hear are one."""
    status = await process.call("/status", CatalogStatus)
    for replica in world.replicas.values():
        told = await process.decide(replica.ask())
        if told.outcome == "fetch_base":
            replica.entries = world.leader.entries[: told.base]
            told = await process.decide(replica.ask())
        replica.take(told)
        assert replica.head == status.head
    on_disk = await saved(process, world, folder / "consistent")
    assert on_disk.head == status.head
    stocks = await process.call("/stocks", StocksAnswer)
    assert {stock.name: stock for stock in stocks.stocks} == on_disk.stocks
    expected = {stock.name: stock.quantity for stock in STOCKS}
    for entry in world.leader.entries:
        if entry.number is not None:
            expected[entry.name] += entry.quantity if entry.type == "sell" else -entry.quantity
    assert {stock.name: stock.quantity for stock in stocks.stocks} == expected


# End to end.


@in_catalog_time
async def test_trades_are_decided_and_told_to_every_replica(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process, world)
        await process.session("open", holder)
        told = await process.trade(world.leader, buy("a", 30), buy("b", 80), sell("c", 5, name="FishCo"))
        assert told.outcome == "decided"
        assert [(entry.key, entry.number) for entry in told.entries] == [("a", 1), ("b", None), ("c", 2)]
        assert holder.floors == [{"GameStart": 3, "FishCo": 3}]
        assert await process.quantity() == 70
        assert await process.quantity("FishCo") == 55
        await consistent(process, world, tmp_path)
    assert not world.ended_with


@in_catalog_time
async def test_base_rises_when_every_replica_has_reported_its_own_head(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        await process.trade(world.leader, *(buy(f"k{i}") for i in range(4)))
        for replica_id in (1, 2, 3):
            assert (await process.call("/status", CatalogStatus)).base == 0
            replica = world.replicas[replica_id]
            replica.take(await process.decide(replica.ask()))
            await process.decide(replica.ask())
        assert (await process.call("/status", CatalogStatus)).base == 4
        await process.trade(world.leader, buy("k5"))
        assert (await saved(process, world, tmp_path / "image")).base.position == 4
    assert not world.ended_with


@in_catalog_time
async def test_a_wiped_replica_is_sent_to_the_others_for_what_is_forgotten(tmp_path: Path) -> None:
    """H12."""
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        await process.trade(world.leader, *(buy(f"k{i}") for i in range(4)))
        for replica in world.replicas.values():
            replica.take(await process.decide(replica.ask()))
            await process.decide(replica.ask())
        wiped = world.replicas[1]
        wiped.entries.clear()
        told = await process.decide(wiped.ask(buy("k0"), buy("new")))
        assert (told.outcome, told.base, told.entries) == ("fetch_base", 4, [])
        await process.trade(world.leader, buy("k5"))
        assert (await process.call("/status", CatalogStatus)).base == 4, "it counts with what it has now"
        wiped.entries = world.leader.entries[:4]
        told = await process.trade(wiped, buy("k0"), buy("new"))
        assert [entry.key for entry in told.entries] == ["k5", "new"]
        await consistent(process, world, tmp_path)


@in_catalog_time
async def test_nothing_is_decided_or_noted_when_the_leader_is_of_another_generation(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path, LogReplica(1, 3), LogReplica(2), LogReplica(3))
    async with world.running() as process:
        await settled(process, world)
        for generation in (0, 1, 3):
            told = await process.decide(request(buy("a"), head=START, generation=generation))
            assert (told.outcome, told.generation, told.entries) == ("other_generation", 4, [])
        assert (await process.call("/status", CatalogStatus)).head == START
    assert not world.ended_with


@in_catalog_time
async def test_a_diverged_replica_is_told_and_neither_decided_for_nor_noted(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        await process.trade(world.leader, buy("a"))
        other = world.leader.head.model_copy(update={"digest": "0" * 64})
        for trades in ([], [buy("b")]):
            told = await process.decide(request(*trades, head=other, replica_id=1))
            assert (told.outcome, told.entries) == ("diverged", [])
        for replica_id in (2, 3):
            await process.decide(request(head=world.leader.head, replica_id=replica_id))
        status = await process.call("/status", CatalogStatus)
        assert (status.base, status.head) == (0, world.leader.head)
    assert not world.ended_with


AHEAD = [
    request(head=START, generation=2),
    request(buy("a"), head=START, generation=2),
    request(head=Head(position=1, number=1, digest="d")),
    request(buy("a"), head=Head(position=1, number=1, digest="d")),
]


@pytest.mark.parametrize("asked", AHEAD, ids=["generation", "generation, trades", "head", "head, trades"])
@in_catalog_time
async def test_status_3_and_nothing_decided_when_a_replica_knows_more(tmp_path: Path, asked: DecideRequest) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        assert (await process.post("/decide", asked)).status_code == 500
        assert world.ended_with == [3]
        assert (await process.call("/status", CatalogStatus)).head == START


# What is seen meanwhile.


@pytest.mark.parametrize("step", STEPS[:2])
@in_catalog_time
async def test_reads_show_the_state_before_until_it_is_committed(tmp_path: Path, step: str) -> None:
    """H2: everybody has dropped the old value before anybody can see the new one."""
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process, world)
        await process.session("open", holder)
        gate = world.points.hooks[step] = Gate()
        trading = asyncio.create_task(process.trade(world.leader, buy("a", 30)))
        await gate.reached.wait()
        answer = await process.call("/stocks/GameStart", StockAnswer)
        assert (answer.stock.quantity, answer.head) == (100, 0)
        assert (await process.decide(world.replicas[1].ask())).entries == []
        gate.open()
        await trading
        assert holder.floors == [{"GameStart": 1}]
        answer = await process.call("/stocks/GameStart", StockAnswer)
        assert (answer.stock.quantity, answer.head) == (70, 1)


@in_catalog_time
async def test_nothing_is_committed_before_every_session_has_dropped_the_stock(tmp_path: Path) -> None:
    """H2."""
    world = CatalogWorld(tmp_path)
    quick, slow = world.front_end(8021, session="quick"), world.front_end(8022, session="slow")
    async with world.running() as process:
        await settled(process, world)
        await process.session("open", quick)
        await process.session("open", slow)
        gate = slow.before["/invalidate"] = Gate()
        works = len(process.disk.works)
        trading = asyncio.create_task(process.trade(world.leader, buy("a", 30)))
        await gate.reached.wait()
        await turns()
        assert quick.floors == [{"GameStart": 1}]
        assert process.disk.works[works:] == []
        assert await process.quantity() == 100
        gate.open()
        await trading
        assert process.disk.works[works:] == ["commit"]
        assert await process.quantity() == 70


@in_catalog_time
async def test_an_empty_decide_waits_for_nobody(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        await process.trade(world.leader, buy("a"))
        gate = process.disk.before = Gate()
        trading = asyncio.create_task(process.trade(world.leader, buy("b")))
        await gate.reached.wait()
        now = world.clock()
        told = await process.decide(world.replicas[1].ask())
        assert [entry.key for entry in told.entries] == ["a"], "the committed state"
        assert told.head.position == 1
        assert world.clock() == now
        gate.open()
        await trading
        assert [entry.key for entry in (await process.decide(world.replicas[1].ask())).entries] == ["a", "b"]


@in_catalog_time
async def test_a_decision_that_changes_no_stock_asks_no_front_end(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process, world)
        await process.session("open", holder)
        world.network.fault(holder.url, "hangs")
        now = world.clock()
        told = await process.trade(world.leader, buy("a", 1_000))
        assert told.entries[0].number is None
        assert world.clock() == now
        assert (await saved(process, world, tmp_path / "image")).head == told.head, "but it is on the disk"


@in_catalog_time
async def test_nothing_is_written_when_every_key_is_known(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process, world)
        await process.trade(world.leader, buy("a"))
        await process.session("open", holder)
        works = len(process.disk.works)
        told = await process.trade(world.replicas[1], buy("a"))
        assert [entry.key for entry in told.entries] == ["a"]
        assert process.disk.works[works:] == []
        assert holder.floors == []


@in_catalog_time
async def test_a_front_end_that_hangs_costs_one_lease_and_then_nothing(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end(host="10.0.0.7")
    async with world.running() as process:
        await settled(process, world)
        await process.session("open", holder)
        world.network.fault(holder.url, "hangs")
        began = world.clock()
        await process.trade(world.leader, buy("a"))
        assert world.clock() - began == pytest.approx(LEASE_AT_CATALOG_S, abs=0.02)
        began = world.clock()
        await process.trade(world.leader, buy("b"))
        assert world.clock() == began
        assert (await process.session("renew", holder)).outcome == "no_session"


# Many at once.


@in_catalog_time
async def test_concurrent_decides_form_one_sequence(tmp_path: Path) -> None:
    """K8: all three believe to lead, and a key goes to each of them."""
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)

        async def lead(replica: LogReplica) -> None:
            for round_ in range(10):
                keys = [f"shared-{round_}", f"own-{replica.id}-{round_}"]
                await process.trade(replica, *(buy(key, 3) for key in keys))

        await asyncio.gather(*(lead(replica) for replica in world.replicas.values()))
        await consistent(process, world, tmp_path)
        entries = world.leader.entries
        assert len(entries) == len({entry.key for entry in entries}) == 40
        assert sum(entry.number is not None for entry in entries) == 33
        assert await process.quantity() == 1
    assert not world.ended_with


@in_catalog_time
async def test_only_one_decision_is_under_way_at_a_time(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        gate = world.points.hooks["catalog.decide.planned"] = Gate()
        deciding = [
            asyncio.create_task(process.decide(replica.ask(buy("same", 7)))) for replica in world.replicas.values()
        ]
        await gate.reached.wait()
        await turns()
        assert world.points.passed.count("catalog.decide.planned") == 1
        gate.open()
        told = await asyncio.gather(*deciding)
        assert [answer.entries for answer in told] == [told[0].entries] * 3
        assert await process.quantity() == 93


@in_catalog_time
async def test_503_when_too_many_decides_wait_and_they_decide_nothing(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        gate = world.points.hooks["catalog.decide.planned"] = Gate()
        deciding = [
            asyncio.create_task(process.post("/decide", request(sell(f"k{i}"), head=START)))
            for i in range(MAX_DECIDES + 3)
        ]
        await gate.reached.wait()
        await turns(100)
        refused = [task for task in deciding if task.done()]
        assert [task.result().status_code for task in refused] == [503] * 3
        assert (await process.decide(world.replicas[1].ask())).outcome == "decided", "an empty one is answered"
        gate.open()
        answers = await asyncio.gather(*deciding)
        assert sorted({answer.status_code for answer in answers}) == [200, 503]
        assert (await process.call("/status", CatalogStatus)).head.position == MAX_DECIDES  # type: ignore[union-attr]
        assert (await process.post("/decide", request(sell("k0"), head=START))).status_code == 200


@in_catalog_time
async def test_the_answer_holds_everything_when_base_passes_the_leader_in_mid_decision(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        await process.trade(world.leader, *(buy(f"k{i}") for i in range(3)))
        gate = world.points.hooks["catalog.decide.announced"] = Gate()
        behind = world.replicas[1]
        asked = behind.ask(buy("new"))
        deciding = asyncio.create_task(process.decide(asked))
        await gate.reached.wait()
        for replica_id in (1, 2, 3):
            await process.decide(request(head=world.leader.head, replica_id=replica_id))
        assert (await process.call("/status", CatalogStatus)).base == 3
        gate.open()
        told = await deciding
        assert told.outcome == "decided"
        behind.take(told)
        assert [entry.key for entry in behind.entries] == ["k0", "k1", "k2", "new"]
        world.leader.take(await process.decide(world.leader.ask()))
        await consistent(process, world, tmp_path)


# Callers that go.


@pytest.mark.parametrize("step", STEPS)
@in_catalog_time
async def test_the_decision_is_finished_when_its_caller_goes_at_any_step(tmp_path: Path, step: str) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        gate = world.points.hooks[step] = Gate()
        deciding = asyncio.create_task(process.decide(world.leader.ask(buy("a", 30))))
        await gate.reached.wait()
        deciding.cancel()
        await asyncio.wait([deciding])
        assert deciding.cancelled()
        gate.open()
        told = await process.trade(world.leader, buy("b", 30))
        assert [(entry.key, entry.number) for entry in told.entries] == [("a", 1), ("b", 2)]
        await consistent(process, world, tmp_path)
    assert not world.ended_with


@in_catalog_time
async def test_the_decision_is_finished_when_its_caller_goes_while_the_disk_works(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        gate = process.disk.before = Gate()
        deciding = asyncio.create_task(process.decide(world.leader.ask(buy("a", 30))))
        await gate.reached.wait()
        deciding.cancel()
        await asyncio.wait([deciding])
        gate.open()
        assert [entry.key for entry in (await process.trade(world.leader, buy("a", 30))).entries] == ["a"]
        assert await process.quantity() == 70
        await consistent(process, world, tmp_path)


@in_catalog_time
async def test_the_next_decision_goes_on_when_callers_that_wait_for_their_turn_go(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        gate = world.points.hooks["catalog.decide.planned"] = Gate()
        deciding = [asyncio.create_task(process.decide(world.leader.ask(sell(f"k{i}")))) for i in range(5)]
        await gate.reached.wait()
        for task in deciding:
            task.cancel()
        await asyncio.wait(deciding)
        gate.open()
        await process.trade(world.leader, sell("last"))
        await consistent(process, world, tmp_path)
        assert world.leader.entries[-1].key == "last"


@in_catalog_time
async def test_it_stops_when_a_decision_still_waits_for_the_sessions_of_before(tmp_path: Path) -> None:
    """Its caller has gone; nothing of it was begun."""
    world = CatalogWorld(tmp_path)
    began = 0.0
    async with world.running() as process:
        began = world.clock()
        deciding = asyncio.create_task(process.decide(world.leader.ask(buy("a"))))
        await turns()
        deciding.cancel()
        await asyncio.wait([deciding])
    assert world.clock() - began < LEASE_AT_CATALOG_S
    assert not world.ended_with


@in_catalog_time
async def test_it_stops_only_when_the_decision_under_way_is_on_the_disk(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        gate = world.points.hooks["catalog.decide.announced"] = Gate()
        deciding = asyncio.create_task(process.decide(world.leader.ask(buy("a", 30))))
        await gate.reached.wait()
        deciding.cancel()
        asyncio.get_running_loop().call_later(5, gate.open)
    async with world.running() as process:
        assert await process.quantity() == 70


# What goes wrong inside.


class _Failing:
    """A disk whose next piece of work of this kind fails."""

    def __init__(self, process: Process, error: Exception) -> None:
        async def fail() -> None:
            raise error

        process.disk.before = fail


@pytest.mark.parametrize(("error", "status"), [(OSError("disk"), 1), (IntegrityFailure("disk"), 3)])
@in_catalog_time
async def test_the_process_ends_and_nothing_is_shown_when_the_commit_fails(
    tmp_path: Path, error: Exception, status: int
) -> None:
    """An fsync that failed is not tried again: nothing of it may be seen or built upon."""
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        _Failing(process, error)
        response = await process.post("/decide", world.leader.ask(buy("a", 30)))
        assert response.status_code == 500
        assert world.ended_with == [status]
        assert "disk" not in response.text
        assert await process.quantity() == 100
        assert (await process.decide(world.leader.ask())).entries == []
        assert (await saved(process, world, tmp_path / "image")).head == START


@in_catalog_time
async def test_the_process_ends_when_a_session_cannot_be_recorded(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await settled(process, world)
        _Failing(process, OSError("disk"))
        response = await process.client.post("/sessions/open", json={"session": "session-1", "url": holder.url})
        assert response.status_code == 500
        assert world.ended_with == [1]
        assert (await process.call("/status", CatalogStatus)).sessions == 0


@in_catalog_time
async def test_the_process_ends_when_the_disk_is_full(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        store: Any = process.catalog._store
        writer = store.file._database._writer
        [(pages,)] = writer.execute("PRAGMA page_count").fetchall()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        response = await process.post("/decide", world.leader.ask(*(sell(f"key-{i:058}") for i in range(90))))
        assert response.status_code == 500
        assert world.ended_with == [NO_ROOM_STATUS]
        assert await process.quantity() == 100
    async with world.running() as process:
        told = await process.trade(world.leader, buy("a"))
        assert [entry.key for entry in told.entries] == ["a"]


@in_catalog_time
async def test_the_wrong_leader_is_refused_when_it_asks_for_a_key_it_has(tmp_path: Path) -> None:
    """Nothing is committed, so the catalog can start again."""
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        await settled(process, world)
        await process.trade(world.leader, buy("a"))
        response = await process.post("/decide", request(buy("a"), head=world.leader.head))
        assert response.status_code == 500
        assert (await saved(process, world, tmp_path / "image")).head == world.leader.head
