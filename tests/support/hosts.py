"""A bazaar on two "hosts": two supervisors on 127.0.0.1 and 127.0.0.2, with a topology file, and TLS between all."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.cluster import ROOT, Cluster
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_ports
from tests.support.system_evidence import History, contradictions, initial_stocks, read_catalog, read_log
from tests.support.system_ledger import Ledger, Traders

TOPOLOGY = """
cache_size = 10
secret_file = "tls/secret"
{store}
{tls}
[hosts.a]
address = "127.0.0.1"
control = "127.0.0.1:{p9}"

[hosts.b]
address = "127.0.0.2"
control = "127.0.0.1:{p29}"

[[catalogs]]
id = 1
host = "a"
port = {p10}

[[replicas]]
id = 1
host = "a"
port = {p11}

[[replicas]]
id = 2
host = "a"
port = {p12}

[[replicas]]
id = 3
host = "b"
port = {p13}

[[front_ends]]
id = 1
host = "a"
port = {p0}
internal_port = {p21}

[[front_ends]]
id = 2
host = "b"
port = {p1}
internal_port = {p22}
"""
"""With one catalog, host b has nothing without which a trade is impossible."""

SECOND_CATALOG = """
[[catalogs]]
id = 2
host = "b"
port = {p14}
"""

TLS = """
[tls]
authority = "tls/authority.crt"
certificate = "tls/{host}.crt"
key = "tls/{host}.key"
"""


class Host(Cluster):
    """`bazaar up --topology FILE --host NAME`."""

    def __init__(self, folder: Path, topology: Path, name: str) -> None:
        super().__init__(folder / name)
        self.name = name
        self.flags = ["--topology", str(topology), "--host", name]


class Hosts:
    """Both hosts, and what customers were told through either. store: an etcd, which the catalogs of both share."""

    def __init__(self, folder: Path, store: str | None = None) -> None:
        self.store = store
        self.folder = folder
        self.topology = folder / "topology.toml"
        self.ledger = Ledger()
        first = free_ports()
        ports = {f"p{offset}": first + offset for offset in range(30)}
        text = TOPOLOGY.format(tls=TLS, store="" if store is None else f'store = "{store}"', **ports)
        self.topology.write_text(text + ("" if store is None else SECOND_CATALOG.format(**ports)))
        self.a = Host(folder, self.topology, "a")
        self.b = Host(folder, self.topology, "b")

    async def bazaar(self, *arguments: str) -> str:
        """What a command that needs no data folder prints; it must succeed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cluster", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        return output.decode()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Both hosts work during the body."""
        async with AsyncExitStack() as stack:
            for host in (self.a, self.b):
                stack.push_async_exit(host)
                await host.launch()  # neither is whole without the other
            for host in (self.a, self.b):
                await host.wait_ready()
            yield

    async def make_leader_of_b(self) -> None:
        """Have order-3 lead, whoever was level first; the choice stays until it fails."""
        for name in ("order-1", "order-2"):
            await self.a.kill(name)

        async def leads() -> bool:
            front_ends = [each for each in (await self.a.status()).services if each.role == "front-end"]
            return all(each.leader == 3 for each in front_ends)

        await self.a.wait_until(leads, "order-3 leads")
        for name in ("order-1", "order-2"):
            await self.a.start(name)
        await self.a.wait_ready()

    @asynccontextmanager
    async def trading(self, count: int = 3) -> AsyncIterator[Traders]:
        """So many customers, who know the front-ends of both hosts, trade during the body."""
        traders = Traders(self.ledger)
        async with traders.trading(self.a.urls, count):
            await traders.more(5)
            yield traders
            await traders.more(5)

    async def check(self) -> None:
        """Fail unless nothing acknowledged is lost, doubled or contradicted. Every service must be up."""
        await self.a.wait_level()
        homes = {"order-1": self.a, "order-2": self.a, "order-3": self.b}
        logs = [read_log(host.database(name)) for name, host in homes.items()]
        assert all(log == logs[0] for log in logs)
        history = History(initial_stocks(), logs[0])
        problems = history.problems + contradictions(history, self.ledger) + self.ledger.problems
        assert not problems, problems[:10]
        if self.store is None:
            assert read_catalog(self.a.database("catalog")).stocks == history.stocks
        for host in (self.a, self.b):
            verdict = await host.verify(PATIENCE_S)
            assert verdict.passed, verdict.problems
