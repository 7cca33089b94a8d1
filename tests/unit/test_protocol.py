"""What a connection may take: time, bytes, company."""

import asyncio
import re
import time

import pytest
from starlette.types import Receive, Scope, Send

from services.common.limits import send_error
from tests.support.serving import GET, App, Client, connection, on_uvloop, served

PART_OF_HEAD = b"GET / HTTP/1.1\r\nhost: x\r\nx-more: "
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that refuses every body without reading it."""
    if scope["type"] == "lifespan":
        await App()(scope, receive, send)
    else:
        await send_error(send, 413, "too large")


async def _elapsed_until_closed(client: Client) -> float:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await client.closed()
    return loop.time() - start


async def _send_without_end(client: Client) -> None:
    while True:
        await client.send(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        await asyncio.sleep(0)


@on_uvloop
async def test_answers_follow_when_a_connection_is_kept_alive() -> None:
    async with served(App()) as port, connection(port) as client:
        for _ in range(3):
            await client.send(POST + b"0123456789")
            status, headers, body = await client.answer()
            assert (status, body) == (200, b"10")
            assert not {"server", "date"} & headers.keys()


@on_uvloop
async def test_answers_come_in_order_when_requests_are_pipelined() -> None:
    app = App()
    async with served(app, body_timeout_s=0.3) as port, connection(port) as client:
        gate = asyncio.Event()
        app.before_answer = gate.wait
        await client.send(GET + POST + b"01234")
        await asyncio.sleep(0.5)  # longer than a body may take: the wait is ours, not the client's
        await client.send(b"56789" + GET[:10])
        gate.set()
        assert [(await client.answer())[2] for _ in range(2)] == [b"0", b"10"]
        await client.send(GET[10:])
        assert (await client.answer())[2] == b"0"


@on_uvloop
async def test_connection_closes_when_nothing_is_sent() -> None:
    async with served(App(), head_timeout_s=0.2) as port, connection(port) as client:
        assert await _elapsed_until_closed(client) < 1


@on_uvloop
async def test_408_when_a_head_is_half_sent() -> None:
    async with served(App(), head_timeout_s=0.2) as port, connection(port) as client:
        await client.send(PART_OF_HEAD)
        assert await client.error() == 408
        await client.closed()


@on_uvloop
async def test_408_when_a_head_trickles_in() -> None:
    async with served(App(), head_timeout_s=0.3) as port, connection(port) as client:

        async def trickle() -> None:
            await client.send(PART_OF_HEAD)
            while True:
                await client.send(b"x")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert await client.error() == 408
        trickling.cancel()


@on_uvloop
async def test_408_when_blank_lines_trickle_in_place_of_a_request() -> None:
    async with served(App(), head_timeout_s=0.2, keep_alive_s=60) as port, connection(port) as client:
        await client.send(GET)
        await client.answer()
        await client.send(b"\r\n")
        assert await client.error() == 408


@on_uvloop
@pytest.mark.parametrize("together", [True, False])
async def test_408_when_the_next_head_is_half_sent(together: bool) -> None:
    async with served(App(), head_timeout_s=0.2, keep_alive_s=60) as port, connection(port) as client:
        await client.send(GET + (PART_OF_HEAD if together else b""))
        await client.answer()
        await client.send(b"" if together else PART_OF_HEAD)
        assert await client.error() == 408


@on_uvloop
async def test_connection_stays_open_for_longer_than_a_head_may_take_when_it_is_idle() -> None:
    async with served(App(), head_timeout_s=0.1, keep_alive_s=0.6) as port, connection(port) as client:
        for _ in range(2):
            await client.send(GET)
            await client.answer()
            await asyncio.sleep(0.3)
        await client.send(GET)
        await client.answer()
        assert 0.5 < await _elapsed_until_closed(client) < 2


@on_uvloop
async def test_no_time_runs_out_when_the_application_takes_its_time() -> None:
    app = App()
    app.before_answer = lambda: asyncio.sleep(0.5)
    async with (
        served(app, head_timeout_s=0.1, body_timeout_s=0.1, keep_alive_s=0.1) as port,
        connection(port) as client,
    ):
        await client.send(POST + b"0123456789")
        assert (await client.answer())[0] == 200


@on_uvloop
@pytest.mark.parametrize("request_head", [POST, CHUNKED + b"a\r\n"], ids=["length", "chunked"])
async def test_408_when_a_body_falls_silent(request_head: bytes) -> None:
    app = App()
    async with served(app, body_timeout_s=0.2) as port, connection(port) as client:
        await client.send(request_head + b"0123")
        assert await client.error() == 408
        await client.closed()
        assert app.notes[1:] == ["app hung up"]


@on_uvloop
async def test_408_when_a_body_trickles_in() -> None:
    async with served(App(), body_timeout_s=0.3) as port, connection(port) as client:

        async def trickle() -> None:
            await client.send(CHUNKED)
            while True:
                await client.send(b"1\r\nx\r\n")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        assert await client.error() == 408
        trickling.cancel()


@on_uvloop
@pytest.mark.parametrize("pieces", [1, 40])
@pytest.mark.parametrize("rest", [b"\r\n\r\n", b""], ids=["whole", "unfinished"])
async def test_431_when_the_head_is_too_large(pieces: int, rest: bytes) -> None:
    app = App()
    data = PART_OF_HEAD + b"y" * 100_000 + rest
    size = len(data) // pieces + 1
    async with served(app) as port, connection(port) as client:
        for start in range(0, len(data), size):
            await client.send(data[start : start + size])
        assert await client.error() == 431
        await client.closed()
        assert app.bodies == []


@on_uvloop
async def test_431_when_there_are_too_many_headers() -> None:
    async with served(App()) as port, connection(port) as client:
        await client.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5_000 + b"\r\n")
        assert await client.error() == 431


@on_uvloop
@pytest.mark.parametrize("pieces", [1, 40])
async def test_414_when_the_url_is_too_long(pieces: int) -> None:
    data = b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    size = len(data) // pieces + 1
    async with served(App()) as port, connection(port) as client:
        for start in range(0, len(data), size):
            await client.send(data[start : start + size])
        assert await client.error() == 414
        await client.closed()


@on_uvloop
async def test_200_when_the_head_is_just_small_enough_and_a_body_follows() -> None:
    async with served(App()) as port, connection(port) as client:
        head = b"POST / HTTP/1.1\r\nx: " + b"y" * 16_000 + b"\r\ncontent-length: 60000\r\n\r\n"
        await client.send(head + b"z" * 60_000)
        assert (await client.answer())[2] == b"60000"


@on_uvloop
@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: \x00\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n",
    ],
    ids=lambda data: re.sub(r"[^a-z0-9]+", "-", repr(data).lower())[:60],
)
async def test_400_when_it_is_no_http(data: bytes) -> None:
    app = App()
    async with served(app) as port, connection(port) as client:
        await client.send(data)
        assert await client.error() == 400
        await client.closed()
        assert app.bodies == []


@on_uvloop
async def test_connection_closes_without_an_error_when_an_earlier_answer_is_owed() -> None:
    app = App()
    async with served(app) as port, connection(port) as client:
        app.before_answer = asyncio.Event().wait
        await client.send(GET)
        await client.send(b"garbage\r\n\r\n")
        await client.closed()


@on_uvloop
async def test_answer_is_whole_when_an_upgrade_is_asked_for() -> None:
    async with served(App()) as port, connection(port) as client:
        await client.send(GET[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert (await client.answer())[2] == b"0"
        await client.send(GET)
        assert (await client.answer())[2] == b"0"


@on_uvloop
async def test_503_when_there_are_too_many_connections() -> None:
    async with served(App(), max_connections=2) as port, connection(port) as first, connection(port) as second:
        for client in (first, second):
            await client.send(GET)
            await client.answer()
        async with connection(port) as third:
            await third.send(POST + b"0123456789")
            assert await third.error() == 503
            await third.closed()
        await first.send(GET)
        assert (await first.answer())[0] == 200


@on_uvloop
async def test_retry_is_told_when_there_are_too_many_connections() -> None:
    async with served(App(), max_connections=1) as port, connection(port) as first, connection(port) as second:
        await second.send(GET)
        status, headers, _ = await second.answer()
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        await first.send(GET)
        assert (await first.answer())[0] == 200


@on_uvloop
async def test_connection_closes_at_once_when_there_are_far_too_many() -> None:
    async with served(App(), max_connections=1) as port, connection(port), connection(port), connection(port) as third:
        await third.closed()


@on_uvloop
async def test_connection_closes_when_an_answer_is_not_read() -> None:
    app = App()
    app.answer_size = 50_000_000
    async with served(app, write_timeout_s=0.2) as port, connection(port) as client:
        await client.send(GET)
        await asyncio.sleep(0.8)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.answer()


@on_uvloop
async def test_answer_is_whole_when_it_is_read_slowly() -> None:
    app = App()
    app.answer_size = 20_000_000
    async with served(app, write_timeout_s=3, keep_alive_s=0.2, head_timeout_s=0.2) as port, connection(port) as client:
        await client.send(GET)
        await asyncio.sleep(0.6)
        assert len((await client.answer())[2]) == 20_000_001
        await client.closed()


@on_uvloop
async def test_answer_is_seen_when_a_large_body_was_refused_unread() -> None:
    async with served(_refuse, body_timeout_s=0.5) as port, connection(port) as client:
        for _ in range(2):
            await client.send(b"POST / HTTP/1.1\r\ncontent-length: 500000\r\n\r\n" + b"x" * 500_000)
            assert await client.error() == 413
        await client.send(b"POST / HTTP/1.1\r\ncontent-length: 500000\r\n\r\n" + b"x")
        assert await client.error() == 413
        await client.closed()


@on_uvloop
async def test_connection_closes_when_a_refused_body_has_no_end() -> None:
    async with served(_refuse) as port, connection(port) as client:
        await client.send(CHUNKED)
        assert await client.error() == 413
        with pytest.raises(ConnectionError):
            await _send_without_end(client)


@on_uvloop
async def test_request_is_served_when_this_process_slept_through_its_deadline() -> None:
    async with served(App(), head_timeout_s=0.2, body_timeout_s=0.2) as port, connection(port) as client:
        await client.send(POST + b"01234")
        await asyncio.sleep(0.05)
        await client.send(b"56789")
        time.sleep(0.5)  # noqa: ASYNC251 - as a SIGSTOP would
        assert (await client.answer())[2] == b"10"
