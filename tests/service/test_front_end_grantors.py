"""A front-end's session where there are several catalogs: each that it names must renew its lease."""

import asyncio

import pytest

from services.common.timing import (
    LEASE_S,
    RENEW_EVERY_S,
    SESSION_CALL_S,
    WITHOUT_GRANTOR_S,
)
from tests.support.fake_bazaar import FakeBazaar, catalog_url
from tests.support.fake_network import Fault
from tests.support.fake_time import in_fake_time, until

FIRST, SECOND = catalog_url(1), catalog_url(2)
BOTH = [f"at {FIRST}", f"at {SECOND}"]


def is_live(bazaar: FakeBazaar) -> bool:
    return bazaar.front_end.cache.is_live()


@in_fake_time
async def test_a_session_names_every_catalog_and_is_renewed_by_each() -> None:
    async with FakeBazaar(catalogs=2).running() as bazaar:
        assert bazaar.catalog.grantors == [BOTH]
        await asyncio.sleep(4 * LEASE_S)
        assert bazaar.catalog.grantors == [BOTH], "and one session is enough"
        assert is_live(bazaar)
        renewals = {catalog.renewals for catalog in bazaar.catalogs}
        assert len(renewals) == 1
        assert renewals.pop() >= 4 * LEASE_S / RENEW_EVERY_S - 1


@in_fake_time
async def test_a_session_names_nobody_when_there_is_one_catalog() -> None:
    async with FakeBazaar().running() as bazaar:
        assert bazaar.catalog.grantors == [[]]
        assert bazaar.network.count(FIRST, "/sessions/renew") == bazaar.catalog.renewals


@pytest.mark.parametrize("says", ["busy", "starting"])
@in_fake_time
async def test_a_lease_lapses_when_one_of_two_does_not_renew_it(says: str) -> None:
    async with FakeBazaar(catalogs=2).running() as bazaar:
        second = bazaar.catalogs[1]
        second.is_busy, second.is_starting = says == "busy", says == "starting"
        began = bazaar.clock()
        await until(lambda: not is_live(bazaar))
        assert bazaar.clock() - began <= LEASE_S
        assert bazaar.catalog.renewals, "although the other one went on"


@in_fake_time
async def test_a_session_ends_when_a_catalog_was_started_anew() -> None:
    """The new process knows nothing of the leases that it is asked to renew."""
    async with FakeBazaar(catalogs=2).running() as bazaar:
        bazaar.catalogs[1].grantor = "started anew"
        began = bazaar.clock()
        await until(lambda: len(bazaar.catalog.grantors) == 2)
        assert bazaar.clock() - began <= RENEW_EVERY_S + 0.01
        assert bazaar.catalog.grantors == [BOTH, [BOTH[0], "started anew"]]


@pytest.mark.parametrize("fault", ["hangs", "refuses", "resets"])
@in_fake_time
async def test_the_next_session_does_without_a_lost_catalog_after_a_while(fault: Fault) -> None:
    """A front-end that is cut off must not open one with a catalog that is cut off with it, and be waited for."""
    async with FakeBazaar(catalogs=2).running() as bazaar:
        bazaar.network.fault(SECOND, fault)
        began = bazaar.clock()
        await until(lambda: not is_live(bazaar))
        assert bazaar.clock() - began <= RENEW_EVERY_S + SESSION_CALL_S + 0.01
        await until(lambda: is_live(bazaar))
        assert WITHOUT_GRANTOR_S <= bazaar.clock() - began <= WITHOUT_GRANTOR_S + 2.0
        assert bazaar.catalog.grantors == [BOTH, BOTH[:1]]
        assert await bazaar.look_up("GameStart") == (100, "miss")
        assert await bazaar.look_up("GameStart") == (100, "hit")


@in_fake_time
async def test_a_front_end_is_ready_without_a_session_while_it_could_have_one() -> None:
    async with FakeBazaar(catalogs=2).running() as bazaar:
        bazaar.network.fault(SECOND, "refuses")
        await until(lambda: not is_live(bazaar))
        await until(lambda: bazaar.front_end.keeper.is_deferring)
        assert (await bazaar.client.get("/readyz")).status_code == 200
        assert (await bazaar.look_up("GameStart"))[0] == 100
        bazaar.network.fault(FIRST, "refuses")
        await until(lambda: bazaar.front_end.missing() is not None)
        assert (await bazaar.client.get("/readyz")).status_code == 503


@in_fake_time
async def test_a_catalog_that_comes_back_is_named_again_soon() -> None:
    async with FakeBazaar(catalogs=2).running() as bazaar:
        bazaar.network.fault(SECOND, "refuses")
        await until(lambda: bazaar.catalog.grantors[-1] == BOTH[:1])
        await until(lambda: is_live(bazaar))
        ended = len(bazaar.catalog.ended)
        bazaar.network.fault(SECOND, None)
        began = bazaar.clock()
        await until(lambda: bazaar.catalog.grantors[-1] == BOTH and is_live(bazaar))
        assert bazaar.clock() - began <= 2 * RENEW_EVERY_S
        assert len(bazaar.catalog.ended) == ended + 1, "and the session before is ended, so that nobody waits for it"


@in_fake_time
async def test_catalogs_of_an_earlier_release_are_asked_as_they_are_used_to() -> None:
    """They do not say who they are; any of them renews a session that names nobody."""
    bazaar = FakeBazaar(catalogs=2)
    for catalog in bazaar.catalogs:
        catalog.grantor = ""
    async with bazaar.running():
        assert bazaar.catalog.grantors == [[]]
        await asyncio.sleep(2 * LEASE_S)
        assert is_live(bazaar)
        assert (bazaar.catalogs[0].renewals > 0, bazaar.catalogs[1].renewals) == (True, 0)
