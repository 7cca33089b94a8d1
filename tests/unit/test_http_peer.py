"""Calls to another service over real sockets: refused, lost and answered are told apart, whoever is there."""

import asyncio
import os
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import pytest

from services.common.http import (
    SECRET_HEADER,
    Peer,
    PeerAnswered,
    PeerError,
    PeerGone,
    PeerLost,
    PeerRefused,
    PeerTimeout,
    is_loopback,
    make_client,
)
from services.common.models import LeaderNotice, SessionNotice, SessionNoticeAnswer
from services.common.runtime import Runtime
from tests.support.ports import free_port
from tests.support.serving import on_uvloop

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LONG_S = 20.0
"""For what must come; far more than it takes."""
NOTICE = SessionNotice(session="s")
MINE = b'{"outcome":"mine"}'


def http(status: bytes, body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers, b"", body])


OK = http(b"200 OK", MINE, b"content-type: application/json")


class Server:
    """Speaks raw bytes. `requests` are the heads that came; `connections` how many were made."""

    def __init__(self, handler: Handler) -> None:
        self.port = 0
        self.requests: list[bytes] = []
        self.connections = 0
        self._handler = handler
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    server = Server(handler)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def peer_at(port: int, headers: dict[str, str] | None = None) -> AsyncIterator[Peer]:
    async with make_client(Runtime(), headers) as client:
        yield Peer(client, f"http://127.0.0.1:{port}")


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            head += await reader.readexactly(int(line.split(b":")[1]))
    return head


def says(*chunks: bytes, then: str = "closes") -> Handler:
    """Reads a request, answers these bytes, and then closes, resets or waits for ever."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        if then == "resets":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif then == "waits":
            await reader.read()

    return handle


async def call(peer: Peer, timeout_s: float = LONG_S) -> SessionNoticeAnswer:
    return await peer.call("/sessions/confirm", SessionNoticeAnswer, NOTICE, timeout_s=timeout_s)


async def failure(handler: Handler, timeout_s: float = LONG_S) -> PeerError:
    async with serving(handler) as server, peer_at(server.port) as peer:
        with pytest.raises(PeerError) as failed:
            await call(peer, timeout_s)
        assert server.connections == 1, "what may have been executed is not sent again behind our back"
    return failed.value


# Answered.


async def test_answer_is_read_and_the_message_sent_as_json_when_all_is_well() -> None:
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            requests.append(await read_request(reader))
            writer.write(OK)

    async with serving(handle) as server, peer_at(server.port, {SECRET_HEADER: "some-secret"}) as peer:
        assert (await call(peer)).outcome == "mine"
        assert (await peer.call("/status?a=1", SessionNoticeAnswer, timeout_s=LONG_S)).outcome == "mine"
        assert server.connections == 1, "the connection is used again"
    assert requests[0].startswith(b"POST /sessions/confirm HTTP/1.1\r\n")
    assert requests[0].endswith(b'\r\n\r\n{"session":"s"}')
    assert requests[1].startswith(b"GET /status?a=1 HTTP/1.1\r\n")
    for request in requests:
        assert b"x-bazaar-secret: some-secret" in request.lower()
    assert b"content-type: application/json" in requests[0].lower()


async def test_answer_is_read_when_it_comes_in_chunks_and_pieces() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    handler = says(head, b"8\r\n" + MINE[:8], b"\r\na\r\n" + MINE[8:], b"\r\n0\r\n\r\n")
    async with serving(handler) as server, peer_at(server.port) as peer:
        assert (await call(peer)).outcome == "mine"


async def test_status_and_message_are_told_when_the_peer_answers_an_error() -> None:
    body = b'{"error":{"code":503,"message":"no generation"}}'
    error = await failure(says(http(b"503 Service Unavailable", body)))
    assert isinstance(error, PeerAnswered)
    assert error.status == 503
    assert "no generation" in str(error)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 403, 404, 422, 500, 503, 504])
async def test_status_is_told_when_the_answer_has_no_shape_of_ours(status: int) -> None:
    answer = http(b"%d Odd" % status, b"" if status == 204 else b"<html>", b"location: http://127.0.0.1:1/elsewhere")
    error = await failure(says(answer))
    assert isinstance(error, PeerAnswered)
    assert error.status == status


ODD_ANSWERS = {
    "empty": b"",
    "no JSON": b"hello",
    "another shape": b'{"error":{"code":404,"message":"no"}}',
    "an unknown word": b'{"outcome":"perhaps"}',
    "no UTF-8": b'{"outcome":"\xff"}',
}


@pytest.mark.parametrize("body", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
async def test_lost_when_the_answer_is_none_of_ours(body: bytes) -> None:
    assert type(await failure(says(http(b"200 OK", body)))) is PeerLost


# Lost.


@pytest.mark.parametrize("then", ["closes", "resets"])
async def test_lost_when_the_connection_ends_without_an_answer(then: str) -> None:
    assert type(await failure(says(then=then))) is PeerLost


@pytest.mark.parametrize("then", ["closes", "resets"])
@pytest.mark.parametrize(
    "part", [b"HTTP/1.1 200", OK[:40], OK[:-1], b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n"]
)
async def test_lost_when_the_connection_ends_within_the_answer(part: bytes, then: str) -> None:
    assert type(await failure(says(part, then=then))) is PeerLost


async def test_lost_when_the_other_side_speaks_no_http() -> None:
    assert type(await failure(says(b"SSH-2.0-OpenSSH_9.2\r\n"))) is PeerLost


async def test_lost_when_the_connection_is_closed_at_once() -> None:
    async def handle(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        return

    assert type(await failure(handle)) is PeerLost


async def test_lost_and_not_refused_when_a_kept_connection_is_reset_by_a_new_request() -> None:
    """As after the restart of the peer: nobody knows whether it did something before it went."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serving(handle) as server, peer_at(server.port) as peer:
        await call(peer)
        with pytest.raises(PeerLost):
            await call(peer)
        assert server.connections == 1


