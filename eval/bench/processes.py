"""The servers under test: the yardsticks, and a real `bazaar up` over a log of a chosen length."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from eval.bench.children import Child, all_stopped, check_alive, start
from eval.bench.load import HOST
from eval.processes import Failed, Processes, free_block
from services.cluster.errors import CannotDo
from services.cluster.links import internal_client
from services.cluster.topology import Settings, command, plan, port_of
from services.cluster.up import readiness
from services.common.http import Peer, PeerError
from services.common.models import ReplicaStatus
from services.common.secret import load_secret

POLL_S = 0.01
REST_S = 0.05  # between two looks at a replica that catches up: they cost it time
PATIENCE_S = 600.0
ANSWER_S = 30.0


@dataclass(frozen=True)
class Target:
    """Where a load goes, and the processes that serve it, by name."""

    port: int
    pids: Mapping[str, int]


@dataclass(frozen=True)
class Bare:
    """One server of `eval.bench.bare`. calls: the places of those that a `pass` calls, step after step."""

    kind: str
    calls: Sequence[Sequence[int]] = ()


@asynccontextmanager
async def yardstick(*servers: Bare) -> AsyncIterator[Target]:
    """These servers; the load goes to the first one. One that is called by a server behind it is only told."""
    first = free_block()
    async with all_stopped() as children:
        for place, server in enumerate(servers):
            flags = ["--port", str(first + place)]
            for step in server.calls:
                paths = ["orders" if called > place else "told" for called in step]
                urls = [f"http://{HOST}:{first + called}/{path}" for called, path in zip(step, paths, strict=True)]
                flags += ["--next", ",".join(urls)]
            children.append(await start(sys.executable, "-m", "eval.bench.bare", server.kind, *flags))
        await asyncio.gather(*(_wait_for_port(first + place, child) for place, child in enumerate(children)))
        names = [f"{server.kind}-{place}" for place, server in enumerate(servers, start=1)]
        yield Target(first, dict(zip(names, (child.pid for child in children), strict=True)))


class Bazaar:
    """A running `bazaar up`. `ready_s`: seconds from its start until its front-end said that it is ready."""

    def __init__(self, processes: Processes, ready_s: float, pids: Mapping[str, int]) -> None:
        self.ready_s = ready_s
        self.target = Target(processes.cluster.settings.port, pids)
        self.processes = processes

    async def catch_up(self, name: str, orders: int) -> tuple[int, float]:
        """Start a replica that is down; gives how many orders it fetched since its first answer, and the seconds."""
        service = next(each for each in self.processes.cluster.services if each.name == name)
        peer = Peer(self.processes.client, service.internal_url)
        await self.processes.act(name, "start")
        async with _patience(f"{name} did not catch up"):
            had, began = await _number_of(peer), time.perf_counter()
            while True:
                number = await _number_of(peer)
                if number >= orders:
                    return number - had, time.perf_counter() - began
                await asyncio.sleep(REST_S)

    async def start_again(self, name: str) -> float:
        """Kill a replica and start it; gives the seconds from the start until it is ready."""
        service = next(each for each in self.processes.cluster.services if each.name == name)
        await self.processes.act(name, "kill")
        began = time.perf_counter()
        await self.processes.act(name, "start")
        return await _ready(Peer(self.processes.client, service.internal_url)) - began

    @asynccontextmanager
    async def without_cache(self) -> AsyncIterator[Target]:
        """One more front-end, with its cache off. It has no session, so trades do not wait for it."""
        settings = self.processes.cluster.settings.model_copy(update={"front_ends": 2, "cache_size": 0})
        cluster = plan(settings)
        service = cluster.of("front-end")[1]
        async with all_stopped() as children:
            children.append(await start(*command(cluster, service, self.processes.data_dir)))
            await _ready(Peer(self.processes.client, service.internal_url), children[0])
            own = {service.name: children[0].pid}
            others = {name: pid for name, pid in self.target.pids.items() if not name.startswith("front-end")}
            yield Target(port_of(service.url), own | others)


@asynccontextmanager
async def bazaar(data_dir: Path) -> AsyncIterator[Bazaar]:
    """A bazaar over the databases in `data_dir`, running and level."""
    cluster = plan(Settings(port=free_block()))
    load_secret(data_dir)  # made here, so that the client knows it
    async with internal_client(data_dir) as client:
        processes = Processes(cluster, data_dir, client)
        began = time.perf_counter()
        front_end = Peer(client, cluster.of("front-end")[0].internal_url)
        ready = asyncio.create_task(_ready(front_end))
        try:
            await processes.start()
            ready_s = await ready - began
            services = (await processes.wait_level()).services
            yield Bazaar(processes, ready_s, {each.name: each.pid for each in services if each.pid is not None})
        except Failed as error:
            raise CannotDo(str(error)) from error
        finally:
            ready.cancel()
            await processes.stop()


@asynccontextmanager
async def _patience(complaint: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except TimeoutError:
        raise CannotDo(f"{complaint} within {PATIENCE_S:.0f} s") from None


async def _ready(peer: Peer, child: Child | None = None) -> float:
    """Ask until a service is ready; gives the moment. Raises CannotDo when its process ends, or time runs out."""
    probe = readiness(peer)
    async with _patience("a server under test did not become ready"):
        while await probe() is not None:
            if child is not None:
                check_alive(child)
            await asyncio.sleep(POLL_S)
    return time.perf_counter()


async def _number_of(peer: Peer) -> int:
    """How many orders a replica has, as soon as it answers."""
    while True:
        try:
            return (await peer.call("/status", ReplicaStatus, timeout_s=ANSWER_S)).head.number
        except PeerError:
            await asyncio.sleep(POLL_S)


async def _wait_for_port(port: int, child: Child) -> None:
    while True:
        check_alive(child)
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            await asyncio.sleep(POLL_S)
        else:
            writer.close()
            await writer.wait_closed()
            return
