"""Look-ups through a front-end's cache: hits that are never stale, sessions that end when they must."""

import asyncio

import pytest

from services.common.timing import CHECK_EVERY_S, LEASE_S, LOOK_UP_S, RENEW_EVERY_S
from tests.support.fake_bazaar import CATALOG, STOCKS, FakeBazaar
from tests.support.fake_time import in_fake_time, until


def sessions_opened(bazaar: FakeBazaar) -> int:
    return bazaar.network.count(CATALOG, "/sessions/open")


async def entries(bazaar: FakeBazaar) -> list[str]:
    response = await bazaar.client.get("/cache")
    return [entry["name"] for entry in response.json()["data"]["entries"]]


# Hits and misses.


@in_fake_time
async def test_second_look_up_is_a_hit_and_asks_nobody() -> None:
    async with FakeBazaar().running() as bazaar:
        assert await bazaar.look_up("GameStart") == (100, "miss")
        assert await bazaar.look_up("GameStart") == (100, "hit")
        assert bazaar.catalog.fetches == 1


@in_fake_time
async def test_answer_has_a_price_with_two_decimals_and_an_etag() -> None:
    async with FakeBazaar().running() as bazaar:
        for _ in range(2):
            response = await bazaar.client.get("/stocks/GameStart")
            assert response.content == b'{"data":{"name":"GameStart","price":152.25,"quantity":100}}'
            assert response.headers["content-type"] == "application/json"
            assert response.headers["content-length"] == str(len(response.content))
            assert response.headers["etag"] == '"1-0"'


@in_fake_time
async def test_unchanged_stock_is_answered_304_until_it_is_traded() -> None:
    async with FakeBazaar().running() as bazaar:
        asked = {"If-None-Match": '"x", W/"1-0"'}
        for how in ("miss", "hit"):
            response = await bazaar.client.get("/stocks/GameStart", headers=asked)
            assert (response.status_code, response.content) == (304, b"")
            assert (response.headers["etag"], response.headers["x-cache"]) == ('"1-0"', how)
        await bazaar.catalog.trade("GameStart", -1)
        response = await bazaar.client.get("/stocks/GameStart", headers=asked)
        assert (response.status_code, response.headers["etag"]) == (200, '"1-1"')


@in_fake_time
async def test_least_recently_used_stock_makes_room_when_the_cache_is_full() -> None:
    async with FakeBazaar(cache_size=2).running() as bazaar:
        for name in ("BoarCo", "FishCo", "BoarCo", "GameStart"):
            await bazaar.look_up(name)
        assert await entries(bazaar) == ["BoarCo", "GameStart"]
        counted = (await bazaar.client.get("/cache")).json()["data"]
        del counted["entries"]
        assert counted == {"size": 2, "capacity": 2, "hits": 1, "misses": 3, "evictions": 1, "invalidations": 0}


@in_fake_time
async def test_every_look_up_asks_the_catalog_when_the_cache_is_off() -> None:
    async with FakeBazaar(cache_size=0).running() as bazaar:
        assert await bazaar.look_up("GameStart") == (100, "off")
        bazaar.catalog.commit("GameStart", -1)
        assert await bazaar.look_up("GameStart") == (99, "off")
        await asyncio.sleep(2.0)
        assert sessions_opened(bazaar) == 0
        assert (await bazaar.client.get("/readyz")).status_code == 200


@in_fake_time
async def test_dropped_stock_is_fetched_again() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        for _ in range(2):  # also when it is not there
            assert (await bazaar.client.delete("/cache/GameStart")).status_code == 204
        assert await bazaar.look_up("GameStart") == (100, "miss")
        assert (await bazaar.internal.get("/rm?name=GameStart")).json() == {"removed": True}
        assert await bazaar.look_up("GameStart") == (100, "miss")


@in_fake_time
async def test_concurrent_misses_of_one_stock_share_a_fetch() -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.network.delay(CATALOG, 0.05)
        found = await asyncio.gather(*(bazaar.look_up("GameStart") for _ in range(20)))
        assert found == 20 * [(100, "miss")]
        assert bazaar.catalog.fetches == 1


@in_fake_time
async def test_readers_who_joined_get_their_answer_when_the_first_one_goes_away() -> None:
    async with FakeBazaar().running() as bazaar:
        answered = asyncio.Event()
        bazaar.catalog.before_answer = answered.wait
        first = asyncio.create_task(bazaar.front_end.stocks.look_up("GameStart"))
        await until(lambda: bazaar.catalog.fetches == 1)
        second = asyncio.create_task(bazaar.look_up("GameStart"))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        answered.set()
        assert await second == (100, "miss")
        assert bazaar.catalog.fetches == 1