async def test_timeout_when_no_answer_comes() -> None:
    assert type(await failure(says(then="waits"), timeout_s=0.05)) is PeerTimeout


async def test_timeout_when_the_answer_never_ends() -> None:
    """The time is for all of the answer, however many bytes keep coming."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.005)

    assert type(await failure(drip, timeout_s=0.1)) is PeerTimeout


async def test_timeout_when_nobody_accepts() -> None:
    """As when the process is stopped: its kernel still takes the connection and the request."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with peer_at(listening.getsockname()[1]) as peer:
            with pytest.raises(PeerTimeout):
                await call(peer, timeout_s=0.05)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
async def test_timeout_when_there_was_no_time_left(timeout_s: float) -> None:
    assert type(await _failure_before_connecting(timeout_s)) is PeerTimeout


async def _failure_before_connecting(timeout_s: float) -> PeerError:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with peer_at(listening.getsockname()[1]) as peer:
            with pytest.raises(PeerError) as failed:
                await call(peer, timeout_s)
    return failed.value


async def test_cancelled_when_the_caller_is() -> None:
    reached = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_request(reader)
        reached.set()
        assert await reader.read() == b"", "the connection is given up"

    async with serving(handle) as server, peer_at(server.port) as peer:
        caller = asyncio.create_task(call(peer))
        await reached.wait()
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()


# Refused.


async def test_gone_when_nobody_listens() -> None:
    async with peer_at(free_port()) as peer:
        with pytest.raises(PeerGone) as failed:
            await call(peer)
    assert isinstance(failed.value, PeerRefused)
    assert not isinstance(failed.value, PeerLost)


@on_uvloop
async def test_gone_when_nobody_listens_on_the_loop_of_production() -> None:
    async with peer_at(free_port()) as peer:
        with pytest.raises(PeerGone):
            await call(peer)


