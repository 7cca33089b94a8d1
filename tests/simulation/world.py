"""The simulated world: processes that die and freeze, a network that loses and delays, a disk that takes its time.

Everything that reaches from one process to another passes through here, so a dead process can neither send nor write.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import httpx
from fastapi import FastAPI

from services.catalog.app import create_app as create_catalog
from services.common.runtime import Runtime
from services.common.settings import CatalogSettings, FrontEndSettings, OrderSettings
from services.front_end.app import create_app as create_front_end
from services.order.app import create_app as create_order
from tests.simulation.disk import SimulatedDisk
from tests.simulation.etcd import ETCD, STORE, EtcdCluster
from tests.simulation.loop import Life, SimulatedLoop, life_context
from tests.simulation.network import SimulatedTransport, answer_of, message_of
from tests.simulation.storage import CuttingVFS, Storage

SECRET = "simulated"
WALL_MS = 1_700_000_000_000  # the time of day at which simulated time begins

Blow = Literal["kill", "pause", "power cut"]
"""What can happen to a process at a point."""

CATALOGS = {"catalog-1": "8010", "catalog-2": "8031"}
"""Where etcd keeps the state; else there is one, and it is called `catalog`."""

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

    def __init__(
        self,
        loop: SimulatedLoop,
        seed: int,
        folder: Path,
        *,
        replicas: int = 3,
        front_ends: int = 2,
        on_etcd: bool = False,
    ) -> None:
        self.loop = loop
        self.etcd = EtcdCluster(self) if on_etcd else None
        self.random = random.Random(seed)
        self.folder = folder
        self.trace = hashlib.sha256()
        self.story: list[str] = []
        self.storage = Storage()
        self._vfs = CuttingVFS(self.storage)
        self.points: set[str] = set()
        self.on_point: Callable[[Process, str], Blow | None] = lambda process, point: None
        self.on_blow: Callable[[Process, Blow], None] = lambda process, blow: None
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
        store = STORE if self.etcd else None
        catalog = CatalogSettings(replicas=orders, data_dir=folder, stocks=folder / "stocks.csv", store=store)
        for name, port in CATALOGS.items() if self.etcd else [("catalog", "8010")]:
            self._add(name, port, partial(create_catalog, catalog, secret=SECRET))
        addresses = [f"http://127.0.0.1:{port}" for port in CATALOGS.values()]
        # In the real world all prefer the same one; here half of them another, so that catalogs meet more often.
        known: list[dict[str, Any]] = [
            {"catalog": ",".join(addresses[:: -1 if i % 2 else 1])} if self.etcd else {} for i in range(10)
        ]
        for i in orders:
            order = OrderSettings(replicas=orders, data_dir=folder, replica_id=i, **known[i])
            self._add(f"order-{i}", str(8010 + i), partial(create_order, order, secret=SECRET))
        if self.etcd:
            known[2] = {"catalog": addresses[0]}  # so the second front-end's sessions have no grantors
        for k in range(1, front_ends + 1):
            name = f"front-end-{k}"
            front_end = FrontEndSettings(
                replicas=orders, data_dir=folder, name=name, internal_port=8020 + k, cache_size=3, **known[k]
            )
            self._add(name, str(8000 + k), partial(create_front_end, front_end, secret=SECRET))
        if self.etcd:
            for name, port in ETCD.items():
                self._add(name, port, partial(self.etcd.node, name))

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
        _ = self.spawn(life, self._live(process, life))

    async def _live(self, process: Process, life: Life) -> None:
        app = process.build(self._runtime(life))
        process.apps = {process.host: app}
        if hasattr(app.state, "internal"):
            process.apps[str(8020 + int(process.name[-1]))] = app.state.internal
        async with app.router.lifespan_context(app):
            await asyncio.Event().wait()

    def kill(self, name: str, *, power: bool = False) -> None:
        """SIGKILL: nothing of the process goes on, nothing is cleaned up, its files and locks are let go.

        power: the machine's power is cut, so what was written and not fsynced is lost too, or some of it.
        """
        process = self.processes[name]
        if process.life is None:
            return
        self.note(f"the power of {name} is cut" if power else f"{name} is killed")
        process.life.is_dead = True
        process.life = None
        process.death.set_result(None)
        database = self.database_of(name)
        self.storage.freeze(database)
        for app in process.apps.values():
            self._graveyard.append(app)
            for part in ("catalog", "replica"):
                if hasattr(app.state, part) and (files := _files_of(getattr(app.state, part))) is not None:
                    files.close()
        self.storage.thaw(database)
        if power:
            self.note(f"{self.storage.cut_power(database, self.random)} writes of {name} were not fsynced")
        process.apps = {}
        if self.etcd and name in ETCD:
            self.etcd.lost(name)

    def database_of(self, name: str) -> Path:
        """The database file of a process."""
        return self.folder / f"{name}.db"

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

    @property
    def catalogs(self) -> list[Process]:
        """All catalogs."""
        return [process for name, process in self.processes.items() if name.startswith("catalog")]

    def wipe(self, name: str) -> None:
        """Lose the disk of a process that is down."""
        assert self.processes[name].life is None
        self.note(f"the disk of {name} is lost")
        self.storage.forget(self.database_of(name))
        for path in self.folder.glob(f"{name}.*"):
            path.unlink()

    def spawn(self, life: Life | None, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
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

        return Runtime(
            monotonic=self.loop.time,
            wall_ms=lambda: WALL_MS + int(self.loop.time() * 1_000),
            random=random.Random(self.random.getrandbits(64)),
            transport=lambda: SimulatedTransport(self, life.name, life),
            disk=lambda: SimulatedDisk(self, life),
            end_process=end_process,
            point=partial(self.reach, life),
        )

    # Points.

    async def reach(self, life: Life, point: str) -> None:
        """A process comes to a point, where it may be killed or paused: its next step comes later, or never."""
        blow = self.blow_at(life, point)
        if blow is not None:
            self.on_blow(self.processes[life.name], blow)
        if life.is_dead or life.is_paused:
            await asyncio.sleep(0)

    def blow_at(self, life: Life, point: str) -> Blow | None:
        """What is to happen to a process at this point."""
        self.points.add(point)
        process = self.processes[life.name]
        return self.on_point(process, point) if process.life is life else None

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
        _ = self.spawn(process.life, self._serve(process.life, app, request, answer))
        return answer

    async def _serve(
        self, life: Life, app: FastAPI, request: httpx.Request, answer: "asyncio.Future[httpx.Response]"
    ) -> None:
        message = message_of(request)
        await self.reach(life, f"{life.kind} receives {message}")
        try:
            response = await answer_of(app, request)
        except Exception as error:  # noqa: BLE001 - the caller gets it, whatever it is
            if not answer.done():
                answer.set_exception(error)
            return
        await self.reach(life, f"{life.kind} answers {message}")
        if not answer.done():
            answer.set_result(response)
        await self.reach(life, f"{life.kind} has answered {message}")

    async def close(self) -> None:
        """End everything."""
        for name in self.processes:
            self.kill(name)


def _files_of(part: Any) -> Any:
    return getattr(part._store, "file", None) if hasattr(part, "_store") else part.log._store
