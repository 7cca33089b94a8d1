"""Runs a service's applications in this process: bound before anything starts, drained at the end.

One uvicorn for each listener, in one event loop. Listeners start in the order they are given and stop in reverse, each
after the one that relies on it. The first SIGTERM or SIGINT drains, a second one ends the process at once.
"""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from services.common.lifespan import Lifespan
from services.common.logs import get_log
from services.common.protocol import GuardedProtocol, Limits
from services.common.tls import HANDSHAKE_S, SHUTDOWN_S

log = get_log(__name__)
# It warns of every malformed request; anyone could fill the log with those.
logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

BACKLOG = 2_048
SAME_SIGNAL_S = 0.3
"""`timeout`, `make` and a shell may each pass on the same signal; so soon after the first it is not a second one."""


class CannotListen(Exception):
    """A port is in use, or an address is none of this machine's."""

    def __init__(self, listener: "Listener", error: OSError) -> None:
        super().__init__(f"cannot listen on {listener.host} port {listener.port}: {error.strerror}")


@dataclass(frozen=True)
class Listener(Limits):
    """An application and where it listens; port 0 means any free one. Limits are by name. tls: else plain HTTP."""

    app: ASGIApp
    host: str
    port: int
    drain_s: float = 5.0
    tls: ssl.SSLContext | None = None


async def serve(
    *listeners: Listener,
    on_ready: Callable[[tuple[int, ...]], object] | None = None,
    on_stop: Callable[[], object] | None = None,
    catch_signals: bool = True,
) -> None:
    """Serve until a signal, or until cancelled, which drains as well.

    on_ready: called when all listeners have started, with their ports. on_stop: called when they begin to stop, so that
    streams without an end can be ended. catch_signals: False for a process that handles them itself. Raises
    CannotListen, or what a start-up raised.
    """
    with contextlib.ExitStack() as sockets:
        bound = [sockets.enter_context(_bind(listener)) for listener in listeners]
        _allow_files(sum(2 * listener.max_connections for listener in listeners))
        stop = asyncio.Event()
        with _signals(stop) if catch_signals else contextlib.nullcontext():
            running = _Running(on_stop)
            try:
                await _unless(stop, running.start(listeners, bound))
                if not stop.is_set():
                    if on_ready is not None:
                        on_ready(tuple(sock.getsockname()[1] for sock in bound))
                    await stop.wait()
            finally:
                await running.stop()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on uvloop, as all that this process does. A port in use is one line on stderr and exit status 1."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except CannotListen as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


class _Running:
    """The listeners that have started."""

    def __init__(self, on_stop: Callable[[], object] | None) -> None:
        self._on_stop = on_stop
        self._servers: list[_Server] = []

    async def start(self, listeners: tuple[Listener, ...], sockets: list[socket.socket]) -> None:
        for listener, sock in zip(listeners, sockets, strict=True):
            server = _Server(listener, sock)
            await server.start()
            self._servers.append(server)

    async def stop(self) -> None:
        if self._on_stop is not None:
            self._on_stop()
        async with contextlib.AsyncExitStack() as stack:
            # Unwinds from the last to the first, and goes on when one fails.
            for server in self._servers:
                stack.push_async_callback(server.stop)


class _Server:
    """One application on one bound socket."""

    def __init__(self, listener: Listener, sock: socket.socket) -> None:
        self._listener = listener
        self._sock = sock
        self._state = ServerState()
        self._lifespan = Lifespan(listener.app)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Start the application up, then listen: until then a connection is refused."""
        await self._lifespan.start()
        try:
            self._server = await self._listen()
        except BaseException:
            await self._lifespan.stop()
            raise

    async def _listen(self) -> asyncio.Server:
        config = uvicorn.Config(
            self._listener.app,
            interface="asgi3",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        config.load()

        def make_protocol() -> GuardedProtocol:
            return GuardedProtocol(self._listener, config, self._state, self._lifespan.state)

        tls: dict[str, Any] = {}
        if self._listener.tls is not None:
            tls = {
                "ssl": self._listener.tls,
                "ssl_handshake_timeout": HANDSHAKE_S,
                "ssl_shutdown_timeout": SHUTDOWN_S,
            }
        try:
            return await asyncio.get_running_loop().create_server(
                make_protocol, sock=self._sock, backlog=BACKLOG, **tls
            )
        except OSError as error:
            raise CannotListen(self._listener, error) from error

    async def stop(self) -> None:
        """Stop listening, let requests in flight finish, drop those that take too long, shut the application down."""
        assert self._server is not None
        self._server.close()
        try:
            async with asyncio.timeout(self._listener.drain_s):
                while self._state.connections or self._state.tasks:
                    # Again each time: a connection may have been accepted in the moment before.
                    for connection in list(self._state.connections):
                        connection.shutdown()
                    await asyncio.sleep(0.01)
        except TimeoutError:
            await self._drop()
        await self._lifespan.stop()

    async def _drop(self) -> None:
        log.warning("requests did not finish in time and are dropped", requests=len(self._state.tasks))
        for connection in list(self._state.connections):
            assert isinstance(connection, GuardedProtocol)
            connection.abandon()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)


def _bind(listener: Listener) -> socket.socket:
    """A socket bound to the listener's address, not listening yet."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as on_failure:
            sock = on_failure.enter_context(socket.socket(family, kind, protocol))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            on_failure.pop_all()
    except OSError as error:
        raise CannotListen(listener, error) from error
    return sock


def _allow_files(count: int) -> None:
    """Raise the limit of open files, as far as allowed, to `count` connections and what else a service opens."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 1_024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first SIGTERM or SIGINT, end the process at the second."""
    loop = asyncio.get_running_loop()
    first_at = 0.0

    def on_signal(number: int) -> None:
        nonlocal first_at
        if not stop.is_set():
            first_at = time.monotonic()
            stop.set()
        elif time.monotonic() - first_at > SAME_SIGNAL_S:
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, but cancel it and wait for its end when `stop` comes first."""
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for other in (task, stopped):
            other.cancel()
        await asyncio.wait([task, stopped])
    if not task.cancelled():
        task.result()
