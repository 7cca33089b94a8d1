"""Several catalogs on one etcd: whoever decides, in whatever order, there is one sequence and no stale read."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.catalog.etcd import delete
from services.common.models import CatalogStatus, Stock, StocksAnswer
from services.common.timing import (
    COMPACT_EVERY_S,
    DECIDE_ANSWER_S,
    ETCD_BESIDE_S,
    ETCD_READ_AGAIN_S,
    ETCD_READS_S,
    LEASE_AT_CATALOG_S,
)
from tests.support.catalog_entries import buy, head_of, request, sell
from tests.support.catalog_world import Gate, in_catalog_time, turns
from tests.support.etcd_calls import TXN
from tests.support.fake_network import Fault
from tests.support.fake_time import until
from tests.support.shared_catalogs import ETCD, PREFIX, SharedWorld, keys, one_sequence


@in_catalog_time
async def test_trades_are_decided_by_any_catalog_and_read_through_every_other(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        assert (await one.session("open", holder)).outcome == "opened"
        told = await one.trade(world.leader, buy("a", 30), buy("b", 80), sell("c", 5, name="FishCo"))
        assert [(entry.key, entry.number) for entry in told.entries] == [("a", 1), ("b", None), ("c", 2)]
        assert holder.floors == [{"GameStart": 3, "FishCo": 3}]
        assert await other.quantity() == 70
        assert await other.quantity("FishCo") == 55
        told = await other.trade(world.leader, buy("d", 1))
        assert [(entry.position, entry.number) for entry in told.entries] == [(4, 3)]
        assert holder.floors[1:] == [{"GameStart": 4}]
        assert await one.quantity() == 69
        stocks = await one.call("/stocks", StocksAnswer)
        assert stocks.head == world.leader.head
        assert (await one.call("/status", CatalogStatus)).head == world.leader.head
    await one_sequence(world)


@in_catalog_time
async def test_a_catalog_that_starts_takes_over_what_is_there(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        await one.trade(world.leader, buy("a", 30))
    world.leader.wipe()
    async with world.running("b") as other:
        assert await other.quantity() == 70
        assert (await other.call("/status", CatalogStatus)).generation == 1
    assert not world.ended


# Two decide at a time.


@pytest.mark.parametrize("step", ["catalog.decide.planned", "catalog.decide.announced", "etcd.commit.before"])
@in_catalog_time
async def test_one_of_two_decisions_begins_again_when_they_meet(tmp_path: Path, step: str) -> None:
    """Wherever it slept: it is decided on the stocks as they are then, and the caches are told again."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        await one.session("open", holder)
        gate = world.place("a").points.hooks[step] = Gate()
        deciding = asyncio.create_task(one.decide(world.leader.ask(buy("a", 60))))
        await gate.reached.wait()
        await other.trade(world.leader, buy("b", 60))
        gate.open()
        told = await deciding
        world.leader.take(told)
        assert [(entry.key, entry.number) for entry in told.entries] == [("b", 1), ("a", None)]
        assert one.catalog.conflicts == 1
        assert await one.quantity() == 40
    await one_sequence(world)


