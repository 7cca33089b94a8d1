"""The limits on bodies and on requests in flight, through the hardened server."""

import asyncio

from services.common.limits import LimitBody, LimitConcurrency
from tests.support.serving import GET, App, connection, on_uvloop, served

CHUNKED = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"


def _post(size: int, extra: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\ncontent-length: %d\r\n%s\r\n" % (size, extra)


def _chunk(size: int) -> bytes:
    return b"%x\r\n" % size + b"x" * size + b"\r\n"


@on_uvloop
async def test_200_when_the_body_is_as_large_as_allowed() -> None:
    async with served(LimitBody(App(), 100)) as port, connection(port) as client:
        await client.send(GET)
        assert (await client.answer())[2] == b"0"
        await client.send(_post(100) + b"x" * 100)
        assert (await client.answer())[2] == b"100"
        await client.send(CHUNKED + _chunk(60) + _chunk(40) + b"0\r\n\r\n")
        assert (await client.answer())[2] == b"100"


@on_uvloop
async def test_413_before_it_is_read_when_the_told_length_is_too_large() -> None:
    app = App()
    async with served(LimitBody(app), body_timeout_s=0.2) as port, connection(port) as client:
        await client.send(_post(65_537))
        assert await client.error() == 413
        await client.closed()
    assert app.notes == ["app startup", "app shutdown"]


@on_uvloop
async def test_413_and_no_invitation_when_the_client_asks_whether_to_send_too_much() -> None:
    async with served(LimitBody(App())) as port, connection(port) as client:
        await client.send(_post(65_537, b"expect: 100-continue\r\n"))
        assert await client.error() == 413


@on_uvloop
async def test_next_request_is_answered_when_a_body_was_refused() -> None:
    async with served(LimitBody(App(), 10)) as port, connection(port) as client:
        await client.send(_post(11) + b"x" * 11 + GET)
        assert await client.error() == 413
        assert (await client.answer())[0] == 200


@on_uvloop
async def test_413_is_seen_when_the_connection_is_to_be_closed_and_the_body_comes_late() -> None:
    async with served(LimitBody(App())) as port, connection(port) as client:
        await client.send(_post(256 * 257, b"connection: close\r\n"))
        for _ in range(256):
            await client.send(b"x" * 257)
            await asyncio.sleep(0)
        assert await client.error() == 413
        await client.closed()


@on_uvloop
async def test_413_at_once_when_the_connection_is_to_be_closed_and_the_body_would_be_huge() -> None:
    async with served(LimitBody(App())) as port, connection(port) as client:
        await client.send(_post(10**9, b"connection: close\r\n"))
        assert await client.error() == 413


@on_uvloop
async def test_413_when_a_chunked_body_has_no_end() -> None:
    app = App()
    async with served(LimitBody(app, 100), body_timeout_s=0.3) as port, connection(port) as client:
        await client.send(CHUNKED)
        for _ in range(20):
            await client.send(_chunk(10))
            await asyncio.sleep(0)
        assert await client.error() == 413
        await client.closed()
    assert app.bodies == []
    assert "app hung up" in app.notes


@on_uvloop
async def test_503_with_retry_after_when_too_many_requests_are_in_flight() -> None:
    app = App()
    gate = asyncio.Event()
    app.before_answer = gate.wait
    async with served(LimitConcurrency(app, 1)) as port, connection(port) as first, connection(port) as second:
        await first.send(GET)
        await app.was_asked.wait()
        await second.send(GET)
        status, headers, _ = await second.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        gate.set()
        assert (await first.answer())[0] == 200
        await second.send(GET)
        assert (await second.answer())[0] == 200


@on_uvloop
async def test_liveness_is_answered_when_too_many_requests_are_in_flight() -> None:
    async with served(LimitConcurrency(App(), 0)) as port, connection(port) as client:
        await client.send(GET)
        assert await client.error() == 503
        await client.send(b"GET /livez HTTP/1.1\r\n\r\n")
        assert (await client.answer())[0] == 200
