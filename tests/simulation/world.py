"""The simulated world: processes that die and freeze, a network that loses and delays, a disk that takes its time.

Everything that reaches from one process to another passes through here, so a dead process can neither send nor write.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import httpx
from fastapi import FastAPI

from services.catalog.app import create_app as create_catalog
from services.common.runtime import Runtime
from services.common.settings import CatalogSettings, FrontEndSettings, OrderSettings
from services.front_end.app import create_app as create_front_end
from services.order.app import create_app as create_order
from tests.simulation.loop import CURRENT_LIFE, Life, SimulatedLoop, life_context

SECRET = "simulated"

STOCKS = "name,price,quantity\nS0,10.50,3\nS1,11.50,8\nS2,12.50,20\nS3,13.50,60\n"


class ProcessEnded(BaseException):
    """Unwinds the code that ended its own process; no such code exists after a real exit."""


@dataclass
class Process:
    """A service at its address. life: None while it is down; death: done when it ends. exits: its own statuses."""

    name: str
    host: str
    build: Callable[[Runtime], FastAPI]
    death: "asyncio.Future[None]"
    life: Life | None = None
    apps: dict[str, FastAPI] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)
    starts: int = 0


class World:
    """All processes, links and disks of one simulation, and everything that chance decides."""

    def __init__(self, loop: SimulatedLoop, seed: int, folder: Path, *, replicas: int = 3, front_ends: int = 2) -> None:
        self.loop = loop
        self.random = random.Random(seed)
        self.folder = folder
        self.trace = hashlib.sha256()
        self.story: list[str] = []
        self.points: set[str] = set()
        self.on_point: Callable[[Life, str], None] = lambda life, point: None
        self.blocked: set[tuple[str, str]] = set()  # from one process to another, by name
        self.is_rough = False
        self.on_restart: Callable[[Process], None] = lambda process: None
        self.processes: dict[str, Process] = {}
        self._hosts: dict[str, Process] = {}
        self._graveyard: list[object] = []
        (folder / "stocks.csv").write_text(STOCKS, encoding="utf-8")
        self._lay_out(replicas, front_ends)

    # Processes.

    def _lay_out(self, replicas: int, front_ends: int) -> None:
        orders = {i: f"http://127.0.0.1:{8010 + i}" for i in range(1, replicas + 1)}
        folder = self.folder
        catalog = CatalogSettings(replicas=orders, data_dir=folder, stocks=folder / "stocks.csv")
        self._add("catalog", "8010", partial(create_catalog, catalog, secret=SECRET))
        for i in orders:
            order = OrderSettings(replicas=orders, data_dir=folder, replica_id=i)
            self._add(f"order-{i}", str(8010 + i), partial(create_order, order, secret=SECRET))
        for k in range(1, front_ends + 1):
            name = f"front-end-{k}"
            front_end = FrontEndSettings(
                replicas=orders, data_dir=folder, name=name, internal_port=8020 + k, cache_size=3
            )
            self._add(name, str(8000 + k), partial(create_front_end, front_end, secret=SECRET))

    def _add(self, name: str, port: str, build: Callable[[Runtime], FastAPI]) -> None:
        process = Process(name, port, build, self.loop.create_future())
        self.processes[name] = process
        self._hosts[port] = process
        if name.startswith("front-end"):
            self._hosts[str(8020 + int(name[-1]))] = process

    def note(self, text: str) -> None:
        """Add a line to the story and to the trace."""
        line = f"{self.loop.time():9.4f}  {text}"
        self.story.append(line)
        self.trace.update(line.encode())

    def start(self, name: str) -> None:
        """Start a process that is down."""
        process = self.processes[name]
        assert process.life is None, f"{name} runs already"
        process.starts += 1
        life = process.life = Life(name)
        process.death = self.loop.create_future()
        self.note(f"{name} starts")
        _ = self._spawn(life, self._live(process, life))

    async def _live(self, process: Process, life: Life) -> None:
        app = process.build(self._runtime(life))
        process.apps = {process.host: app}
        if hasattr(app.state, "internal"):
            process.apps[str(8020 + int(process.name[-1]))] = app.state.internal
        async with app.router.lifespan_context(app):
            await asyncio.Event().wait()

    def kill(self, name: str) -> None:
        """SIGKILL: nothing of the process goes on, nothing is cleaned up, its files and locks are let go."""
        process = self.processes[name]
        if process.life is None:
            return
        self.note(f"{name} is killed")
        process.life.is_dead = True
        process.life = None
        process.death.set_result(None)
        for app in process.apps.values():
            self._graveyard.append(app)
            for part in ("catalog", "replica"):
                if hasattr(app.state, part):
                    _files_of(getattr(app.state, part)).close()
        process.apps = {}

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        life = self.processes[name].life
        if life is not None and not life.is_paused:
            self.note(f"{name} is paused")
            life.is_paused = True

    def resume(self, name: str) -> None:
        """SIGCONT."""
        life = self.processes[name].life
        if life is not None and life.is_paused:
            self.note(f"{name} goes on")
            life.is_paused = False
            parked, life.parked = life.parked, []
            for callback, args, context in parked:
                self.loop.call_soon(callback, *args, context=context)

    def wipe(self, name: str) -> None:
        """Lose the disk of a process that is down."""
        assert self.processes[name].life is None
        self.note(f"the disk of {name} is lost")
        for path in self.folder.glob(f"{name}.*"):
            path.unlink()

    def _spawn(self, life: Life | None, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(work, context=life_context(life))

    def _runtime(self, life: Life) -> Runtime:
        def end_process(status: int) -> NoReturn:
            process = self.processes[life.name]
            if process.life is life:
                process.exits.append(status)
                self.note(f"{life.name} ends itself with status {status}")
                self.kill(life.name)
                self.on_restart(process)
            raise ProcessEnded

        async def point(name: str) -> None:
            self.points.add(name)
            self.on_point(life, name)
            if life.is_dead or life.is_paused:
                await asyncio.sleep(0)  # killed or paused here: its next step comes later, or never

        return Runtime(
            monotonic=self.loop.time,
            wall_ms=lambda: 1_700_000_000_000 + int(self.loop.time() * 1_000),
            random=random.Random(self.random.getrandbits(64)),
            transport=lambda: SimulatedTransport(self, life.name),
            disk=lambda: SimulatedDisk(self, life),
            end_process=end_process,
            point=point,
        )

    # Network.

    def process_at(self, host: str) -> Process | None:
        """Who listens at this port."""
        return self._hosts.get(host)

    def trip_s(self) -> float:
        """How long a message travels."""
        if self.is_rough and self.random.random() < 0.02:
            return self.random.uniform(0.05, 1.5)
        return self.random.uniform(0.0001, 0.001)

    def disk_s(self) -> float:
        """How long one half of a transaction takes."""
        if self.is_rough and self.random.random() < 0.01:
            return self.random.uniform(0.02, 0.4)
        return self.random.uniform(0.0001, 0.001)

    def is_lost(self, sender: str, receiver: str) -> bool:
        """Whether a message does not arrive."""
        return (sender, receiver) in self.blocked or (self.is_rough and self.random.random() < 0.01)

    def serve(self, process: Process, app: FastAPI, request: httpx.Request) -> "asyncio.Future[httpx.Response]":
        """Have a process answer a request; the future stays open when it dies or freezes before."""
        answer: asyncio.Future[httpx.Response] = self.loop.create_future()
        assert process.life is not None
        _ = self._spawn(process.life, _answer(app, request, answer))
        return answer

    async def close(self) -> None:
        """End everything."""
        for name in self.processes:
            self.kill(name)


def _files_of(part: Any) -> Any:
    return part._store if hasattr(part, "_store") else part.log._store


async def _answer(app: FastAPI, request: httpx.Request, answer: "asyncio.Future[httpx.Response]") -> None:
    """Call an ASGI application directly."""
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

    try:
        await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - the caller gets it, whatever it is
        if not answer.done():
            answer.set_exception(error)
        return
    content = b"".join(message.get("body", b"") for message in sent[1:])
    if not answer.done():
        answer.set_result(httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=content))


class SimulatedTransport(httpx.AsyncBaseTransport):
    """The network as one process (or client) sees it."""

    def __init__(self, world: World, sender: str) -> None:
        self._world = world
        self._sender = sender

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """A message there, an answer back; each may be slow, be lost, or find nobody."""
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
        if world.is_rough and world.random.random() < 0.005:
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


class SimulatedDisk:
    """A disk whose work is done in the middle of a wait: a process can die before it and after it."""

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See `services.common.runtime.Disk`."""
        return await asyncio.shield(self._world._spawn(self._life, self._work(work, args, kwargs)))

    async def _work(self, work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        async with self._turn:
            await asyncio.sleep(self._world.disk_s())
            result = work(*args, **kwargs)
            await asyncio.sleep(self._world.disk_s())
            return result

    def close(self) -> None:
        """Nothing is left to be done."""


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    """Start every process, and end everything afterwards."""
    for name in world.processes:
        world.start(name)
    try:
        yield world
    finally:
        await world.close()


__all__ = ["CURRENT_LIFE", "Process", "ProcessEnded", "SimulatedTransport", "World", "running"]
