"""Selecting a leader: what the checks see, who is told, what customers and operators are shown."""

import asyncio

import pytest

from tests.support.fake_bazaar import FakeBazaar, replica_url
from tests.support.fake_network import Fault
from tests.support.fake_time import in_fake_time, until


def leader(bazaar: FakeBazaar) -> int | None:
    return bazaar.front_end.replicas.leader


async def shown(bazaar: FakeBazaar) -> tuple[int | None, dict[int, str]]:
    view = (await bazaar.client.get("/leader")).json()["data"]
    return view["leader"], {replica["id"]: replica["state"] for replica in view["replicas"]}


@in_fake_time
async def test_highest_id_leads_and_all_replicas_are_told() -> None:
    async with FakeBazaar().running() as bazaar:
        assert await shown(bazaar) == (3, {1: "level", 2: "level", 3: "level"})
        await until(lambda: all(replica.notices for replica in bazaar.replicas.values()))
        notices = [replica.notices[0] for replica in bazaar.replicas.values()]
        assert {(notice.front_end, notice.leader) for notice in notices} == {("front-end-1", 3)}


@in_fake_time
async def test_replicas_are_checked_ten_times_a_second_also_while_one_hangs() -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.fault(2, "hangs")
        before = {number: bazaar.network.count(replica_url(number), "/status") for number in bazaar.replicas}
        await asyncio.sleep(10.0)
        checks = {number: bazaar.network.count(replica_url(number), "/status") - before[number] for number in before}
        assert checks[1] == pytest.approx(100, abs=1)
        assert checks[3] == pytest.approx(100, abs=1)
        assert checks[2] == pytest.approx(10.0 / 0.15, abs=1)
        assert (await shown(bazaar))[1] == {1: "level", 2: "silent", 3: "level"}


@in_fake_time
@pytest.mark.parametrize(("fault", "within"), [("refuses", 0.11), ("resets", 0.11), ("hangs", 0.41)])
async def test_next_highest_leads_soon_when_the_leader_fails(fault: Fault, within: float) -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.fault(3, fault)
        await until(lambda: leader(bazaar) == 2, within)
        await until(lambda: bazaar.replicas[1].notices[-1].leader == 2)
        assert (await shown(bazaar))[1] == {1: "level", 2: "level", 3: "silent"}


@in_fake_time
async def test_nobody_leads_when_nobody_answers_and_the_first_that_comes_back_does() -> None:
    async with FakeBazaar().running() as bazaar:
        for number in bazaar.replicas:
            bazaar.fault(number, "refuses")
        await until(lambda: leader(bazaar) is None)
        assert await shown(bazaar) == (None, {1: "silent", 2: "silent", 3: "silent"})
        response = await bazaar.client.get("/readyz")
        assert (response.status_code, response.json()["error"]["message"]) == (503, "there is no leader")
        bazaar.fault(1, None)
        await until(lambda: leader(bazaar) == 1)
        assert (await bazaar.client.get("/readyz")).status_code == 200


@in_fake_time
async def test_leader_stays_when_a_higher_id_comes_back_and_that_one_is_told() -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.fault(3, "hangs")
        await until(lambda: leader(bazaar) == 2)
        bazaar.replicas[3].notices.clear()
        bazaar.fault(3, None)
        await until(lambda: bazaar.replicas[3].notices)
        await asyncio.sleep(5.0)
        assert leader(bazaar) == 2
        assert {notice.leader for notice in bazaar.replicas[3].notices} == {2}
        assert len(bazaar.replicas[3].notices) <= 3, "it is told, and not told again and again"


@in_fake_time
async def test_replica_that_shows_another_role_is_told_again_but_not_with_every_check() -> None:
    async with FakeBazaar().running() as bazaar:
        await asyncio.sleep(2.0)
        told = len(bazaar.replicas[1].notices)
        bazaar.replicas[1].role = "leader"  # by another front-end
        await until(lambda: bazaar.replicas[1].role == "follower", within=1.2)
        assert len(bazaar.replicas[1].notices) == told + 1
        await asyncio.sleep(5.0)
        assert len(bazaar.replicas[1].notices) == told + 1


@in_fake_time
async def test_leader_stays_when_the_catalog_is_lost_to_all_and_moves_when_it_is_lost_to_the_leader() -> None:
    """H22 and H13."""
    async with FakeBazaar().running() as bazaar:
        for replica in bazaar.replicas.values():
            replica.level, replica.level_age = False, 2.0
        await asyncio.sleep(5.0)
        assert await shown(bazaar) == (3, {1: "answering", 2: "answering", 3: "answering"})
        for number in (1, 2):
            bazaar.replicas[number].level, bazaar.replicas[number].level_age = True, 0.0
        await until(lambda: leader(bazaar) == 2, within=0.8)


@in_fake_time
@pytest.mark.parametrize("code", [403, 500, 503])
async def test_replica_that_answers_its_checks_with_errors_is_silent(code: int) -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.replicas[3].check_code = code
        await until(lambda: leader(bazaar) == 2, within=0.31)


@in_fake_time
async def test_replica_at_the_wrong_address_gets_no_trades() -> None:
    bazaar = FakeBazaar()
    bazaar.replicas[3].shown_id = 1
    async with bazaar.running():
        assert await shown(bazaar) == (2, {1: "level", 2: "level", 3: "silent"})


@in_fake_time
async def test_highest_id_leads_when_the_whole_bazaar_starts_and_it_is_the_last_to_answer() -> None:
    bazaar = FakeBazaar()
    for number in bazaar.replicas:
        bazaar.fault(number, "refuses")
    async with bazaar.running(ready=False):
        for number in bazaar.replicas:
            await asyncio.sleep(0.5)
            assert leader(bazaar) is None
            bazaar.fault(number, None)
        await until(lambda: leader(bazaar) is not None, within=0.2)
        assert leader(bazaar) == 3


@in_fake_time
async def test_readiness_asks_for_a_session_when_there_is_a_cache() -> None:
    bazaar = FakeBazaar()
    bazaar.catalog.before_opened = asyncio.Event().wait
    async with bazaar.running(ready=False):
        await until(lambda: leader(bazaar) == 3)
        response = await bazaar.client.get("/readyz")
        assert response.json()["error"]["message"] == "the cache has no session at the catalog"
        assert (await bazaar.client.get("/livez")).status_code == 200


@in_fake_time
async def test_metrics_count_what_the_cache_and_the_selection_did() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        await bazaar.look_up("GameStart")
        await bazaar.catalog.trade("GameStart", -1)
        await bazaar.look_up("GameStart")
        bazaar.fault(3, "refuses")
        await until(lambda: leader(bazaar) == 2)
        text = (await bazaar.client.get("/metrics")).text
        for line in (
            "bazaar_cache_hits_total 1.0",
            "bazaar_cache_misses_total 2.0",
            "bazaar_cache_evictions_total 0.0",
            "bazaar_cache_invalidations_total 1.0",
            "bazaar_cache_entries 1.0",
            "bazaar_cache_session 1.0",
            "bazaar_trades_in_flight 0.0",
            "bazaar_leader_changes_total 2.0",
            "bazaar_leader 2.0",
        ):
            assert f"\n{line}\n" in text
