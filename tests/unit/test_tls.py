"""TLS between two services over real sockets: who is let in, who is not, and what a caller makes of it."""

import asyncio
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import structlog
from starlette.types import Receive, Scope, Send

from services.common import tls
from services.common.http import Peer, PeerError, PeerGone, PeerLost, PeerRefused, PeerTimeout, make_client
from services.common.models import Message
from services.common.runtime import Runtime
from services.common.server import Listener
from services.common.tls import BadTls, TlsFiles, client_context, server_context
from services.common.transport import make_transport
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port
from tests.support.serving import App, connection, on_uvloop, serving
from tests.support.tls_files import Certificates


class _Pong(Message):
    """What `_Pinged` answers."""

    n: int


class _Pinged(App):
    """Answers JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        self.calls += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"7")]})
        await send({"type": "http.response.body", "body": b'{"n":1}'})


@pytest.fixture
def ours(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "ours")


@pytest.fixture
def others(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "others")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[structlog.typing.EventDict]]:
    """What was logged, each reason anew."""
    monkeypatch.setattr(tls, "_told", {})
    with structlog.testing.capture_logs() as lines:
        yield lines


@asynccontextmanager
async def listening(files: TlsFiles) -> AsyncIterator[tuple[_Pinged, int]]:
    app = _Pinged()
    listener = Listener(app, "127.0.0.1", free_port(), drain_s=1.0, tls=server_context(files))
    async with serving(listener) as (ports, _):
        yield app, ports[0]


@asynccontextmanager
async def caller(url: str, context: ssl.SSLContext | None) -> AsyncIterator[Peer]:
    async with make_client(Runtime(transport=partial(make_transport, context))) as client:
        yield Peer(client, url)


async def ask(url: str, context: ssl.SSLContext | None, timeout_s: float = PATIENCE_S) -> int:
    async with caller(url, context) as peer:
        return (await peer.call("/", _Pong, timeout_s=timeout_s)).n


async def failure(url: str, context: ssl.SSLContext | None, timeout_s: float = PATIENCE_S) -> PeerError:
    with pytest.raises(PeerError) as caught:
        await ask(url, context, timeout_s)
    return caught.value


def reasons(told: list[structlog.typing.EventDict]) -> str:
    return "; ".join(f"{line['event']}: {line['reason']}" for line in told if "reason" in line)


def test_call_is_answered_when_both_sides_have_certificates_of_one_authority(ours: Certificates) -> None:
    @on_uvloop
    async def test() -> None:
        async with listening(ours.host("a")) as (_, port), caller(f"https://127.0.0.1:{port}", context) as peer:
            for _ in range(3):
                assert (await peer.call("/", _Pong, timeout_s=PATIENCE_S)).n == 1

    context = client_context(ours.host("b"))
    test()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_newest_version_is_spoken_when_the_other_side_knows_it(ours: Certificates, version: ssl.TLSVersion) -> None:
    @on_uvloop
    async def test() -> None:
        async with listening(ours.host("a")) as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            assert writer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
            writer.transport.abort()

    context = client_context(ours.host("b"))
    context.maximum_version = version
    test()


def test_connection_is_refused_when_the_other_side_knows_old_versions_only(ours: Certificates) -> None:
    @on_uvloop
    async def test() -> None:
        async with listening(ours.host("a")) as (_, port):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", port, ssl=context)

    context = client_context(ours.host("b"))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    test()


LISTENERS = {
    "another authority": "self-signed certificate|unable to get local issuer|certificate verify failed",
    "expired": "certificate has expired",
    "another address": "IP address mismatch",
}


@pytest.mark.parametrize("kind", LISTENERS)
def test_call_is_refused_and_nobody_gone_when_the_listener_cannot_be_believed(
    kind: str, ours: Certificates, others: Certificates, told: list[structlog.typing.EventDict]
) -> None:
    files = {
        "another authority": lambda: others.host("a"),
        "expired": lambda: ours.host("a", days=5, made_days_ago=6),
        "another address": lambda: ours.host("a", "127.0.0.2", "a.example"),
    }[kind]()
    # Whoever listens lets our caller in: what fails is the caller's own check.
    files = dataclasses.replace(files, authority=ours.folder / "authority.crt")

    @on_uvloop
    async def test() -> None:
        async with listening(files) as (app, port):
            error = await failure(f"https://127.0.0.1:{port}", client_context(ours.host("b")))
            assert isinstance(error, PeerRefused)
            assert not isinstance(error, PeerGone)
            assert app.calls == 0

    test()
    assert any(word in reasons(told) for word in LISTENERS[kind].split("|")), told
    assert [line["peer"] for line in told if "peer" in line] == ["127.0.0.1"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["none", "another authority", "expired"])
def test_caller_is_not_let_in_when_the_certificate_is_not_good(
    kind: str,
    version: ssl.TLSVersion,
    ours: Certificates,
    others: Certificates,
    told: list[structlog.typing.EventDict],
) -> None:
    if kind == "none":
        context = ssl.create_default_context(cafile=ours.folder / "authority.crt")
        context.sslobject_class = client_context(ours.host("b")).sslobject_class
    else:
        files = others.host("b") if kind == "another authority" else ours.host("b", days=5, made_days_ago=6)
        context = client_context(dataclasses.replace(files, authority=ours.folder / "authority.crt"))
    context.maximum_version = version

    @on_uvloop
    async def test() -> None:
        async with listening(ours.host("a")) as (app, port):
            error = await failure(f"https://127.0.0.1:{port}", context)
            # With TLS 1.3 a caller has sent its request before it learns that it is not wanted; and why, it never does.
            assert type(error) in {PeerLost, PeerRefused}, error
            assert app.calls == 0

    test()
    assert "somebody who called was not let in" in reasons(told), told


def test_call_is_lost_when_plain_http_meets_a_listener_with_tls(
    ours: Certificates, told: list[structlog.typing.EventDict]
) -> None:
    @on_uvloop
    async def test() -> None:
        async with listening(ours.host("a")) as (app, port):
            error = await failure(f"http://127.0.0.1:{port}", None)
            assert type(error) is PeerLost, error
            assert app.calls == 0

    test()
    assert "http request" in reasons(told), told


def test_call_is_refused_and_nobody_gone_when_tls_meets_a_listener_without(
    ours: Certificates, told: list[structlog.typing.EventDict]
) -> None:
    @on_uvloop
    async def test() -> None:
        app = _Pinged()
        async with serving(Listener(app, "127.0.0.1", free_port(), drain_s=1.0)) as (ports, _):
            error = await failure(f"https://127.0.0.1:{ports[0]}", client_context(ours.host("b")))
            assert type(error) is PeerRefused, error

    test()
    assert "no safe connection" in reasons(told), told


def test_no_certificate_is_believed_when_a_service_has_no_authority(ours: Certificates) -> None:
    @on_uvloop
    async def test() -> None:
        async with listening(ours.host("a")) as (_, port):
            assert type(await failure(f"https://127.0.0.1:{port}", None)) is PeerRefused

    test()


def test_peer_is_gone_when_nobody_listens_at_an_address_with_tls(ours: Certificates) -> None:
    @on_uvloop
    async def test() -> None:
        error = await failure(f"https://127.0.0.1:{free_port()}", client_context(ours.host("b")))
        assert type(error) is PeerGone

    test()


def test_call_ends_in_time_when_the_other_side_never_shakes_hands(ours: Certificates) -> None:
    @on_uvloop
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            error = await failure(f"https://127.0.0.1:{port}", client_context(ours.host("b")), timeout_s=0.1)
            assert type(error) is PeerTimeout

    test()


def test_listener_ends_a_connection_when_no_hands_are_shaken(
    ours: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.common.server.HANDSHAKE_S", 0.1)

    @on_uvloop
    async def test() -> None:
        async with listening(ours.host("a")) as (_, port), connection(port) as client:
            await client.closed()

    test()


def test_listener_stops_when_a_connection_is_open(ours: Certificates) -> None:
    @on_uvloop
    async def test() -> None:
        async with caller_of(ours) as (peer, _):
            await peer.call("/", _Pong, timeout_s=PATIENCE_S)

    test()


@asynccontextmanager
async def caller_of(ours: Certificates) -> AsyncIterator[tuple[Peer, _Pinged]]:
    """The listener ends before its caller does."""
    transport = partial(make_transport, client_context(ours.host("b")))
    async with make_client(Runtime(transport=transport)) as client, listening(ours.host("a")) as (app, port):
        yield Peer(client, f"https://127.0.0.1:{port}"), app


def test_why_is_told_when_a_request_over_tls_is_no_http(ours: Certificates) -> None:
    @on_uvloop
    async def test() -> None:
        async with listening(ours.host("a")) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(ours.host("b")))
            writer.write(b"what?\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
            writer.transport.abort()

    test()


def test_one_line_is_logged_when_the_same_fault_comes_again_and_again(
    ours: Certificates, told: list[structlog.typing.EventDict]
) -> None:
    @on_uvloop
    async def test() -> None:
        async with listening(ours.host("a")) as (_, port):
            for _ in range(5):
                await failure(f"http://127.0.0.1:{port}", None)

    test()
    assert len(told) == 1


def _broken(ours: Certificates, kind: str) -> TlsFiles:
    files = ours.host("a")
    if kind == "no certificate":
        files.certificate.unlink()
    elif kind == "no key":
        files.key.unlink()
    elif kind == "another key":
        return dataclasses.replace(files, key=ours.host("b").key)
    elif kind == "no authority":
        files.authority.write_text("hello")
    else:
        files.certificate.write_text("hello")
    return files


@pytest.mark.parametrize("kind", ["no certificate", "no key", "another key", "no authority", "no PEM"])
def test_file_at_fault_is_named_when_tls_cannot_be_set_up(kind: str, ours: Certificates) -> None:
    files = _broken(ours, kind)
    named = {"no key": files.key, "another key": files.key, "no authority": files.authority}
    with pytest.raises(BadTls, match=str(named.get(kind, files.certificate))):
        server_context(files)


@pytest.mark.parametrize(
    ("days", "made_days_ago", "says"), [(10, 11, "has expired"), (20, 0, "expires soon"), (100, 0, None)]
)
def test_end_of_the_certificate_is_told_when_it_is_near(
    days: int, made_days_ago: int, says: str | None, ours: Certificates, told: list[structlog.typing.EventDict]
) -> None:
    tls.warn_of_end(ours.host("a", days=days, made_days_ago=made_days_ago))
    assert [says in line["event"] for line in told if says] == ([True] if says else [])
    assert bool(told) == (says is not None)
