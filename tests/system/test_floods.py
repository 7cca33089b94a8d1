"""Too much of everything: it is refused beyond a limit that is a setting, and whoever is within it is served.

Nothing here depends on speed: a flood is held open, or goes on, until others have been answered.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import psutil
import pytest

from client import BazaarClient, NotAvailable
from tests.support.hostile_table import GOOD, GOOD_BODY, ONE_LONG_HEADER, post, request
from tests.support.serving import Client, connection
from tests.support.system_bazaar import Bazaar
from tests.support.system_hostile import UNFINISHED, WAIT_S, send
from tests.system.conftest import LIMITS
from tests.system.test_hostile_input import port_of, send_for_ever

CONNECTIONS = int(LIMITS["MAX_CONNECTIONS"])
REQUESTS = int(LIMITS["MAX_REQUESTS"])
REFUSALS = int(LIMITS["REFUSED_TRADES_BURST"])
LOOK_UP = request("GET", "/stocks/IBM").replace(b"Connection: close\r\n", b"")
TRADE = post(GOOD_BODY).replace(b"Connection: close\r\n", b"")
IMPOSSIBLE = {**GOOD, "quantity": 1_000_000}


@asynccontextmanager
async def connections(bazaar: Bazaar, count: int) -> AsyncIterator[list[Client]]:
    """So many connections to the front-end, at the same time."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connection(port_of(bazaar.url))) for _ in range(count)]


async def is_served(client: Client) -> None:
    """A look-up and a trade are answered on this connection."""
    async with asyncio.timeout(WAIT_S):
        for asked, status in ((LOOK_UP, 200), (TRADE, 201)):
            await client.send(asked)
            assert (await client.answer())[0] == status


async def status_of(client: Client, asked: bytes) -> int:
    """The status of an answer; 0 when the connection is closed without one."""
    try:
        await client.send(asked)
        return (await client.answer())[0]
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0


async def until_served_anew(bazaar: Bazaar) -> None:
    """Wait until a new connection is served like any other."""

    async def is_answered() -> bool:
        return (await send(bazaar.url, request("GET", "/leader"))).status == 200

    await bazaar.cluster.wait_until(is_answered, "new connections are served")


async def test_connections_within_the_limit_are_served_when_there_are_more(limited_bazaar: Bazaar) -> None:
    bazaar = limited_bazaar
    async with connections(bazaar, 3) as others, asyncio.timeout(WAIT_S):
        for other in others:
            await is_served(other)
        async with connections(bazaar, 3 * CONNECTIONS) as flood:
            answers = [await status_of(each, LOOK_UP) for each in flood]
            for other in others:
                await is_served(other)
    assert set(answers) == {0, 200, 503}
    assert answers.count(200) <= CONNECTIONS - len(others)
    assert answers.count(503) >= CONNECTIONS - 1, "up to twice the limit they are told why"
    await until_served_anew(bazaar)


@pytest.mark.parametrize("beginning", UNFINISHED[:2], ids=["nothing", "half a head"])
async def test_others_are_served_when_many_connections_are_silent_or_trickle(
    limited_bazaar: Bazaar, beginning: bytes
) -> None:
    bazaar = limited_bazaar
    async with connections(bazaar, 2) as others, asyncio.timeout(WAIT_S):
        for other in others:
            await is_served(other)
        async with connections(bazaar, CONNECTIONS - len(others) - 2) as flood:
            for each in flood:
                await each.send(beginning)
            for byte in b"TTP/1":
                for other in others:
                    await is_served(other)
                for each in flood if beginning else []:
                    await each.send(bytes([byte]))
            await is_served(others[0])
    await until_served_anew(bazaar)


async def test_requests_beyond_the_limit_are_told_to_come_back_when_others_are_under_way(
    limited_bazaar: Bazaar,
) -> None:
    bazaar = limited_bazaar

    async with connections(bazaar, REQUESTS) as slow, connections(bazaar, 1) as others, asyncio.timeout(WAIT_S):
        for each in slow:
            await each.send(TRADE[:-1])
        while await status_of(others[0], LOOK_UP) == 200:  # noqa: ASYNC110 - until all of them are under way
            await asyncio.sleep(0.01)
        await others[0].send(LOOK_UP)
        status, headers, _ = await others[0].answer()
        assert (status, headers["retry-after"]) == (503, "1")
        for path in ("/livez", "/metrics"):
            assert await status_of(others[0], LOOK_UP.replace(b"/stocks/IBM", path.encode())) == 200
        for each in slow:
            await each.send(TRADE[-1:])
        assert [(await each.answer())[0] for each in slow] == [201] * REQUESTS
        await is_served(others[0])


