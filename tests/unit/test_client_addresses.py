"""Several front-ends: how they are named, and what becomes of calls and of a whole load when one is lost."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import httpx
import pytest

import client.bazaar
from client import BazaarClient, NotAvailable
from client.addresses import addresses_of
from client.load import LoadSettings, drive, run_load
from client.record import Event
from services.common.models import Order
from services.common.runtime import Runtime
from tests.support.fake_front_end import FakeFrontEnd, error
from tests.support.patience import PATIENCE_S

FIRST, SECOND = "http://front-end-1", "http://front-end-2"
Fault = Callable[[httpx.Request], Awaitable[httpx.Response]]


class TwoFrontEnds:
    """Two addresses of one bazaar; each answers until `lose` says how it fails from then on."""

    def __init__(self) -> None:
        self.bazaar = FakeFrontEnd({"GameStart": 10_000, "FishCo": 10_000})
        self.asked: list[tuple[str, str]] = []
        self.lost: dict[str, Fault] = {}

    def lose(self, host: str, fault: Fault) -> None:
        self.lost[host] = fault

    async def handle(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        self.asked.append((host, request.url.path))
        await asyncio.sleep(0)  # so that several calls are under way when one is lost
        if host in self.lost:
            return await self.lost[host](request)
        if request.url.path == "/readyz":
            return httpx.Response(200, json={"status": "ready"})
        return await self.bazaar.handle(request)

    def runtime(self) -> Runtime:
        return replace(Runtime(random=random.Random(7)), transport=lambda: httpx.MockTransport(self.handle))


async def refused(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


async def reset(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("reset")


async def not_ready(_: httpx.Request) -> httpx.Response:
    return error(503)


async def silent(_: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


@pytest.fixture(autouse=True)
def _soon_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is silent is asked soon, and has as much time to answer as a busy machine needs."""
    monkeypatch.setattr(client.bazaar, "SILENT_S", 0.01)
    monkeypatch.setattr(client.bazaar, "READY_S", PATIENCE_S)


# Addresses.


def test_addresses_are_told_apart_when_there_are_commas_or_several_texts() -> None:
    assert addresses_of([f"{FIRST}/,{SECOND}:8001", " https://a/b,c , http://[::1]:8000", FIRST]) == (
        FIRST,
        f"{SECOND}:8001",
        "https://a/b,c",
        "http://[::1]:8000",
    )


@pytest.mark.parametrize(
    "text", ["http://a:x", "http://a:99999", "http://a:0", "http://a b", "http://[::1", "http://a,b", "a,http://b", ""]
)
def test_address_is_refused_when_it_could_never_be_reached(text: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a front-end"):
        addresses_of([text])


async def test_load_is_refused_in_words_when_an_address_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"^'nowhere' is not the address of a front-end"):
        await run_load([f"{FIRST},{SECOND}", "nowhere"], 1, 0.5, 1, progress=False)


# One is lost.


@pytest.mark.parametrize("fault", [refused, reset, not_ready, silent])
async def test_load_sees_no_error_and_no_order_twice_when_a_front_end_is_lost_under_it(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.bazaar, "READY_S", 0.01)
    both = TwoFrontEnds()

    def on_event(event: Event) -> None:
        if event.what == "acknowledged" and len(both.bazaar.orders) == 20:
            both.lose("front-end-1", fault)

    settings = LoadSettings(urls=(FIRST, SECOND), clients=4, trade_probability=0.8, iterations=25, seed=3)
    report = await drive(settings, runtime=both.runtime(), on_event=on_event)

    assert (report.errors, report.failed_checks, report.unknown) == ([], [], [])
    assert report.counts.acknowledged == len(both.bazaar.orders) > 20
    assert report.counts.retries >= 1
    assert {order.key for order in report.orders} == set(both.bazaar.answers)


async def test_trade_executes_once_when_the_front_end_dies_after_it_was_done() -> None:
    both = TwoFrontEnds()

    async def do_and_die(request: httpx.Request) -> httpx.Response:
        await both.bazaar.handle(request)
        both.lose("front-end-1", refused)
        raise httpx.ReadError("reset")

    both.lose("front-end-1", do_and_die)
    async with BazaarClient(f"{FIRST},{SECOND}", runtime=both.runtime()) as bazaar:
        assert await bazaar.buy("GameStart", 3) == Order(number=1, name="GameStart", type="buy", quantity=3)
        await bazaar.look_up("GameStart")

    assert len(both.bazaar.orders) == 1
    assert [host for host, _ in both.asked] == ["front-end-1", "front-end-2", "front-end-2"]


