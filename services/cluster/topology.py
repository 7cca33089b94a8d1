"""Which processes a bazaar consists of: names, ports and command lines. Nothing here touches the world.

A bazaar on one machine is planned here from its flags (`plan`), one on several from a file (topology_file.py); both
are a `Cluster`, and nothing else tells them apart.

With `--port P`: front-end-k is public on P+k-1 and internal on P+20+k, the control room on P+9, the catalog on P+10,
order-i on P+10+i. All ports stay below 32768, where Linux begins to hand out ports to outgoing connections.
"""

import re
import sys
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from services.cluster.errors import UsageError
from services.common.durability import Durability
from services.common.tls import TlsFiles

HOST = "127.0.0.1"
EVERYWHERE = {"0.0.0.0": HOST, "::": "::1"}  # noqa: S104 - what an operator may ask for, and how it is reached here
MAX_SERVICES = 9  # of a kind
FIRST_PORT = 1024
END_OF_PORTS = 32_768
BLOCK = 30  # ports from P to P+29

CONTROL_OFFSET = 9
CATALOG_OFFSET = 10
INTERNAL_OFFSET = 20

Kind = Literal["catalog", "order", "front-end"]
KINDS: tuple[Kind, ...] = ("catalog", "order", "front-end")
"""In the order in which they are started; they are stopped in the opposite one."""

Restart = Literal["always", "never"]

Routes = dict[str, dict[str, str]]
"""Caller to target to the address at which this caller reaches that target; what is not there is reached directly."""


class Record(BaseModel):
    """A part of cluster.json. Unknown members are ignored: a newer version may have written them."""

    model_config = ConfigDict(frozen=True)


def _is_none(value: object) -> bool:
    """What only a bazaar on several hosts has is not in the cluster.json of others."""
    return value is None


class Settings(Record):
    """What `bazaar up` was asked for. `tls` are the files of this host."""

    port: int = 8000
    replicas: int = 3
    front_ends: int = 1
    cache_size: int = 10
    durability: Durability = "disk"
    catalog: Path | None = None
    restart: Restart = "always"
    lost: list[int] = []
    control_host: str = HOST
    routes: Routes = {}
    store: str | None = Field(None, exclude_if=_is_none)
    secret_file: Path | None = Field(None, exclude_if=_is_none)
    tls: TlsFiles | None = Field(None, exclude_if=_is_none)


class Service(Record):
    """One process. `url` is where its callers reach it; `internal_url` answers status and readiness.

    host: the name of the machine that runs it, when there are several. listen: the address it listens on, when that is
    not that of its urls.
    """

    name: str
    kind: Kind
    id: int
    url: str
    internal_url: str
    host: str | None = Field(None, exclude_if=_is_none)
    listen: str | None = Field(None, exclude_if=_is_none)


class Listen(NamedTuple):
    """An address and a port of this machine, and who listens there."""

    address: str
    port: int
    name: str


class Cluster(Record):
    """A whole bazaar, as in cluster.json. `supervisor` is the process id of the last `bazaar up`.

    host: which of several hosts this machine is; `control` and `supervisor` are its own. topology: the file that says.
    """

    settings: Settings
    services: list[Service]
    control: str
    supervisor: int | None = None
    host: str | None = Field(None, exclude_if=_is_none)
    topology: Path | None = Field(None, exclude_if=_is_none)

    def of(self, kind: Kind) -> list[Service]:
        """The services of one kind, by id."""
        return [service for service in self.services if service.kind == kind]

    @property
    def own(self) -> list[Service]:
        """The services of this machine: all, when there is only one."""
        return [service for service in self.services if service.host == self.host]

    @property
    def elsewhere(self) -> dict[str, str]:
        """The services of other hosts, by name, and which."""
        return {each.name: each.host for each in self.services if each.host is not None and each.host != self.host}

    @property
    def catalog(self) -> Service:
        """The catalog; of several, the one that everybody prefers."""
        return self.of("catalog")[0]

    def route(self, caller: Service, target: Service) -> str:
        """Where `caller` reaches `target`: its internal listener, or the way around that the settings name."""
        return self.settings.routes.get(caller.name, {}).get(target.name, target.internal_url)

    @property
    def listens(self) -> list[Listen]:
        """Everything that is listened on here, by port."""
        urls = {(each, url) for each in self.own for url in (each.url, each.internal_url)}
        listens = [Listen(each.listen or address_of(url), port_of(url), each.name) for each, url in urls]
        control = Listen(self.settings.control_host, port_of(self.control), "control room")
        return sorted([*listens, control], key=lambda each: each.port)


def port_of(url: str) -> int:
    """The port in an address of ours."""
    return int(url.rpartition(":")[2])


def address_of(url: str) -> str:
    """The address in an address with scheme and port."""
    return urlsplit(url).hostname or ""


def url_at(address: str, port: int, scheme: str = "http") -> str:
    """The other way round."""
    return f"{scheme}://{f'[{address}]' if _is_ipv6(address) else address}:{port}"


