"""A real etcd for a test: so many nodes as real processes, broken one at a time from outside, and gone at the end."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from eval import etcd_node
from eval.etcd_node import EtcdNode, dying_with_us, etcd_command, etcd_environment
from eval.hosts.process import HostProcess
from services.cluster.errors import CannotDo
from services.cluster.service_log import tail
from services.common.tls import TlsFiles, client_context
from tests.support.entered import Entered
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
POLL_EVERY_S = 0.02
ASK_S = 2.0  # a node that is paused answers nothing
LAST_LINES = 25


def require_etcd() -> None:
    """Skip the test where etcd is not installed."""
    try:
        etcd_node.require_etcd()
    except CannotDo as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Host:
    """Where a node runs. prefix: what its command is put behind, such as `ip netns exec NAME`, which must exec it."""

    address: str = "127.0.0.1"
    prefix: Sequence[str] = ()


@dataclass(frozen=True)
class Node:
    """One node: its name, addresses and data."""

    name: str
    host: Host
    data_dir: Path
    scheme: str = "http"
    client_port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"{self.scheme}://{self.host.address}:{self.client_port}"

    @property
    def peer_url(self) -> str:
        """Where the other nodes find it."""
        return f"http://{self.host.address}:{self.peer_port}"

    @property
    def description(self) -> EtcdNode:
        """What its command line is made from."""
        return EtcdNode(self.name, self.url, self.peer_url, self.data_dir)

    @property
    def log(self) -> Path:
        """What it printed, over all its lives."""
        return self.data_dir.with_suffix(".log")


def _tls_flags(tls: TlsFiles | None) -> list[str]:
    if tls is None:
        return []
    files = [f"--cert-file={tls.certificate}", f"--key-file={tls.key}", f"--trusted-ca-file={tls.authority}"]
    return [*files, "--client-cert-auth"]


class EtcdCluster(Entered):
    """An etcd of `size` nodes, or one on each of `hosts`, named etcd-1, etcd-2, ..., with its data in `folder`.

    Entered when every node is healthy. At the end every process is killed; when the body failed, the ends of their logs
    are printed. The defaults for heartbeat and election are small, so that an election takes a second at most: etcd's
    own are 100 and 1000. A machine that is very busy elects more often than it should then, and nothing is lost by it.
    tls: what clients are spoken to with, and must show; without it, plain HTTP.
    """

    def __init__(
        self,
        folder: Path,
        *flags: str,
        size: int = 3,
        hosts: Sequence[Host] = (),
        heartbeat_ms: int = 50,
        election_ms: int = 500,
        tls: TlsFiles | None = None,
    ) -> None:
        super().__init__()
        self.folder = folder
        self._tls = tls
        scheme = "http" if tls is None else "https"
        self.nodes = {
            f"etcd-{number}": Node(f"etcd-{number}", host, folder / f"etcd-{number}", scheme)
            for number, host in enumerate(hosts or [Host()] * size, start=1)
        }
        everyone = [each.description for each in self.nodes.values()]
        self._processes = {}
        for name, node in self.nodes.items():
            command = etcd_command(
                node.description, everyone, *flags, *_tls_flags(tls), heartbeat_ms=heartbeat_ms, election_ms=election_ms
            )
            self._processes[name] = HostProcess(
                name, dying_with_us([*node.host.prefix, *command]), etcd_environment(), node.log
            )
        self._client: httpx.AsyncClient | None = None

    async def start_up(self) -> None:
        """Start every node, and wait until each is healthy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        verify = True if self._tls is None else client_context(self._tls)
        client = httpx.AsyncClient(timeout=ASK_S, trust_env=False, verify=verify)
        self._client = await self._stack.enter_async_context(client)
        for name in self.nodes:
            await self.start(name)
        await self.wait_healthy()

    async def shut_down(self) -> None:
        """Kill every node."""
        for name in self.nodes:
            await self.kill(name)

    # What it is.

    @property
    def urls(self) -> list[str]:
        """Where clients find its nodes."""
        return [each.url for each in self.nodes.values()]

    @property
    def pids(self) -> list[int | None]:
        """The ids of its processes; None for one that is down."""
        return [each.pid for each in self._processes.values()]

    async def call(self, name: str, path: str, body: Any, timeout_s: float = PATIENCE_S) -> httpx.Response:
        """POST to the JSON gateway of one node."""
        assert self._client is not None, "the cluster is not entered"
        return await self._client.post(self.nodes[name].url + path, content=json.dumps(body), timeout=timeout_s)

    async def leader(self) -> str:
        """The node that leads, once one that answers says of itself that it does."""

        async def leads(name: str) -> bool:
            status = await self._find_status(name)
            return status is not None and status.get("leader") == status["header"]["member_id"]

        async with self._patience("a node leads"):
            while True:
                for name in self._running():
                    if await leads(name):
                        return name
                await asyncio.sleep(POLL_EVERY_S)

    async def wait_healthy(self, *names: str) -> None:
        """Wait until these nodes, or all that run, have written through a majority."""
        for name in names or self._running():
            async with self._patience(f"{name} is healthy"):
                while not await self._is_healthy(name):
                    self._processes[name].check()
                    await asyncio.sleep(POLL_EVERY_S)

    def logs(self) -> str:
        """The ends of all logs."""
        files = [each.log for each in self.nodes.values() if each.log.exists()]
        return "".join(f"--- {file}\n" + "\n".join(tail(file)[-LAST_LINES:]) + "\n" for file in files)

    # What breaks it.

    async def start(self, name: str) -> None:
        """Start a node that is down, with the data it has, and do not wait for anything."""
        await self._processes[name].start()

    async def kill(self, name: str) -> None:
        """SIGKILL, and wait for the end; nothing when it is down."""
        await self._processes[name].kill()

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self._processes[name].pause()

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._processes[name].resume()

    async def restart(self, name: str) -> None:
        """Kill a node and start it again with the data it has."""
        await self.kill(name)
        await self.start(name)

    # How it is done.

    def _running(self) -> list[str]:
        return [each.name for each in self._processes.values() if each.pid is not None and not each.is_paused]

    async def _is_healthy(self, name: str) -> bool:
        assert self._client is not None
        try:
            answer = await self._client.get(self.nodes[name].url + "/health")
            return bool(answer.json() == {"health": "true"})
        except (httpx.HTTPError, ValueError):
            return False

    async def _find_status(self, name: str) -> Any:
        try:
            answer = await self.call(name, "/v3/maintenance/status", {}, timeout_s=ASK_S)
        except httpx.HTTPError:
            return None
        return answer.json() if answer.status_code == 200 else None

    @asynccontextmanager
    async def _patience(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield
        except TimeoutError:
            raise AssertionError(f"not within {PATIENCE_S} s: {what}\n{self.logs()}") from None
