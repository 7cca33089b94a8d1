"""What is wrong with a topology file, in words: which place in it, and what to do."""

import difflib
import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from services.cluster.topology import END_OF_PORTS, EVERYWHERE, FIRST_PORT
from services.cluster.topology_parts import TABLES, FrontEnd, Host, Placed, Tls, Topology, control_address
from services.common.settings import STORE_FORMS, StoreUrl

HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def problems(topology: Topology) -> Iterator[str]:
    """What every key by itself does not show; the first one is told."""
    yield from _of_hosts(topology)
    yield from _of_services(topology)
    yield from _of_ports(topology)
    yield from _of_store(topology)
    if len(topology.hosts) > 1 and topology.secret_file is None:
        yield "`secret_file` is missing: several hosts need one secret; make it with: bazaar certs"


def _of_hosts(topology: Topology) -> Iterator[str]:
    if not topology.hosts:
        yield "[hosts] is empty: name at least one, such as [hosts.a] with its `address`"
    addresses: dict[str, str] = {}
    for name, host in topology.hosts.items():
        if HOST_NAME.fullmatch(name) is None:
            yield f"[hosts.{name}]: a host's name is 1 to 63 letters, digits and hyphens"
        if host.address in EVERYWHERE:
            yield f"[hosts.{name}] `address`: others cannot reach {host.address}; write it as `listen`"
        for address in (host.address, *host.names):
            other = addresses.setdefault(_normal(address), name)
            if other != name:
                yield f"[hosts.{name}]: {address} is that of [hosts.{other}] already; each host needs its own"
        try:
            control_address(host.control)
        except ValueError:
            yield f"[hosts.{name}] `control`: {host.control!r} is no address with a port, such as 127.0.0.1:8009"


def _of_services(topology: Topology) -> Iterator[str]:
    for table in TABLES:
        ids = [each.id for each in getattr(topology, table)]
        if sorted(ids) != list(range(1, len(ids) + 1)) or not ids:
            given = ", ".join(map(str, ids)) or "none"
            yield f"[[{table}]]: the `id`s must be 1, 2, 3, ... without gaps, at least one; here: {given}"
    for table, place, each in topology.placed():
        if each.host not in topology.hosts:
            known = ", ".join(topology.hosts)
            yield f"[[{table}]] number {place}, `host`: there is no [hosts.{each.host}]; there are: {known}"
    for name in topology.hosts.keys() - {each.host for _, _, each in topology.placed()}:
        yield f"[hosts.{name}] runs no service: give it one, or remove it"


def _of_ports(topology: Topology) -> Iterator[str]:
    taken: dict[tuple[str, int], str] = {
        (n, control_address(h.control)[1]): "control room" for n, h in topology.hosts.items()
    }
    for table, place, each in topology.placed():
        name = topology.name_of(table, each.id)
        for key in ("port", "internal_port"):
            port = getattr(each, key, None)
            if port is None:
                continue
            other = taken.get((each.host, port))
            if other is not None:
                yield f"[[{table}]] number {place}, `{key}`: {port} is taken on host {each.host} by its {other}"
            taken[each.host, port] = name


def _of_store(topology: Topology) -> Iterator[str]:
    try:
        TypeAdapter(StoreUrl).validate_python(topology.store or "sqlite:///x")
    except ValidationError:
        yield f"`store`: {topology.store!r} is none; write {STORE_FORMS}"
        return
    if (topology.store or "").startswith("etcds://") and topology.tls is None:
        yield "`store`: etcds:// needs the table [tls]; write it, or etcd:// for one that speaks plain HTTP"
    if len(topology.catalogs) > 1 and not (topology.store or "").startswith(("etcd://", "etcds://")):
        yield (
            f"`store`: {len(topology.catalogs)} catalogs need an etcd that they share: write "
            "etcd://host:port,host:port,host:port, or leave one catalog"
        )


def _normal(address: str) -> str:
    try:
        return str(ip_address(address))
    except ValueError:
        return address.lower()


def words(problem: Any) -> str:
    """A problem that pydantic found, where it is and what to do."""
    *where, key = problem["loc"]
    place = _place(where)
    match problem["type"]:
        case "missing":
            return f"{place}`{key}` is missing"
        case "extra_forbidden":
            close = difflib.get_close_matches(str(key), _keys(where), 1)
            hint = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(_keys(where))}"
            return f"{place}there is no key `{key}`; {hint}"
        case "string_pattern_mismatch":
            return f"{place}`{key}`: {problem['input']!r} is no address, such as 10.0.0.1 or bazaar-1.example"
    message = str(problem["msg"])
    if isinstance(key, int):
        return f"{place}{message[0].lower()}{message[1:]}"
    ports = f" (ports are {FIRST_PORT} to {END_OF_PORTS - 1})" if "port" in str(key) else ""
    return f"{place}`{key}`: {message[0].lower()}{message[1:]}{ports}"


def _place(where: Sequence[str | int]) -> str:
    """In front of a key: the table that it stands in."""
    match where:
        case []:
            return ""
        case [str(table), int(place), *_]:
            return f"[[{table}]] number {place + 1}, " if table in TABLES else f"[{table}] number {place + 1}, "
        case _:
            return f"[{'.'.join(map(str, where))}] "


def _keys(where: Sequence[str | int]) -> list[str]:
    """Those that are known in a table."""
    kinds: dict[str, type[BaseModel]] = {
        "hosts": Host,
        "tls": Tls,
        "catalogs": Placed,
        "replicas": Placed,
        "front_ends": FrontEnd,
    }
    return list((kinds[str(where[0])] if where else Topology).model_fields)