@in_fake_time
async def test_stocks_are_listed_by_name_in_pages_straight_from_the_catalog() -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.catalog.commit("FishCo", -1)  # without a word: a cache would not know
        names: list[str] = []
        path = "/stocks?limit=3"
        while path:
            page = (await bazaar.client.get(path)).json()
            names += [stock["name"] for stock in page["data"]]
            path = f"/stocks?limit=3&after={page['next']}" if page["next"] else ""
        assert names == sorted(STOCKS)
        page = (await bazaar.client.get("/stocks?after=F&limit=1")).json()
        assert page["data"] == [{"name": "FishCo", "price": 152.25, "quantity": 99}]
        assert (await bazaar.client.get("/stocks?after=zzz")).json() == {"data": [], "next": None}


# Invalidation.


@in_fake_time
async def test_look_up_after_a_trade_sees_it() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        await bazaar.catalog.trade("GameStart", -7)
        assert await bazaar.look_up("GameStart") == (93, "miss")
        assert await bazaar.look_up("GameStart") == (93, "hit")
        assert (await bazaar.client.get("/cache")).json()["data"]["invalidations"] == 1


@in_fake_time
async def test_state_before_the_trade_is_not_cached_between_its_announcement_and_its_commit() -> None:
    """H2 and section 5: an old state may be returned until the commit, and must not be kept beyond it."""
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        assert await bazaar.catalog.announce("GameStart") == "mine"
        assert await bazaar.look_up("GameStart") == (100, "miss")
        assert await bazaar.look_up("GameStart") == (100, "miss")
        bazaar.catalog.commit("GameStart", -1)
        assert await bazaar.look_up("GameStart") == (99, "miss")
        assert await bazaar.look_up("GameStart") == (99, "hit")


@in_fake_time
async def test_many_readers_do_not_wait_for_each_other_while_an_announcement_came_to_nothing() -> None:
    """Another catalog was faster, or the one that announced has died: the floor stays above the head for a while."""
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        await bazaar.catalog.announce("GameStart")
        bazaar.network.delay(CATALOG, 0.1)
        began = bazaar.clock()
        found = await asyncio.gather(*(bazaar.look_up("GameStart") for _ in range(100)))
        assert set(found) == {(100, "miss")}
        assert bazaar.clock() - began <= 0.3


@in_fake_time
async def test_answer_from_before_the_announcement_is_not_kept() -> None:
    async with FakeBazaar().running() as bazaar:
        late = asyncio.Event()
        bazaar.catalog.before_answer = late.wait
        reader = asyncio.create_task(bazaar.look_up("GameStart"))
        await until(lambda: bazaar.catalog.fetches == 1)
        await bazaar.catalog.trade("GameStart", -1)
        late.set()
        assert await reader == (100, "miss"), "it asked before the trade, so it may have seen the state before"
        assert await bazaar.look_up("GameStart") == (99, "miss")


@in_fake_time
async def test_reader_does_not_join_a_fetch_from_before_the_invalidation() -> None:
    """H10: the trade is acknowledged, then somebody looks, and must not get what a slow fetch read before."""
    async with FakeBazaar().running() as bazaar:
        late = asyncio.Event()
        bazaar.catalog.before_answer = late.wait
        early = asyncio.create_task(bazaar.look_up("GameStart"))
        await until(lambda: bazaar.catalog.fetches == 1)
        await bazaar.catalog.trade("GameStart", -1)
        reader = asyncio.create_task(bazaar.look_up("GameStart"))
        await until(lambda: bazaar.catalog.fetches == 2)
        late.set()
        assert await early == (100, "miss")
        assert await reader == (99, "miss")


@in_fake_time
async def test_reader_who_joined_before_the_invalidation_asks_again_when_the_answer_is_from_before_it() -> None:
    async with FakeBazaar().running() as bazaar:
        late = asyncio.Event()
        bazaar.catalog.before_answer = late.wait
        early = asyncio.create_task(bazaar.look_up("GameStart"))
        await until(lambda: bazaar.catalog.fetches == 1)
        joiner = asyncio.create_task(bazaar.look_up("GameStart"))
        await asyncio.sleep(0.01)
        assert bazaar.catalog.fetches == 1
        await bazaar.catalog.trade("GameStart", -1)
        late.set()
        assert await early == (100, "miss")
        assert await joiner == (99, "miss")


