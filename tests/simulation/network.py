"""The network as a simulated process or client sees it: messages travel, are late, are lost, or find nobody."""

import asyncio
import re
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI

from tests.simulation.loop import Life

if TYPE_CHECKING:
    from tests.simulation.world import World


def message_of(request: httpx.Request) -> str:
    """What a request is, without what differs from one to the next."""
    return f"{request.method} {_VARIABLE.sub('/*', request.url.path)}"


_VARIABLE = re.compile(r"(?<=/stocks)/.+|(?<=/orders)/.+")


async def answer_of(app: FastAPI, request: httpx.Request) -> httpx.Response:
    """Call an ASGI application directly.

    No question is asked so often as that for a replica's health: that one goes past the web framework, to the method
    that its route would call.
    """
    if request.url.path == "/status" and hasattr(app.state, "replica"):
        return httpx.Response(200, content=app.state.replica.status().model_dump_json())
    path, _, query = request.url.raw_path.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.url.path,
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    body = [{"type": "http.request", "body": request.content, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if body:
            return body.pop()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=content)


class SimulatedTransport(httpx.AsyncBaseTransport):
    """The network as one process (or client) sees it."""

    def __init__(self, world: "World", sender: str, life: Life | None = None) -> None:
        self._world = world
        self._sender = sender
        self._life = life

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """A message there, an answer back, with a point before and after."""
        if self._life is None:
            return await self._carry(request)
        kind, message = self._life.kind, message_of(request)
        await self._world.reach(self._life, f"{kind} sends {message}")
        response = await self._carry(request)
        await self._world.reach(self._life, f"{kind} has the answer to {message}")
        return response

    async def _carry(self, request: httpx.Request) -> httpx.Response:
        """Each way may be slow, lose the message, or find nobody."""
        world, sender = self._world, self._sender
        process = world.process_at(str(request.url.port))
        assert process is not None, f"nobody has the address {request.url}"
        await asyncio.sleep(world.trip_s())
        if world.is_lost(sender, process.name):
            await asyncio.Event().wait()  # until the caller's patience ends
        app = process.apps.get(str(request.url.port))
        if process.life is None or app is None:
            raise httpx.ConnectError("refused", request=request)
        life, death = process.life, process.death
        if world.is_rough and world.random.random() < 0.005 and not process.name.startswith("etcd"):
            _ = world.serve(process, app, request)  # delivered twice
        answer = world.serve(process, app, request)
        ends: list[asyncio.Future[Any]] = [answer, death]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise httpx.ReadError("reset", request=request)
        await asyncio.sleep(world.trip_s())
        if life.is_dead and world.random.random() < 0.5:
            raise httpx.ReadError("reset", request=request)
        if world.is_lost(process.name, sender):
            await asyncio.Event().wait()
        response = answer.result()
        response.request = request
        return response
