"""Which processes a bazaar of three hosts consists of, where each is, and its command line. Plain values only.

host-1: etcd-1, catalog-1, order-1, front-end-1
host-2: etcd-2, catalog-2, order-2, front-end-2
host-3: etcd-3,            order-3
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.etcd_node import EtcdNode, dying_with_us, etcd_command
from services.cluster.topology import Cluster, Service, Settings

HOSTS = (1, 2, 3)
SECRET = "secret"  # noqa: S105 - the name of the file that all hosts share

PartKind = Literal["etcd", "catalog", "order", "front-end"]
OFFSETS: dict[PartKind, int] = {"front-end": 0, "catalog": 2, "order": 3, "etcd": 4}
"""Of the ports of a host: a front-end's and etcd's internal ones are the next."""
PORTS_A_HOST = 10


@dataclass(frozen=True)
class Part:
    """One process. url: where clients reach it; internal_url: where the other processes do."""

    name: str
    kind: PartKind
    host: int
    url: str
    internal_url: str


class Layout:
    """All of it. addresses: of the hosts, in their order. first_port: of host-1; host-2's begin ten later."""

    def __init__(self, folder: Path, addresses: Sequence[str], first_port: int) -> None:
        self.folder = folder
        self.addresses = dict(zip(HOSTS, addresses, strict=True))
        self._first_port = first_port
        etcd = [self._part("etcd", host) for host in HOSTS]
        catalogs = [self._part("catalog", host) for host in (1, 2)]
        replicas = [self._part("order", host) for host in HOSTS]
        front_ends = [self._part("front-end", host) for host in (1, 2)]
        self.parts = {each.name: each for each in (*etcd, *catalogs, *replicas, *front_ends)}
        """In the order in which they are started."""

    def _part(self, kind: PartKind, host: int) -> Part:
        port = self._first_port + PORTS_A_HOST * (host - 1) + OFFSETS[kind]
        url = f"http://{self.addresses[host]}:"
        inside = port + 1 if kind in {"front-end", "etcd"} else port
        return Part(f"{kind}-{host}", kind, host, f"{url}{port}", f"{url}{inside}")

    def of(self, kind: PartKind) -> list[Part]:
        """The processes of one kind, by host."""
        return [each for each in self.parts.values() if each.kind == kind]

    def on(self, *hosts: int) -> list[str]:
        """The names of all processes of these hosts."""
        return [each.name for each in self.parts.values() if each.host in hosts]

    def data_dir(self, host: int) -> Path:
        """The disk of a host."""
        return self.folder / f"host-{host}"

    def log(self, name: str) -> Path:
        """What a process prints, over all its lives."""
        return self.data_dir(self.parts[name].host) / f"{name}.log"

    def seen_from(self, catalog: Part) -> Cluster:
        """What `bazaar verify` reads, with this catalog as the catalog."""
        parts = [catalog, *self.of("order")]
        services = [
            Service(
                name=each.name,
                kind="catalog" if each is catalog else "order",
                id=each.host,
                url=each.url,
                internal_url=each.internal_url,
            )
            for each in parts
        ]
        return Cluster(settings=Settings(), services=services, control="")

    def command(self, name: str) -> list[str]:
        """The command line that starts a process, without what puts it on its host. It does not fork."""
        part = self.parts[name]
        if part.kind == "etcd":
            nodes = {each.name: self._node(each) for each in self.of("etcd")}
            return etcd_command(nodes[name], list(nodes.values()))
        modules = {"catalog": "services.catalog", "order": "services.order", "front-end": "services.front_end"}
        address, port = part.url.removeprefix("http://").split(":")
        flags = ["--host", address, "--port", port, "--data-dir", str(self.data_dir(part.host))]
        flags += ["--secret-file", str(self.folder / SECRET)]
        flags += ["--replicas", ",".join(f"{each.host}={each.internal_url}" for each in self.of("order"))]
        return [sys.executable, "-m", modules[part.kind], *flags, *self._own_flags(part)]

    def _own_flags(self, part: Part) -> list[str]:
        if part.kind == "catalog":
            # The node of the own host first.
            nodes = sorted(self.of("etcd"), key=lambda each: (each.host != part.host, each.host))
            return ["--store", "etcd://" + ",".join(each.url.removeprefix("http://") for each in nodes)]
        # Everybody prefers the same catalog.
        catalogs = ["--catalog", ",".join(each.internal_url for each in self.of("catalog"))]
        if part.kind == "order":
            return [*catalogs, "--replica-id", str(part.host)]
        address, port = part.internal_url.removeprefix("http://").split(":")
        return [*catalogs, "--name", part.name, "--internal-host", address, "--internal-port", port]

    def _node(self, part: Part) -> EtcdNode:
        return EtcdNode(part.name, part.url, part.internal_url, self.data_dir(part.host) / part.name)


def on_host(layout: Layout, name: str, prefix: Sequence[str]) -> list[str]:
    """The command line with the prefix of its host. What is not ours is made to end with us by a step before."""
    command = [*prefix, *layout.command(name)]
    return dying_with_us(command) if layout.parts[name].kind == "etcd" else command