async def test_gone_when_the_peer_went_after_an_answer() -> None:
    async with serving(says(OK)) as server:
        port = server.port
        client = make_client(Runtime())
        peer = Peer(client, f"http://127.0.0.1:{port}")
        await call(peer)
    with pytest.raises(PeerError):
        await call(peer)  # the kept connection may break first
    with pytest.raises(PeerGone):
        await call(peer)
    await client.aclose()


async def test_gone_when_localhost_is_named_and_nobody_listens() -> None:
    async with make_client(Runtime()) as client:
        with pytest.raises(PeerRefused):
            await call(Peer(client, f"http://localhost:{free_port()}"))


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_refused_but_not_gone_when_this_process_has_no_descriptor_left() -> None:
    """A catalog that took a front-end for gone here would let it answer from a cache that nobody invalidates."""
    await _call_without_descriptors()


@on_uvloop
async def test_refused_but_not_gone_when_no_descriptor_is_left_on_the_loop_of_production() -> None:
    await _call_without_descriptors()


async def _call_without_descriptors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with peer_at(listening.getsockname()[1]) as peer:
            with no_descriptor_left(), pytest.raises(PeerRefused) as failed:
                await call(peer)
    assert not isinstance(failed.value, PeerGone)


async def test_refused_but_not_gone_when_the_name_is_unknown() -> None:
    async with make_client(Runtime()) as client:
        with pytest.raises(PeerRefused) as failed:
            await call(Peer(client, "http://there-is-no-such-host.invalid:8000"))
    assert not isinstance(failed.value, PeerGone)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://127.0.0.1:1", "http://127.0.0.1:99999", "http://", "http://[::1"]
)
async def test_a_peer_error_when_the_address_makes_no_sense(url: str) -> None:
    async with make_client(Runtime()) as client:
        with pytest.raises(PeerError):
            await call(Peer(client, url))


async def test_a_front_end_of_a_senseless_address_is_lost_and_not_gone() -> None:
    async with make_client(Runtime()) as client:
        with pytest.raises(PeerError) as failed:
            await call(Peer(client, "http://127.0.0.1:99999"))
    assert not isinstance(failed.value, PeerGone)


async def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with serving(says(OK)) as server, peer_at(server.port) as peer:
        assert (await call(peer)).outcome == "mine"


async def test_many_calls_at_once_are_all_answered() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(OK)

    async with serving(handle) as server, peer_at(server.port) as peer:
        answers = await asyncio.gather(*(call(peer) for _ in range(60)))
    assert {answer.outcome for answer in answers} == {"mine"}


async def test_message_is_sent_in_ascii_json_when_it_holds_odd_text() -> None:
    bodies: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append((await read_request(reader)).split(b"\r\n\r\n")[1])
        writer.write(OK)

    async with serving(handle) as server, peer_at(server.port) as peer:
        message = LeaderNotice(front_end='é"\\\n', leader=1)
        await peer.call("/leader", SessionNoticeAnswer, message, timeout_s=LONG_S)
    assert LeaderNotice.model_validate_json(bodies[0]) == message


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8021", True),
        ("http://127.8.9.10:8021", True),
        ("http://localhost:8021", True),
        ("http://LOCALHOST:8021", True),
        ("http://[::1]:8021", True),
        ("http://10.0.0.1:8021", False),
        ("http://0.0.0.0:8021", False),
        ("http://[::]:8021", False),
        ("http://example.com:8021", False),
        ("http://localhost.example.com:8021", False),
        ("http://127.example.com:8021", False),
        ("http://127.0.0.1.example.com:8021", False),
        ("http://example.com:8021/127.0.0.1", False),
        ("http://localhost@example.com:8021", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_and_no_other(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_client_has_no_time_limit_of_its_own() -> None:
    assert make_client(
        Runtime(transport=lambda: httpx.MockTransport(lambda _: httpx.Response(200)))
    ).timeout == httpx.Timeout(None)
