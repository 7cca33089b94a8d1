"""What the control room asks of a front-end: the cache switched on and off, and how a change of leader went."""

import asyncio

from services.common.models import FrontEndStatus
from tests.support.fake_bazaar import FakeBazaar
from tests.support.fake_time import in_fake_time, until


async def status(bazaar: FakeBazaar) -> FrontEndStatus:
    return FrontEndStatus.model_validate_json((await bazaar.internal.get("/status")).content)


async def switch(bazaar: FakeBazaar, *, on: bool) -> int:
    return (await bazaar.internal.post("/cache", json={"on": on})).status_code


# The cache.


@in_fake_time
async def test_nothing_is_hit_and_no_session_is_left_when_the_cache_is_turned_off() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        assert await switch(bazaar, on=False) == 200
        assert not bazaar.catalog.live
        bazaar.catalog.commit("GameStart", -1)  # nobody is told any more
        assert await bazaar.look_up("GameStart") == (99, "off")
        assert await bazaar.look_up("GameStart") == (99, "off")
        cache = (await status(bazaar)).cache
        assert cache is not None
        assert (cache.on, cache.live, cache.size) == (False, False, 0)


@in_fake_time
async def test_front_end_is_ready_and_asks_for_no_session_when_its_cache_is_off() -> None:
    async with FakeBazaar().running() as bazaar:
        await switch(bazaar, on=False)
        opened = len(bazaar.catalog.opened)
        await asyncio.sleep(5.0)
        assert len(bazaar.catalog.opened) == opened
        assert (await bazaar.client.get("/readyz")).status_code == 200


@in_fake_time
async def test_cache_begins_empty_under_a_new_session_when_it_is_turned_on_again() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        before = bazaar.catalog.opened[-1]
        await switch(bazaar, on=False)
        bazaar.catalog.commit("GameStart", -1)
        await switch(bazaar, on=True)
        await until(bazaar.front_end.cache.is_live)
        assert bazaar.catalog.opened[-1] != before
        assert await bazaar.look_up("GameStart") == (99, "miss")
        assert await bazaar.look_up("GameStart") == (99, "hit")


@in_fake_time
async def test_session_that_was_being_opened_is_worth_nothing_when_the_cache_is_turned_off_meanwhile() -> None:
    async with FakeBazaar().running() as bazaar:

        async def turn_off() -> None:
            bazaar.catalog.before_opened = None
            await switch(bazaar, on=False)

        await switch(bazaar, on=False)
        bazaar.catalog.before_opened = turn_off
        await switch(bazaar, on=True)
        await until(lambda: bazaar.catalog.before_opened is None)
        assert await bazaar.look_up("GameStart") == (100, "off")
        assert not bazaar.front_end.cache.is_live()


@in_fake_time
async def test_switch_is_refused_when_the_front_end_was_started_without_a_cache() -> None:
    async with FakeBazaar(cache_size=0).running() as bazaar:
        assert await switch(bazaar, on=True) == 409
        assert await bazaar.look_up("GameStart") == (100, "off")


@in_fake_time
async def test_status_shows_the_cache_least_recently_used_first() -> None:
    async with FakeBazaar(cache_size=2).running() as bazaar:
        for name in ("BoarCo", "FishCo", "BoarCo", "GameStart", "GameStart"):
            await bazaar.look_up(name)
        cache = (await status(bazaar)).cache
        assert cache is not None
        assert [stock.name for stock in cache.entries] == ["BoarCo", "GameStart"]
        assert (cache.on, cache.live, cache.size, cache.capacity) == (True, True, 2, 2)
        assert (cache.hits, cache.misses, cache.evictions, cache.invalidations) == (2, 3, 1, 0)


@in_fake_time
async def test_metrics_tell_hits_from_misses() -> None:
    async with FakeBazaar().running() as bazaar:
        for _ in range(3):
            await bazaar.look_up("GameStart")
        text = (await bazaar.client.get("/metrics")).text
        for cache, count in (("hit", "2.0"), ("miss", "1.0")):
            labels = f'cache="{cache}",listener="public",method="GET",route="/stocks/{{name}}",status="200"'
            assert f"bazaar_request_seconds_count{{{labels}}} {count}\n" in text


# Changes of leader.


@in_fake_time
async def test_status_tells_when_the_leader_was_missed_another_selected_and_a_trade_accepted() -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.fault(3, "hangs")
        await until(lambda: bazaar.front_end.replicas.leader == 2)
        change = (await status(bazaar)).changes[-1]
        assert (change.before, change.leader, change.first_trade_ms) == (3, 2, None)
        assert change.noticed_ms <= change.selected_ms
        for _ in range(2):
            assert (await bazaar.buy()).status_code == 201
        changes = (await status(bazaar)).changes
        first = changes[-1].first_trade_ms
        assert first is not None
        assert first >= change.selected_ms
        assert [each.leader for each in changes] == [3, 2]