@in_catalog_time
async def test_caches_are_told_the_later_position_when_a_decision_begins_again(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        await one.session("open", holder)
        gate = world.place("a").points.hooks["etcd.commit.before"] = Gate()
        deciding = asyncio.create_task(one.trade(world.leader, buy("a", 1)))
        await gate.reached.wait()
        await other.decide(world.leader.ask(buy("b", 1, name="FishCo")))
        gate.open()
        await deciding
        assert holder.floors == [{"GameStart": 1}, {"FishCo": 1}, {"GameStart": 2}]
    await one_sequence(world)


@in_catalog_time
async def test_a_key_executes_once_when_two_leaders_bring_it_to_two_catalogs(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one, world.running("b") as other:
        gate = world.place("a").points.hooks["etcd.commit.before"] = Gate()
        deciding = asyncio.create_task(one.decide(world.replicas[2].ask(buy("same", 5), buy("own", 1))))
        await gate.reached.wait()
        await other.trade(world.leader, buy("same", 5))
        gate.open()
        told = await deciding
        assert [entry.key for entry in told.entries] == ["same", "own"]
        world.leader.take(told)
        assert await one.quantity() == 94
    await one_sequence(world)


@in_catalog_time
async def test_a_catalog_gives_up_with_a_definite_answer_when_others_are_always_faster(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one, world.running("b") as other:
        number = 0

        async def be_faster() -> None:
            nonlocal number
            number += 1
            await other.trade(world.leader, buy(f"fast-{number}"))

        world.place("a").points.hooks["etcd.commit.before"] = be_faster
        response = await one.post("/decide", world.replicas[2].ask(buy("slow")))
        assert response.status_code == 503
        assert number > 3
        assert "slow" not in {entry.key for entry in world.leader.entries}
    await one_sequence(world)


# An outcome that is unknown.


def fail_one_commit(world: SharedWorld, fault: Any) -> None:
    """Let the first commit of catalog `a` fail in this way."""
    place = world.place("a")

    async def begin() -> None:
        del place.points.hooks["etcd.commit.before"]
        place.etcd(fault)

    async def end() -> None:
        place.etcd(None)

    place.points.hooks |= {"etcd.commit.before": begin, "etcd.decide.conflict": end}


@pytest.mark.parametrize("fault", ["does_then_resets", "resets"])
@in_catalog_time
async def test_a_trade_is_decided_once_when_the_answer_to_its_transaction_is_lost(tmp_path: Path, fault: Any) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one:
        await one.session("open", holder)
        fail_one_commit(world, fault)
        told = await one.trade(world.leader, buy("a", 7), buy("b", 1_000))
        assert [(entry.key, entry.number) for entry in told.entries] == [("a", 1), ("b", None)]
        assert await one.quantity() == 93
        await one.trade(world.leader, buy("c", 1))
    await one_sequence(world)


@in_catalog_time
async def test_the_answer_is_unknown_when_etcd_is_lost_with_the_transaction(tmp_path: Path) -> None:
    """It must not be called definite: the trade is decided, as another catalog knows."""
    world = SharedWorld(tmp_path)
    async with world.running("a") as one, world.running("b") as other:

        async def lose() -> None:
            world.place("a").etcd("does_then_resets")

        world.place("a").points.hooks["etcd.commit.before"] = lose
        began = world.place("a").clock()
        response = await one.post("/decide", world.leader.ask(buy("a")))
        assert response.status_code == 504
        assert world.place("a").clock() - began <= 2.5
        told = await other.trade(world.leader, buy("a"))
        assert [entry.number for entry in told.entries] == [1]
    await one_sequence(world)


@in_catalog_time
async def test_a_transaction_that_arrives_late_changes_nothing_or_counts_once(tmp_path: Path) -> None:
    """The call was cut, the trade decided anew; then the first transaction reaches etcd after all."""
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    late: list[httpx.Request] = []
    async with world.running("a") as one:
        await one.session("open", holder)
        handle = world._services[ETCD[0]]

        async def swallow(sent: httpx.Request) -> httpx.Response:
            if sent.url.path == TXN and b"request_put" in sent.content and not late:
                late.append(sent)
                raise httpx.ReadError("reset")
            return await handle(sent)

        for url in ETCD:
            world.place("a").network.serve(url, swallow)
        await one.trade(world.leader, buy("a", 7))
        assert len(late) == 1
        response = await handle(late[0])
        assert json.loads(await response.aread()).get("succeeded") is None
        assert await one.quantity() == 93
        await one.trade(world.leader, buy("b", 3))
        assert await one.quantity() == 90
    await one_sequence(world)


@in_catalog_time
async def test_nothing_is_written_while_etcd_owes_an_answer(tmp_path: Path) -> None:
    """A node forwards it to the leader that is gone, and it is lost: it would be found out only after the election."""
    world = SharedWorld(tmp_path)
    is_electing, writes = False, 0
    elected = asyncio.Event()
    async with world.running("a") as one:
        handle = world._services[ETCD[0]]

        async def electing(sent: httpx.Request) -> httpx.Response:
            nonlocal writes
            if b"request_put" in sent.content:
                writes += 1
                if is_electing:
                    await asyncio.Event().wait()
            if is_electing:
                await elected.wait()
            return await handle(sent)

        for url in ETCD:
            world.place("a").network.serve(url, electing)
        await one.trade(world.leader, buy("a", 1))
        assert writes == 1
        is_electing = True
        looking = asyncio.create_task(one.client.get("/stocks/GameStart"))
        await asyncio.sleep(ETCD_BESIDE_S + 0.01)
        trading = asyncio.create_task(one.trade(world.leader, buy("b", 2)))
        await asyncio.sleep(0.1)
        assert writes == 1
        is_electing = False
        elected.set()
        began = world.place("a").clock()
        await trading
        assert world.place("a").clock() - began < ETCD_READ_AGAIN_S
        assert writes == 2
        assert (await looking).status_code == 200
        assert await one.quantity() == 97
    await one_sequence(world)


@in_catalog_time
async def test_nothing_is_written_until_etcd_has_answered_however_often_it_was_asked(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        store = one.catalog._store
        await one.trade(world.leader, buy("a", 1))
        world.place("a").etcd("hangs")
        for _ in range(3):
            assert (await one.client.get("/stocks/GameStart")).status_code == 503
            assert store.is_silent
        asking = asyncio.create_task(one.client.get("/stocks/GameStart"))
        await asyncio.sleep(0.01)
        assert store.is_silent, "also when another look has just begun"
        world.place("a").etcd(None)
        assert (await asking).status_code == 200
        assert not store.is_silent
        await one.trade(world.leader, buy("b", 2))
    await one_sequence(world)


# etcd is lost.


@pytest.mark.parametrize("fault", ["refuses", "resets", "hangs"])
@in_catalog_time
async def test_a_catalog_without_etcd_says_so_in_time_and_others_go_on(tmp_path: Path, fault: Any) -> None:
    world = SharedWorld(tmp_path)
    holder = world.front_end()
    async with world.running("a") as one, world.running("b") as other:
        await one.session("open", holder)
        place = world.place("a")
        place.etcd(fault)
        for path, message, within in (
            ("/stocks/GameStart", None, ETCD_READS_S),
            ("/decide", world.leader.ask(), ETCD_READS_S),
            ("/decide", world.leader.ask(buy("a")), DECIDE_ANSWER_S),
        ):
            began = place.clock()
            response = await (one.client.get(path) if message is None else one.post(path, message))
            assert response.status_code in ({503, 504} if fault != "refuses" else {503}), response.text
            assert place.clock() - began <= within + 0.1
        await asyncio.sleep(5)
        ready = await one.client.get("/readyz")
        assert ready.status_code == 503
        assert "etcd" in ready.text
        assert (await other.client.get("/readyz")).status_code == 200
        assert (await other.session("renew", holder)).outcome == "renewed"
        await other.trade(world.leader, buy("a"), buy("b"))
        place.etcd(None)
        await until(lambda: one.catalog.missing() is None)
        assert await one.quantity() == 98
    await one_sequence(world)


@in_catalog_time
async def test_a_catalog_that_starts_without_etcd_waits_for_it(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    world.place("a").etcd("hangs")
    async with world.running("a", ready=False) as one:
        await asyncio.sleep(30)
        ready = await one.client.get("/readyz")
        assert (ready.status_code, "etcd" in ready.text) == (503, True)
        assert (await one.post("/decide", request(head=head_of([])))).status_code == 503
        world.place("a").etcd(None)
        await until(lambda: one.catalog.missing() is None)
    assert not world.ended


@in_catalog_time
async def test_one_node_of_etcd_is_not_missed(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        faults: list[Fault] = ["refuses", "hangs", "resets"]
        for url, fault in zip(ETCD, faults, strict=True):
            for each in ETCD:
                world.place("a").network.fault(each, fault if each == url else None)
            await one.trade(world.leader, buy(f"at {url}"[:60].replace(" ", "-")))
            assert one.catalog.missing() is None
    await one_sequence(world)


# What is kept, and what is not.


@in_catalog_time
async def test_two_hundred_stocks_change_in_one_request(tmp_path: Path) -> None:
    stocks = [Stock(name=f"S{i:03}", price=100, quantity=5) for i in range(200)]
    world = SharedWorld(tmp_path, stocks=stocks)
    async with world.running("a") as one, world.running("b") as other:
        told = await one.trade(world.leader, *(buy(f"k{i}", 1, name=f"S{i:03}") for i in range(200)))
        assert [entry.number for entry in told.entries] == list(range(1, 201))
        assert len(keys(world, "/log/")) == 2, "in two transactions"
        assert {stock.quantity for stock in (await other.call("/stocks", StocksAnswer)).stocks} == {4}
        saved = await world.saved()
        assert saved.inventory.head == world.leader.head
    assert not world.ended


@in_catalog_time
async def test_an_outcome_is_unknown_when_only_a_part_of_a_request_could_be_decided(tmp_path: Path) -> None:
    stocks = [Stock(name=f"S{i:03}", price=100, quantity=5) for i in range(200)]
    world = SharedWorld(tmp_path, stocks=stocks)
    async with world.running("a") as one:

        async def lose() -> None:
            world.place("a").etcd("refuses")

        world.place("a").points.hooks["catalog.decide.committed"] = lose
        trades = [buy(f"k{i}", 1, name=f"S{i:03}") for i in range(200)]
        response = await one.post("/decide", world.leader.ask(*trades))
        assert response.status_code == 504
        world.place("a").points.hooks.clear()
        world.place("a").etcd(None)
        told = await one.trade(world.leader, *trades)
        assert [entry.number for entry in told.entries] == list(range(1, 201))
    assert not world.ended


@in_catalog_time
async def test_what_every_replica_has_is_forgotten_in_etcd_too(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one, world.running("b") as other:
        for i in range(4):
            await one.trade(world.leader, buy(f"a{i}"), buy(f"b{i}"))
        assert len(keys(world, "/log/")) == 4
        for replica in world.replicas.values():
            replica.take(await one.decide(replica.ask()))
        for replica in world.replicas.values():
            await one.decide(replica.ask())
        await one.trade(world.leader, buy("last"))
        assert len(keys(world, "/log/")) == 2
        saved = (await world.saved()).inventory
        assert (saved.base.position, saved.head.position) == (8, 9)
        assert saved.after(8) == world.leader.entries[8:]
        assert (await other.decide(request(head=head_of([]), replica_id=1))).outcome == "fetch_base"
        await other.trade(world.leader, buy("more"))
    await one_sequence(world)


@in_catalog_time
async def test_reports_count_whichever_catalog_they_were_made_to(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one, world.running("b") as other:
        await one.trade(world.leader, *(buy(f"a{i}") for i in range(4)))
        for replica, process in zip(world.replicas.values(), (one, other, one), strict=True):
            replica.take(await process.decide(replica.ask()))
            await process.decide(replica.ask())
        await asyncio.sleep(3)
        for name, process in (("a", one), ("b", other)):
            assert (await process.call("/status", CatalogStatus)).base == 4, name
        await other.trade(world.leader, buy("more"))
        assert (await world.saved()).inventory.base.position == 4


@in_catalog_time
async def test_a_catalog_that_slept_reads_the_state_anew_when_etcd_has_forgotten_what_it_missed(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one, world.running("b") as other:
        gate = world.place("b").points.hooks["etcd.refresh.read"] = Gate()
        asking = asyncio.create_task(other.quantity())
        await gate.reached.wait()
        for i in range(6):
            await one.trade(world.leader, buy(f"a{i}"))
            for replica in world.replicas.values():
                replica.take(await one.decide(replica.ask()))
                await one.decide(replica.ask())
        world.state.compact(world.state.revision)
        gate.open()
        assert await asking == 100, "as it was when it asked"
        assert await other.quantity() == 94
        await other.trade(world.leader, buy("more"))
    await one_sequence(world)


@in_catalog_time
async def test_history_is_compacted_in_the_background(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        before = world.state.revision
        for i in range(3):
            await one.trade(world.leader, buy(f"a{i}"))
            await asyncio.sleep(COMPACT_EVERY_S / 2)
        assert before <= world.state.compacted < world.state.revision
        assert await one.quantity() == 97
    await one_sequence(world)


# Contradictions.


@in_catalog_time
async def test_a_catalog_stops_for_good_when_the_state_is_deleted_under_it(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        await one.trade(world.leader, buy("a"))
        _ = await world.read_etcd().change([], [{"request_delete_range": _everything()}])
        response = await one.client.get("/stocks/GameStart")
        assert response.status_code == 500
        assert world.ended[0] == 3


def _everything() -> dict[str, str]:
    return {"key": "YQ==", "range_end": "AA=="}


@in_catalog_time
async def test_nothing_is_decided_in_a_state_that_was_replaced(tmp_path: Path) -> None:
    """Only `root` was deleted, so all else that the commit names is still as it was."""
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        gate = world.place("a").points.hooks["etcd.commit.before"] = Gate()
        deciding = asyncio.create_task(one.post("/decide", world.leader.ask(buy("a"))))
        await gate.reached.wait()
        _ = await world.read_etcd().change([], [delete(f"{PREFIX}/root")])
        async with world.running("b") as other:
            gate.open()
            assert (await deciding).status_code == 500
            assert set(world.place("a").ended_with) == {3}
            assert await other.quantity() == 100


@in_catalog_time
async def test_a_catalog_stops_for_good_when_a_replica_knows_more_than_etcd(tmp_path: Path) -> None:
    """A snapshot was put back."""
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        await one.trade(world.leader, buy("a"))
        beyond = world.leader.head.model_copy(update={"position": 9})
        response = await one.post("/decide", request(head=beyond))
        assert response.status_code == 500
        assert world.ended == [3]


@in_catalog_time
async def test_a_wiped_etcd_is_rebuilt_from_all_replicas(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        await one.trade(world.leader, buy("a", 9))
    _ = await world.read_etcd().change([], [{"request_delete_range": _everything()}])
    async with world.running("b") as other:
        assert await other.quantity() == 91
        assert (await other.call("/status", CatalogStatus)).generation == 2
        await other.trade(world.leader, buy("b", 1))
    await one_sequence(world)


# Rebuilding.


@pytest.mark.parametrize(
    "step",
    ["etcd.claim.read", "catalog.rebuild.adopted", "catalog.rebuild.before_create", "etcd.create.wrote"],
)
@in_catalog_time
async def test_one_of_two_rebuilds_counts_when_they_meet(tmp_path: Path, step: str) -> None:
    """The first one sleeps at some step for longer than its claim is respected, and then goes on."""
    world = SharedWorld(tmp_path)
    gate = world.place("a").points.hooks[step] = Gate()
    async with world.running("a", ready=False) as one:
        await gate.reached.wait()
        # A paused process does not beat either.
        world.place("a").etcd("hangs")
        async with world.running("b") as other:
            await other.trade(world.leader, buy("b", 1))
            gate.open()
            world.place("a").etcd(None)
            await until(one.catalog._may_decide.is_set)
            generations = {replica.generation for replica in world.replicas.values()}
            assert {(await each.call("/status", CatalogStatus)).generation for each in (one, other)} == generations
            await one.trade(world.leader, buy("a", 1))
            assert await other.quantity() == 98
            await asyncio.sleep(3)
            assert len({key.split("/")[2] for key in keys(world, "/data/")}) == 1, "what came second is deleted"
            assert not keys(world, "/claim") + keys(world, "/beat")
    await one_sequence(world)


@in_catalog_time
async def test_a_second_catalog_waits_while_the_first_one_rebuilds(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    gate = world.place("a").points.hooks["catalog.rebuild.adopted"] = Gate()
    async with world.running("a", ready=False) as one:
        await gate.reached.wait()
        async with world.running("b", ready=False) as other:
            await asyncio.sleep(20)
            assert other.catalog.missing() is not None
            gate.open()
            await until(other.catalog._may_decide.is_set)
            await until(one.catalog._may_decide.is_set)
    assert {replica.generation for replica in world.replicas.values()} == {1}
    assert not world.ended


@in_catalog_time
async def test_a_hundred_thousand_bytes_of_entries_are_rebuilt(tmp_path: Path) -> None:
    """More than one transaction takes."""
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        for i in range(5):
            await one.trade(world.leader, *(buy(f"{i}-{k}" + "x" * 50) for k in range(900)))
    _ = await world.read_etcd().change([], [{"request_delete_range": _everything()}])
    async with world.running("b") as other:
        assert (await other.call("/status", CatalogStatus)).head == world.leader.head
        assert await other.quantity() == 0
    await one_sequence(world)


@in_catalog_time
async def test_a_rebuilt_state_waits_a_lease_before_the_first_decision(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a", ready=False) as one, world.running("b", ready=False) as other:
        for process, replica in ((one, world.replicas[3]), (other, world.replicas[2])):
            await until(lambda process=process: process.catalog.missing() is None)  # type: ignore[misc]
            began = world.place("a").clock()
            await process.decide(replica.ask(buy(f"by-{replica.id}")))
            if process is one:
                assert world.place("a").clock() - began == pytest.approx(LEASE_AT_CATALOG_S, abs=0.05)
        assert keys(world, "/rebuilt") == []


@in_catalog_time
async def test_reads_share_calls_of_etcd(tmp_path: Path) -> None:
    world = SharedWorld(tmp_path)
    async with world.running("a") as one:
        before = world.place("a").transactions
        assert await asyncio.gather(*(one.quantity() for _ in range(100))) == [100] * 100
        assert world.place("a").transactions - before <= 3
        await turns()