@in_fake_time
async def test_invalidation_of_another_session_or_generation_is_not_ours() -> None:
    async with FakeBazaar().running() as bazaar:
        (session,) = bazaar.catalog.opened
        assert await bazaar.catalog.invalidate("another", {"GameStart": 1}) == "not_mine"
        assert sessions_opened(bazaar) == 1
        assert await bazaar.catalog.invalidate(session, {"GameStart": 1}, generation=2) == "not_mine"
        await until(lambda: sessions_opened(bazaar) > 1)


# Sessions.


@in_fake_time
async def test_session_is_renewed_four_times_a_second_and_hits_go_on() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        before = bazaar.catalog.renewals
        await asyncio.sleep(10.0)
        assert bazaar.catalog.renewals - before == pytest.approx(10.0 / RENEW_EVERY_S, abs=1)
        assert await bazaar.look_up("GameStart") == (100, "hit")
        assert sessions_opened(bazaar) == 1


@in_fake_time
async def test_nothing_is_hit_when_the_process_was_stopped_for_longer_than_its_lease() -> None:
    """The clock is looked at in the step that takes the entry, so the first request after SIGCONT is a miss."""
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        bazaar.clock.stop(LEASE_S)
        bazaar.catalog.live.clear()
        bazaar.catalog.commit("GameStart", -1)
        assert await bazaar.look_up("GameStart") == (99, "miss")


@in_fake_time
async def test_renewal_that_is_handled_after_the_lapse_is_worth_nothing() -> None:
    """H8: the catalog renewed, this process was stopped until the lease had lapsed, and then it reads the answer."""
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")

        async def stop_now() -> None:
            bazaar.catalog.before_renewed = None
            bazaar.clock.stop(LEASE_S)
            bazaar.catalog.live.clear()
            bazaar.catalog.commit("GameStart", -1)

        bazaar.catalog.before_renewed = stop_now
        await until(lambda: len(bazaar.catalog.opened) == 2)
        assert await bazaar.look_up("GameStart") == (99, "miss")
        assert len(set(bazaar.catalog.opened)) == 2, "an id is never used again"


@in_fake_time
async def test_hits_end_with_the_lease_and_look_ups_go_on_when_renewals_get_no_answer() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        bazaar.catalog.before_renewed = asyncio.Event().wait
        await asyncio.sleep(RENEW_EVERY_S + 0.1)
        assert await bazaar.look_up("GameStart") == (100, "hit")
        await asyncio.sleep(LEASE_S)
        assert not bazaar.front_end.cache.is_live() or len(bazaar.catalog.opened) > 1
        assert await bazaar.look_up("GameStart") == (100, "miss")


@in_fake_time
async def test_session_is_kept_and_asked_for_again_soon_when_the_catalog_is_busy() -> None:
    """H11: while an invalidation is unanswered the lease is not renewed, so that no trade is blocked for ever."""
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        bazaar.catalog.is_busy = True
        before = bazaar.catalog.renewals
        await asyncio.sleep(0.5)
        assert bazaar.catalog.renewals - before > 5
        assert await bazaar.look_up("GameStart") == (100, "hit")
        bazaar.catalog.is_busy = False
        await asyncio.sleep(5.0)
        assert sessions_opened(bazaar) == 1


@in_fake_time
async def test_hits_end_with_the_lease_when_the_catalog_stays_busy() -> None:
    """H11 again: we keep asking, cannot be reached, and the catalog waits for no more than our lease."""
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        bazaar.catalog.is_busy = True
        opened = sessions_opened(bazaar)
        await until(lambda: sessions_opened(bazaar) > opened, within=LEASE_S + 0.1)
        assert await bazaar.look_up("GameStart") == (100, "miss")


@in_fake_time
async def test_new_session_is_opened_when_the_catalog_knows_none() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        bazaar.catalog.live.clear()
        await until(lambda: len(bazaar.catalog.opened) == 2)
        assert await bazaar.look_up("GameStart") == (100, "miss")
        assert await bazaar.look_up("GameStart") == (100, "hit")


@in_fake_time
async def test_new_session_is_opened_at_once_when_a_look_up_meets_a_rebuilt_catalog() -> None:
    """H19, and H4: positions of another generation cannot be compared with ours."""
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        bazaar.catalog.generation = 2
        bazaar.catalog.commit("GameStart", -1)
        assert await bazaar.look_up("FishCo") == (100, "miss")
        assert await bazaar.look_up("GameStart") == (99, "miss")
        await until(lambda: len(bazaar.catalog.opened) == 2, within=0.01)
        await until(lambda: bazaar.front_end.missing() is None)
        response = await bazaar.client.get("/stocks/GameStart")
        assert response.headers["etag"] == '"2-1"'