def plan(settings: Settings) -> Cluster:
    """The services that these settings mean. Raises UsageError."""
    _check(settings)
    services = [_service("catalog", 1, "catalog", settings.port + CATALOG_OFFSET)]
    services += [
        _service("order", i, f"order-{i}", settings.port + CATALOG_OFFSET + i) for i in _ids(settings.replicas)
    ]
    services += [
        Service(
            name=f"front-end-{k}",
            kind="front-end",
            id=k,
            url=_url(settings.port + k - 1),
            internal_url=_url(settings.port + INTERNAL_OFFSET + k),
        )
        for k in _ids(settings.front_ends)
    ]
    if re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", settings.control_host) is None:
        raise UsageError(f"--control-host {settings.control_host}: must be an address or a name of this machine")
    _check_routes(settings.routes, {service.name for service in services})
    return Cluster(settings=settings, services=services, control=_control_url(settings))


def lost_ids(names: Sequence[str], replicas: int) -> list[int]:
    """The ids behind `--lost order-2 --lost order-3`. Raises UsageError."""
    ids = []
    for name in names:
        match = re.fullmatch(r"order-([1-9])", name)
        if match is None or int(match[1]) > replicas:
            raise UsageError(f"--lost {name}: there is no such replica; they are order-1 to order-{replicas}")
        ids.append(int(match[1]))
    if len(set(ids)) == replicas:
        raise UsageError("--lost: at least one replica must be left; without any log there is nothing to rebuild from")
    return sorted(set(ids))


def command(cluster: Cluster, service: Service, data_dir: Path) -> list[str]:
    """The command line that starts `service`."""
    settings = cluster.settings
    module = {"catalog": "services.catalog", "order": "services.order", "front-end": "services.front_end"}[service.kind]
    parts = [sys.executable, "-m", module, "--port", str(port_of(service.url)), "--data-dir", str(data_dir)]
    parts += _of_host(settings, service)
    parts += ["--replicas", ",".join(f"{each.id}={cluster.route(service, each)}" for each in cluster.of("order"))]
    if service.kind == "catalog":
        if settings.catalog is not None:
            parts += ["--stocks", str(settings.catalog)]
        if settings.lost:
            parts += ["--lost", ",".join(str(replica_id) for replica_id in settings.lost)]
        if settings.store is not None:
            parts += ["--store", settings.store]
        return [*parts, "--durability", settings.durability]
    parts += ["--catalog", ",".join(cluster.route(service, each) for each in cluster.of("catalog"))]
    if service.kind == "order":
        return [*parts, "--replica-id", str(service.id), "--durability", settings.durability]
    internal = service.listen or address_of(service.internal_url)
    if internal != HOST:
        parts += ["--internal-host", internal]
    parts += ["--name", service.name, "--internal-port", str(port_of(service.internal_url))]
    advertised = cluster.route(cluster.catalog, service)
    scheme = "http" if settings.tls is None else "https"
    if advertised != f"{scheme}://{internal}:{port_of(service.internal_url)}":  # what it would say by itself
        parts += ["--advertised-url", advertised]
    return [*parts, "--cache-size", str(settings.cache_size)]


def _of_host(settings: Settings, service: Service) -> list[str]:
    """What a service of one machine alone needs not be told."""
    parts = []
    listen = service.listen or address_of(service.url)
    if listen != HOST:
        parts += ["--host", listen]
    if settings.secret_file is not None:
        parts += ["--secret-file", str(settings.secret_file)]
    if settings.tls is not None:
        parts += ["--tls-certificate", str(settings.tls.certificate), "--tls-key", str(settings.tls.key)]
        parts += ["--tls-authority", str(settings.tls.authority)]
    return parts


def _check(settings: Settings) -> None:
    if not FIRST_PORT <= settings.port <= END_OF_PORTS - BLOCK:
        last = END_OF_PORTS - BLOCK
        raise UsageError(
            f"--port {settings.port}: must be {FIRST_PORT} to {last}, because {BLOCK} ports from there are used"
        )
    for flag, number in (("--replicas", settings.replicas), ("--front-ends", settings.front_ends)):
        if not 1 <= number <= MAX_SERVICES:
            raise UsageError(f"{flag} {number}: must be 1 to {MAX_SERVICES}")
    if not 0 <= settings.cache_size <= 1_000_000:
        raise UsageError(f"--cache-size {settings.cache_size}: must be 0 (no cache) to 1,000,000")


def _check_routes(routes: Routes, names: set[str]) -> None:
    for caller, targets in routes.items():
        for target, url in targets.items():
            if caller not in names or target not in names:
                raise UsageError(f"--routes: there is no {target if caller in names else caller}")
            if re.fullmatch(r"http://[^\s/,=]+", url) is None:
                raise UsageError(f"--routes: {url!r} is no address such as http://{HOST}:9000")


def _ids(count: int) -> range:
    return range(1, count + 1)


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _control_url(settings: Settings) -> str:
    """Where the commands reach the control room: not an address that means all of this machine's."""
    return control_url(settings.control_host, settings.port + CONTROL_OFFSET)


def control_url(address: str, port: int) -> str:
    """Where a control room that listens on this address is reached."""
    return url_at(EVERYWHERE.get(address, address), port)


def _is_ipv6(address: str) -> bool:
    try:
        return isinstance(ip_address(address), IPv6Address)
    except ValueError:
        return False


def _service(kind: Kind, number: int, name: str, port: int) -> Service:
    return Service(name=name, kind=kind, id=number, url=_url(port), internal_url=_url(port))