async def test_others_are_served_when_one_connection_asks_thousands_of_times_without_reading(
    limited_bazaar: Bazaar,
) -> None:
    bazaar, count = limited_bazaar, 5_000
    async with connections(bazaar, 2) as (greedy, other), asyncio.timeout(WAIT_S):
        asking = asyncio.create_task(greedy.send(LOOK_UP * count))
        for _ in range(10):
            await is_served(other)
        answers = [(await greedy.answer())[0] for _ in range(count)]
        await asking
    assert answers == [200] * count


@pytest.mark.parametrize("flood", ["heads", "bodies"])
async def test_memory_is_bounded_and_others_are_served_when_heads_or_bodies_have_no_end(
    limited_bazaar: Bazaar, flood: str
) -> None:
    bazaar = limited_bazaar
    process = psutil.Process(await bazaar.cluster.pid("front-end-1"))
    beginning, more = {
        "heads": (ONE_LONG_HEADER[:-4], b"x" * 65_536),
        "bodies": (post(b"", "Transfer-Encoding: chunked"), b"10000\r\n" + b" " * 65_536 + b"\r\n"),
    }[flood]

    async def drown() -> None:
        async with connection(port_of(bazaar.url)) as client:
            await client.send(beginning)
            with pytest.raises(ConnectionError):  # in the end it is cut off
                await send_for_ever(client, more)

    async with connections(bazaar, 1) as (other,), asyncio.timeout(WAIT_S):
        await is_served(other)
        before = process.memory_info().rss
        for _ in range(5):
            async with asyncio.TaskGroup() as group:
                for _ in range(REQUESTS - 1):  # leaving room for the other one's
                    group.create_task(drown())
                await is_served(other)
    assert process.memory_info().rss - before < 64 * 1024 * 1024


async def test_trades_are_turned_away_when_too_many_of_an_address_were_refused(limited_bazaar: Bazaar) -> None:
    bazaar = limited_bazaar
    before = len(await bazaar.log())

    def from_address(address: str) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(local_address=address)

    async with (
        httpx.AsyncClient(base_url=bazaar.url, transport=from_address("127.0.0.9"), timeout=WAIT_S) as flooder,
        httpx.AsyncClient(base_url=bazaar.url, transport=from_address("127.0.0.10"), timeout=WAIT_S) as other,
        BazaarClient(bazaar.url, transport=from_address("127.0.0.9"), patience_s=0.6) as client,
    ):
        again = {"Idempotency-Key": "refused-again-and-again"}
        replays = [await flooder.post("/orders", json=IMPOSSIBLE, headers=again) for _ in range(2 * REFUSALS)]
        rest = [await flooder.post("/orders", json=IMPOSSIBLE) for _ in range(2 * REFUSALS)]
        assert [answer.status_code for answer in replays] == [409] * (2 * REFUSALS)
        assert [answer.status_code for answer in rest] == [409] * (REFUSALS - 1) + [429] * (REFUSALS + 1)
        assert rest[-1].json()["error"]["code"] == 429
        assert int(rest[-1].headers["retry-after"]) > 1

        with pytest.raises(NotAvailable):  # definite: it was certainly not executed
            await client.buy("IBM", 1)
        assert (await flooder.get("/stocks/IBM")).status_code == 200
        assert (await other.post("/orders", json=GOOD)).status_code == 201

    rows = (await bazaar.log())[before:]
    assert [row.number is None for row in rows] == [True] * REFUSALS + [False]
    metrics = (await bazaar.http.get(f"{bazaar.url}/metrics")).text
    (turned_away,) = re.findall(r"^bazaar_trades_turned_away_total (\S+)$", metrics, re.MULTILINE)
    assert float(turned_away) >= REFUSALS + 2, "those of the flooder, and the attempts of the client"