@in_fake_time
async def test_renewal_by_a_rebuilt_catalog_does_not_revive_the_session() -> None:
    """H19: a rebuilt catalog that, wrongly, still renews."""
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        bazaar.catalog.generation = 2
        bazaar.catalog.commit("GameStart", -1)
        await until(lambda: len(bazaar.catalog.opened) == 2)
        assert await bazaar.look_up("GameStart") == (99, "miss")


@in_fake_time
async def test_state_from_before_the_opening_is_not_kept_when_a_decision_was_announced_then() -> None:
    """H9: announced to everybody, then our session opens, and the commit comes last."""
    bazaar = FakeBazaar()
    bazaar.catalog.announced = 1
    async with bazaar.running():
        assert await bazaar.look_up("GameStart") == (100, "miss")
        bazaar.catalog.commit("GameStart", -1)
        assert await bazaar.look_up("GameStart") == (99, "miss")
        assert await bazaar.look_up("GameStart") == (99, "hit")


@in_fake_time
async def test_invalidation_that_overtakes_the_answer_to_the_opening_is_taken() -> None:
    """H19: the session is live at the catalog before we know it."""
    bazaar = FakeBazaar()
    said: list[str] = []

    async def announce() -> None:
        said.append(await bazaar.catalog.announce("GameStart"))

    bazaar.catalog.before_opened = announce
    async with bazaar.running():
        assert said == ["mine"]
        assert await bazaar.look_up("GameStart") == (100, "miss")
        bazaar.catalog.commit("GameStart", -1)
        assert await bazaar.look_up("GameStart") == (99, "miss")


@in_fake_time
async def test_session_that_is_recalled_while_its_opening_is_unanswered_never_opens() -> None:
    bazaar = FakeBazaar()
    said: list[str] = []

    async def recall() -> None:
        if not said:
            said.append(await bazaar.catalog.notice("recall", bazaar.catalog.opened[-1]))

    bazaar.catalog.before_opened = recall
    async with bazaar.running():
        assert said == ["mine"]
        assert len(bazaar.catalog.opened) == 2
        assert await bazaar.catalog.invalidate(bazaar.catalog.opened[0], {"GameStart": 1}) == "not_mine"


@in_fake_time
async def test_recall_empties_the_cache_and_a_new_session_is_opened_at_once() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.look_up("GameStart")
        (session,) = bazaar.catalog.opened
        assert await bazaar.catalog.notice("recall", session) == "mine"
        assert await bazaar.catalog.notice("recall", session) == "not_mine"
        assert await entries(bazaar) == []
        await until(lambda: len(bazaar.catalog.opened) == 2, within=0.01)


@in_fake_time
async def test_only_a_session_that_is_being_opened_is_confirmed() -> None:
    async with FakeBazaar().running() as bazaar:
        (session,) = bazaar.catalog.opened
        assert await bazaar.catalog.notice("confirm", session) == "not_mine"
        assert await bazaar.catalog.notice("confirm", "another") == "not_mine"


@in_fake_time
async def test_opening_that_got_no_answer_is_tried_under_a_new_id() -> None:
    bazaar = FakeBazaar()
    bazaar.catalog.before_opened = asyncio.Event().wait
    async with bazaar.running(ready=False):
        await until(lambda: len(bazaar.catalog.opened) == 3)
        assert len(set(bazaar.catalog.opened)) == 3
        assert await bazaar.look_up("GameStart") == (100, "miss")
        assert await bazaar.catalog.invalidate(bazaar.catalog.opened[0], {"GameStart": 1}) == "not_mine"
        bazaar.catalog.before_opened = None
        await until(lambda: bazaar.front_end.missing() is None)


@in_fake_time
async def test_front_end_that_stops_ends_its_hits_and_then_its_session() -> None:
    bazaar = FakeBazaar()
    async with bazaar.running():
        await bazaar.look_up("GameStart")
    assert bazaar.catalog.ended == bazaar.catalog.opened
    assert bazaar.front_end.cache.pages() == []


