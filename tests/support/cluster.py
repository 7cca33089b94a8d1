"""A whole bazaar of real processes for a test: started as a user would, broken from outside, and gone at the end."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from pydantic import BaseModel

from client import BazaarClient
from services.cluster.audit import verify_cluster
from services.cluster.control import ActionAnswer
from services.cluster.folder import find_cluster
from services.cluster.links import Nothing, internal_client
from services.cluster.service_log import tail
from services.cluster.status import ServiceView, Snapshot
from services.cluster.topology import Cluster as Topology
from services.cluster.verify import Verdict
from services.common.http import Peer, PeerError
from tests.support.entered import Entered
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
POLL_EVERY_S = 0.1  # every look at the status asks all services, and takes time from what is waited for
LAST_LINES = 25

T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=BaseModel)


class Gone(Exception):
    """The supervisor has ended; the message shows its output."""


class Cluster(Entered):
    """`bazaar up` with `flags`, on ports of its own, with its data in `data_dir`.

    Entered when every service is running and there is a leader. At the end the supervisor is told to stop, and no
    process may be left. When the body failed, the ends of all logs are printed.
    """

    def __init__(self, data_dir: Path, *flags: str, replicas: int = 3, front_ends: int = 1) -> None:
        super().__init__()
        self.data_dir = data_dir
        self.port = free_ports()
        self.flags = ["--port", str(self.port), "--replicas", str(replicas), "--front-ends", str(front_ends), *flags]
        self._supervisor: asyncio.subprocess.Process | None = None
        self._client: httpx.AsyncClient | None = None

    # The supervisor.

    async def launch(self) -> asyncio.subprocess.Process:
        """Start `bazaar up` with the `flags` of now and do not wait for anything."""
        assert self._supervisor is None, "the supervisor runs already"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self._supervisor = await asyncio.create_subprocess_exec(
                *self.command("up", *self.flags),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                process_group=0,
            )
        return self._supervisor

    async def start_up(self) -> None:
        """Start `bazaar up` and wait until everything is ready."""
        await self.launch()
        await self.wait_ready()

    async def wait_ready(self, without: Collection[str] = ()) -> Snapshot:
        """Wait until every service (but `without`) is running and every front-end has a leader."""

        async def ready() -> Snapshot | None:
            snapshot = await self.find_status()
            if snapshot is None or any(
                each.state != "running" for each in snapshot.services if each.name not in without
            ):
                return None
            has_leaders = all(each.leader for each in snapshot.services if each.role == "front-end")
            return snapshot if has_leaders else None

        return await self.wait_until(ready, "every service runs and there is a leader")

    async def shut_down(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """Tell the supervisor to stop; gives its exit status. Fails when it does not end or leaves a process behind."""
        status = None
        if self._supervisor is not None:
            if self._supervisor.returncode is None:
                self._supervisor.send_signal(number)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    status = await self._supervisor.wait()
            except TimeoutError:
                self._supervisor.kill()
                await self._supervisor.wait()
                raise AssertionError(f"the supervisor did not end:\n{self.logs()}") from None
            finally:
                self._supervisor = None
        await self.assert_nothing_left()
        return status

    async def kill_supervisor(self) -> None:
        """Kill the supervisor with SIGKILL, and wait until its services are gone as well."""
        assert self._supervisor is not None
        self._supervisor.kill()
        await self._supervisor.wait()
        self._supervisor = None
        await self.assert_nothing_left()

    async def assert_nothing_left(self) -> None:
        """Fail when a process of this bazaar is still there; what is left is killed."""
        deadline = time.monotonic() + 5.0
        while left := self._processes():
            if time.monotonic() > deadline:
                described = [f"{each.pid}: {' '.join(each.cmdline())}" for each in left]
                for each in left:
                    with suppress(psutil.Error):
                        each.kill()
                raise AssertionError("processes are left: " + "; ".join(described))
            await asyncio.sleep(POLL_EVERY_S)

    def _processes(self) -> list[psutil.Process]:
        """Every live process with our data folder in its command line."""
        mine = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.data_dir) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    mine.append(process)
        return mine

    # What a user does.

    def command(self, name: str, *arguments: str) -> list[str]:
        """The command line of `bazaar NAME` for this data folder."""
        return [sys.executable, "-m", "services.cluster", name, "--data-dir", str(self.data_dir), *arguments]

    async def run(self, name: str, *arguments: str) -> tuple[int, str, str]:
        """Run `bazaar NAME`; gives exit code, stdout, stderr."""
        process = await asyncio.create_subprocess_exec(
            *self.command(name, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()

    async def run_json(self, name: str, *arguments: str) -> Any:
        """What `bazaar NAME --json` prints; it must succeed and print nothing else."""
        code, output, errors = await self.run(name, *arguments, "--json")
        assert (code, errors) == (0, ""), f"bazaar {name}: {code}, {output}, {errors}"
        return json.loads(output)

    @property
    def urls(self) -> list[str]:
        """The public addresses of the front-ends."""
        return [service.url for service in self.topology.of("front-end")]

    @asynccontextmanager
    async def client(self, *, patience_s: float = PATIENCE_S) -> AsyncIterator[BazaarClient]:
        """A client that knows every front-end."""
        async with BazaarClient(*self.urls, patience_s=patience_s) as client:
            yield client

    async def verify(self, patience_s: float = 10.0) -> Verdict:
        """What `bazaar verify` says."""
        return await verify_cluster(self.topology, await self._internal(), patience_s)

    # What it is.

    @property
    def topology(self) -> Topology:
        """What cluster.json says."""
        topology = find_cluster(self.data_dir)
        assert topology is not None, "bazaar up has not written cluster.json yet"
        return topology

    async def status(self) -> Snapshot:
        """The supervisor's snapshot, as soon as it answers."""
        return await self.wait_until(self.find_status, "the supervisor answers")

    async def find_status(self) -> Snapshot | None:
        """The supervisor's snapshot, None while it does not answer. Raises Gone when it has ended."""
        if self._supervisor is not None and self._supervisor.returncode is not None:
            raise Gone(f"bazaar up ended with status {self._supervisor.returncode}:\n{self.logs()}")
        topology = find_cluster(self.data_dir)
        if topology is None:
            return None
        try:
            return await Peer(await self._internal(), topology.control).call("/status", Snapshot, timeout_s=5.0)
        except PeerError:
            return None

    async def service(self, name: str) -> ServiceView:
        """How one service is."""
        return next(each for each in (await self.status()).services if each.name == name)

    async def pid(self, name: str) -> int:
        """The process id of a service that has a process."""
        pid = (await self.service(name)).pid
        assert pid is not None, f"{name} has no process"
        return pid

    async def leader(self) -> str:
        """The replica that front-end-1 has selected, once it has one."""

        async def selected() -> str | None:
            leader = (await self.status()).leader
            return None if leader is None else f"order-{leader}"

        return await self.wait_until(selected, "there is a leader")

    async def ask(self, name: str, path: str, answer: type[AnswerT]) -> AnswerT:
        """GET from a service's internal listener, with the secret."""
        url = next(each.internal_url for each in self.topology.services if each.name == name)
        return await Peer(await self._internal(), url).call(path, answer, timeout_s=PATIENCE_S)

    def database(self, name: str) -> Path:
        """The database file of the catalog or of a replica."""
        return self.data_dir / f"{name}.db"

    def delete_database(self, name: str) -> None:
        """Lose a service's disk; its process must be down."""
        for path in self.data_dir.glob(f"{name}.db*"):
            path.unlink()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Every structured line in a service's log, over all its lives."""
        lines = (self.data_dir / "logs" / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logs(self) -> str:
        """The ends of all logs, the supervisor's output first."""
        files = [self.output, *sorted((self.data_dir / "logs").glob("*.log"))]
        return "".join(f"--- {file}\n" + "\n".join(tail(file)[-LAST_LINES:]) + "\n" for file in files)

    # What breaks it.

    async def kill(self, name: str) -> ActionAnswer:
        """`bazaar kill`: kept down."""
        return await self._act(name, "kill")

    async def pause(self, name: str) -> ActionAnswer:
        """`bazaar pause`."""
        return await self._act(name, "pause")

    async def resume(self, name: str) -> ActionAnswer:
        """`bazaar resume`."""
        return await self._act(name, "resume")

    async def start(self, name: str) -> ActionAnswer:
        """`bazaar start`."""
        return await self._act(name, "start")

    async def kill_pid(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """SIGKILL, or another signal, for a service's process, behind the supervisor's back; gives its id."""
        pid = await self.pid(name)
        os.kill(pid, number)
        return pid

    # Waiting.

    async def wait_until(self, ask: Callable[[], Awaitable[T | None]], what: str, patience_s: float = PATIENCE_S) -> T:
        """Ask again and again until the answer is neither None nor False."""
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    answer = await ask()
                    if answer is not None and answer is not False:
                        return answer
                    await asyncio.sleep(POLL_EVERY_S)
        except TimeoutError:
            raise AssertionError(f"not within {patience_s} s: {what}\n{self.logs()}") from None

    async def wait_for_other_leader(self, old: str) -> None:
        """Wait until every front-end has selected another replica than `old`."""

        async def selected() -> bool:
            services = (await self.status()).services
            leaders = [each.leader for each in services if each.role == "front-end"]
            return all(leader is not None and f"order-{leader}" != old for leader in leaders)

        await self.wait_until(selected, f"every front-end selects another leader than {old}")

    async def wait_for_state(self, name: str, state: str) -> ServiceView:
        """Wait until a service is in this state."""

        async def reached() -> ServiceView | None:
            service = await self.service(name)
            return service if service.state == state else None

        return await self.wait_until(reached, f"{name} is {state}")

    async def wait_for_new_pid(self, name: str, old: int) -> int:
        """Wait until a service runs again in another process than `old`; gives its id."""

        async def reborn() -> int | None:
            service = await self.service(name)
            return service.pid if service.state == "running" and service.pid != old else None

        return await self.wait_until(reborn, f"{name} runs again with another process id than {old}")

    async def wait_level(self) -> Snapshot:
        """Wait until the heads of the catalog and of every replica are equal."""

        async def level() -> Snapshot | None:
            snapshot = await self.status()
            heads = [each.head for each in snapshot.services if not each.name.startswith("front-end")]
            return snapshot if None not in heads and len(set(map(repr, heads))) == 1 else None

        return await self.wait_until(level, "all heads are equal")

    async def _act(self, name: str, action: str) -> ActionAnswer:
        control = Peer(await self._internal(), self.topology.control)
        return await control.call(f"/services/{name}/{action}", ActionAnswer, Nothing(), timeout_s=PATIENCE_S)

    async def _internal(self) -> httpx.AsyncClient:
        if self._client is None:
            self._stack.callback(setattr, self, "_client", None)  # closed clients are of no use
            self._client = await self._stack.enter_async_context(internal_client(self.data_dir))
        return self._client

    @property
    def output(self) -> Path:
        """What the supervisor printed."""
        return self.data_dir.with_name(self.data_dir.name + ".up.log")
