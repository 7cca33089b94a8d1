"""A hardened server within the test, on uvloop as in production, and clients that speak to it in raw bytes."""

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec

import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.server import Listener, serve
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port

P = ParamSpec("P")
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def on_uvloop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on uvloop, with an end."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_S))

    return run


class App:
    """An ASGI application that notes what happens to it and answers how many bytes the body had."""

    def __init__(self, name: str = "app", notes: list[str] | None = None) -> None:
        self.name = name
        self.notes: list[str] = [] if notes is None else notes
        self.before_answer: Callable[[], Awaitable[object]] | None = None
        self.answer_size = 0
        self.bodies: list[bytes] = []
        self.was_asked = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.notes.append(f"{self.name} hung up")
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        self.notes.append(f"{self.name} asked")
        self.was_asked.set()
        if self.before_answer is not None:
            await self.before_answer()
        answer = b"%d" % len(body) + b"." * self.answer_size
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
        )
        await send({"type": "http.response.body", "body": answer})

    async def _live(self, receive: Receive, send: Send) -> None:
        for step in ("startup", "shutdown"):
            await receive()
            self.notes.append(f"{self.name} {step}")
            await send({"type": f"lifespan.{step}.complete"})


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def error(self) -> int:
        """The status of the next answer, which must be an error in the one shape."""
        status, headers, body = await self.answer()
        error = json.loads(body)
        assert headers["content-type"] == "application/json"
        assert list(error) == ["error"]
        assert error["error"]["code"] == status
        assert error["error"]["message"]
        return status

    async def closed(self) -> None:
        """Returns when the server has closed the connection, without another byte."""
        assert await self.reader.read() == b""


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[Client]:
    """A connection to the port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def served(app: ASGIApp, **limits: Any) -> AsyncIterator[int]:
    """Serves `app` on a free port, which is given."""
    async with serving(Listener(app, "127.0.0.1", free_port(), **{"drain_s": 0.1, **limits})) as (ports, _):
        yield ports[0]


@asynccontextmanager
async def serving(*listeners: Listener, **options: Any) -> AsyncIterator[tuple[tuple[int, ...], asyncio.Task[None]]]:
    """Serves `listeners`; gives their ports, and the task, whose end is the end of serving."""
    ready: asyncio.Future[tuple[int, ...]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(*listeners, on_ready=ready.set_result, **options))
    either: list[asyncio.Future[Any]] = [task, ready]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    try:
        if task.done():
            task.result()
        yield ready.result(), task
    finally:
        task.cancel()
        await asyncio.wait([task])