@in_fake_time
async def test_front_end_stops_soon_when_the_catalog_hangs() -> None:
    bazaar = FakeBazaar()
    async with bazaar.running():
        bazaar.network.fault(CATALOG, "hangs")
        stopping_at = bazaar.clock()
    assert bazaar.clock() - stopping_at < 1.0


# The catalog fails.


@in_fake_time
async def test_look_up_waits_for_a_catalog_that_is_started_again() -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.network.fault(CATALOG, "refuses")
        reader = asyncio.create_task(bazaar.look_up("GameStart"))
        await asyncio.sleep(0.5)
        bazaar.network.fault(CATALOG, None)
        bazaar.catalog.is_starting = True
        await asyncio.sleep(0.5)
        bazaar.catalog.is_starting = False
        assert await reader == (100, "miss")


@in_fake_time
@pytest.mark.parametrize("fault", ["refuses", "resets", "hangs"])
@pytest.mark.parametrize("path", ["/stocks/GameStart", "/stocks"])
async def test_look_up_is_answered_503_after_two_seconds_when_the_catalog_is_away(path: str, fault: str) -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.network.fault(CATALOG, fault)  # type: ignore[arg-type]
        began = bazaar.clock()
        response = await bazaar.client.get(path)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert bazaar.clock() - began == pytest.approx(LOOK_UP_S, abs=0.01)


@in_fake_time
async def test_joined_look_ups_are_answered_503_in_time_when_the_catalog_hangs() -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.network.fault(CATALOG, "hangs")
        began = bazaar.clock()
        first = asyncio.create_task(bazaar.client.get("/stocks/GameStart"))
        await asyncio.sleep(0.5)
        responses = await asyncio.gather(first, bazaar.client.get("/stocks/GameStart"))
        assert [response.status_code for response in responses] == [503, 503]
        assert bazaar.clock() - began == pytest.approx(LOOK_UP_S + 0.5, abs=0.01)


# The names.


@in_fake_time
async def test_nothing_is_known_until_the_catalog_has_told_the_names() -> None:
    bazaar = FakeBazaar()
    bazaar.network.fault(CATALOG, "refuses")
    async with bazaar.running(ready=False):
        await asyncio.sleep(5.0)
        for response in (
            await bazaar.client.get("/readyz"),
            await bazaar.client.get("/stocks/GameStart"),
            await bazaar.buy(),
            await bazaar.client.delete("/cache/GameStart"),
        ):
            assert response.status_code == 503
            assert "told the stocks" in response.json()["error"]["message"]
        assert (await bazaar.client.get("/orders/1")).status_code == 404, "orders need no names"
        bazaar.network.fault(CATALOG, None)
        await until(lambda: bazaar.front_end.missing() is None)
        assert await bazaar.look_up("GameStart") == (100, "miss")


@in_fake_time
async def test_unknown_stock_is_not_found_without_asking_anybody() -> None:
    async with FakeBazaar().running() as bazaar:
        await asyncio.sleep(CHECK_EVERY_S / 2)
        asked = len(bazaar.network.requests)
        for response in (
            await bazaar.client.get("/stocks/Unknown"),
            await bazaar.buy(name="Unknown"),
            await bazaar.client.delete("/cache/Unknown"),
            await bazaar.internal.get("/rm?name=Unknown"),
            await bazaar.internal.get("/rm"),
        ):
            assert (response.status_code, response.json()["error"]["message"]) == (404, "there is no such stock")
        assert len(bazaar.network.requests) == asked


# The internal listener.


@in_fake_time
async def test_internal_paths_need_the_secret_and_are_not_public() -> None:
    async with FakeBazaar().running() as bazaar:
        paths = ["/sessions/confirm", "/sessions/recall", "/invalidate", "/status", "/rm?name=GameStart"]
        for path in paths:
            method = "GET" if path.startswith(("/status", "/rm")) else "POST"
            assert (await bazaar.client.request(method, path)).status_code == 404
            for secret in ("", "wrong"):
                response = await bazaar.internal.request(method, path, headers={"x-bazaar-secret": secret})
                assert response.status_code == 403
        assert (await bazaar.internal.post("/invalidate", content=b"{}")).status_code == 422


@in_fake_time
async def test_internal_status_tells_the_leader_the_replicas_and_the_session() -> None:
    async with FakeBazaar(name="front-end-2").running() as bazaar:
        status = (await bazaar.internal.get("/status")).json()
        assert (status["name"], status["leader"], status["session"]) == ("front-end-2", 3, True)
        assert status["replicas"] == [{"id": number, "state": "level"} for number in (1, 2, 3)]