# Silence.


async def test_trade_is_waited_for_when_the_front_end_is_slow_and_ready() -> None:
    both, times_ready = TwoFrontEnds(), 0
    is_done = asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal times_ready
        if request.url.path == "/readyz":
            times_ready += 1
            if times_ready == 3:
                is_done.set()
            return httpx.Response(200)
        await is_done.wait()
        return await both.bazaar.handle(request)

    both.lose("front-end-1", slow)
    async with BazaarClient(FIRST, SECOND, runtime=both.runtime()) as bazaar:
        await bazaar.buy("GameStart", 1)

    assert Counter(both.asked)["front-end-1", "/orders"] == 1
    assert Counter(both.asked)["front-end-2", "/orders"] == 0
    assert bazaar.retries == 0


async def test_trade_goes_on_elsewhere_when_the_front_end_says_that_it_is_cut_off() -> None:
    both = TwoFrontEnds()

    async def cut_off(request: httpx.Request) -> httpx.Response:
        return error(503) if request.url.path == "/readyz" else await silent(request)

    both.lose("front-end-1", cut_off)
    async with BazaarClient(FIRST, SECOND, runtime=both.runtime()) as bazaar:
        await bazaar.buy("GameStart", 1)

    assert [host for host, path in both.asked if path == "/orders"] == ["front-end-1", "front-end-2"]
    assert both.asked.count(("front-end-1", "/readyz")) == 1


async def test_either_answers_when_both_were_silent_and_not_ready() -> None:
    """During an election, say. Who is hung up on cannot say what became of the trade."""
    for who in ("front-end-1", "front-end-2"):
        both = TwoFrontEnds()
        all_were_asked = asyncio.Event()

        async def waiting(
            request: httpx.Request, both: TwoFrontEnds = both, who: str = who, asked: asyncio.Event = all_were_asked
        ) -> httpx.Response:
            if request.url.path == "/readyz":
                if both.asked.count(("front-end-1", "/readyz")) == 3:
                    asked.set()
                return error(503)
            await asked.wait()
            return await both.bazaar.handle(request) if request.url.host == who else await silent(request)

        both.lose("front-end-1", waiting)
        both.lose("front-end-2", waiting)
        async with BazaarClient(FIRST, SECOND, runtime=both.runtime()) as bazaar:
            await bazaar.buy("GameStart", 1)
            assert len(asyncio.all_tasks()) == 1, "nothing is left under way"
            assert bazaar.retries == 1
            both.lost.clear()
            await bazaar.look_up("GameStart")

        assert [host for host, path in both.asked if path == "/orders"] == ["front-end-1", "front-end-2"]
        assert both.asked[-1] == (who, "/stocks/GameStart")


async def test_next_one_is_waited_for_when_the_silent_one_fails_in_the_end() -> None:
    both = TwoFrontEnds()
    second_was_asked, first_has_failed = asyncio.Event(), asyncio.Event()

    async def fails_late(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/readyz":
            return error(503)
        await second_was_asked.wait()
        first_has_failed.set()
        raise httpx.ReadError("reset")

    async def slow(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/readyz":
            return httpx.Response(200)
        second_was_asked.set()
        await first_has_failed.wait()
        await asyncio.sleep(0)
        return await both.bazaar.handle(request)

    both.lose("front-end-1", fails_late)
    both.lose("front-end-2", slow)
    async with BazaarClient(FIRST, SECOND, runtime=both.runtime()) as bazaar:
        await bazaar.buy("GameStart", 1)

    assert [host for host, path in both.asked if path == "/orders"] == ["front-end-1", "front-end-2"]


async def test_nobody_is_asked_whether_he_is_ready_when_there_is_only_one_address() -> None:
    both = TwoFrontEnds()
    both.lose("front-end-1", silent)
    async with BazaarClient(FIRST, patience_s=0.2, runtime=both.runtime()) as bazaar:
        with pytest.raises(NotAvailable, match="no answer in time"):
            await bazaar.look_up("GameStart")

    assert {path for _, path in both.asked} == {"/stocks/GameStart"}
