"""The bazaar of an experiment: a real `bazaar up` of its own, watched and struck from outside, gone at the end."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from services.cluster.control import ActionAnswer
from services.cluster.errors import CannotDo
from services.cluster.links import Nothing, internal_client
from services.cluster.ports import is_free
from services.cluster.routes import write_routes
from services.cluster.service_log import tail
from services.cluster.status import ServiceView, Snapshot
from services.cluster.supervisor import Action
from services.cluster.topology import BLOCK, END_OF_PORTS, Cluster, Settings, plan
from services.common.http import Peer, PeerError
from services.common.lifeline import SUPERVISOR_VARIABLE
from services.common.models import Message
from services.common.secret import load_secret

FIRST_PORT = 10_240
PATIENCE_S = 60.0  # until everything is level again after a fault
STATUS_S = 5.0
ACTION_S = 30.0
POLL_EVERY_S = 0.05
ALIVE_EVERY_S = 0.01
ALIVE_S = 0.25
END_S = 30.0  # for `bazaar up` to drain
LAST_LINES = 10


class Failed(Exception):
    """The bazaar did not come back: this is a verdict, not an accident."""


class _Alive(Message):
    status: str


def free_block() -> int:
    """The first of `BLOCK` ports in a row on which nobody listens now. Raises CannotDo."""
    bases = list(range(FIRST_PORT, END_OF_PORTS - BLOCK, BLOCK))
    random.SystemRandom().shuffle(bases)
    for base in bases:
        if all(is_free(port) for port in range(base, base + BLOCK)):
            return base
    raise CannotDo(f"there are no {BLOCK} free ports in a row below {END_OF_PORTS}")


class Processes:
    """`bazaar up` and its services. `client` knows the secret of `data_dir`."""

    def __init__(self, cluster: Cluster, data_dir: Path, client: httpx.AsyncClient) -> None:
        self.cluster = cluster
        self.data_dir = data_dir
        self.client = client
        self._control = Peer(client, cluster.control)
        self._supervisor: asyncio.subprocess.Process | None = None

    @property
    def output(self) -> Path:
        """What `bazaar up` prints."""
        return self.data_dir / "up.log"

    async def start(self) -> None:
        """Start everything and wait until it is level. Raises CannotDo when it does not start."""
        settings = self.cluster.settings
        routes = self.data_dir / "routes.json"
        write_routes(routes, settings.routes)
        flags = ["--port", str(settings.port), "--replicas", str(settings.replicas), "--routes", str(routes)]
        flags += ["--front-ends", str(settings.front_ends), "--cache-size", str(settings.cache_size)]
        flags += ["--restart", settings.restart, "--data-dir", str(self.data_dir)]
        if settings.catalog is not None:
            flags += ["--catalog", str(settings.catalog)]
        with self.output.open("ab") as output:
            # A session of its own: Ctrl-C reaches this process alone. It ends when this process does.
            self._supervisor = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.cluster", "up", *flags),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {SUPERVISOR_VARIABLE: str(os.getpid())},
                start_new_session=True,
            )
        try:
            await self.wait_level()
        except Failed as error:
            raise CannotDo(str(error)) from error

    async def stop(self) -> None:
        """End it all: what is under way ends first, unless that takes too long."""
        process = self._supervisor
        if process is None:
            return
        self._supervisor = None
        try:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(END_S):
                    await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def act(self, name: str, action: Action) -> None:
        """What `bazaar kill` and `bazaar start` do. Raises CannotDo."""
        try:
            await self._control.call(f"/services/{name}/{action}", ActionAnswer, Nothing(), timeout_s=ACTION_S)
        except PeerError as error:
            raise CannotDo(f"{action} {name}: {error}") from error

    async def status(self) -> Snapshot | None:
        """How the bazaar is, None when the supervisor does not say. Raises Failed when it never will."""
        if self._supervisor is None or self._supervisor.returncode is not None:
            last = "\n".join(tail(self.output)[-LAST_LINES:])
            raise Failed(f"bazaar up has ended:\n{last}")
        try:
            snapshot = await self._control.call("/status", Snapshot, timeout_s=STATUS_S)
        except PeerError:
            return None
        for service in snapshot.services:
            if service.state == "failed":
                raise Failed(f"{service.name} failed: {service.reason}")
        return snapshot

    async def wait_level(self, old: Mapping[str, int] | None = None) -> Snapshot:
        """Wait until everything can do its job again, in other processes than the `old` ones. Raises Failed."""
        gone = old or {}
        snapshot = None
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    snapshot = await self.status()
                    if snapshot is not None and is_level(snapshot.services, gone):
                        return snapshot
                    await asyncio.sleep(POLL_EVERY_S)
        states = [describe(each) for each in snapshot.services] if snapshot is not None else ["nobody says how it is"]
        raise Failed(f"K9: not level within {PATIENCE_S:.0f} s: {'; '.join(states)}")

    async def downtime(self, name: str, since: float) -> float:
        """Seconds from `since`, when the service's process was struck, until another one answers."""
        peer = Peer(self.client, next(each.internal_url for each in self.cluster.services if each.name == name))
        while await _is_alive(peer):  # noqa: ASYNC110 - nor does their death
            await asyncio.sleep(ALIVE_EVERY_S)
        while not await _is_alive(peer):  # noqa: ASYNC110
            await asyncio.sleep(ALIVE_EVERY_S)
        return time.monotonic() - since


@asynccontextmanager
async def running(settings: Settings, data_dir: Path) -> AsyncIterator[Processes]:
    """A bazaar with these settings and its data there, level at first and stopped at the end. Raises CannotDo."""
    load_secret(data_dir)  # made here, so that the client knows it
    async with internal_client(data_dir) as client:
        processes = Processes(plan(settings), data_dir, client)
        try:
            await processes.start()
            yield processes
        finally:
            await processes.stop()


def is_level(services: Collection[ServiceView], gone: Mapping[str, int]) -> bool:
    """Whether every service runs, not in the process it had in `gone`, and can do its job, all in one generation."""
    generations = {each.generation for each in services if each.role != "front-end"}
    is_ready = all(
        each.state == "running"
        and each.pid != gone.get(each.name)
        and (each.leader is not None if each.role == "front-end" else each.level is not False)
        for each in services
    )
    return is_ready and len(generations) == 1 and None not in generations


def describe(service: ServiceView) -> str:
    """How a service is, in a few words."""
    told = service.model_dump(include={"leader", "level", "generation", "reason"}, exclude_none=True)
    return f"{service.name} {service.state}" + "".join(f", {name} {value}" for name, value in told.items())


async def _is_alive(peer: Peer) -> bool:
    try:
        await peer.call("/livez", _Alive, timeout_s=ALIVE_S)
    except PeerError:
        return False
    return True
