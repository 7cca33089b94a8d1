"""Which host of a topology this machine is, and the bazaar as it is seen from there."""

import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from services.cluster.errors import CannotDo, UsageError
from services.cluster.topology import Cluster, Restart, lost_ids
from services.cluster.topology_file import plan_host, read_topology
from services.cluster.topology_parts import Host, Topology


def plan_this_host(path: Path, wanted: str | None, *, restart: Restart, lost: Sequence[str]) -> Cluster:
    """What the topology in a file means here. Raises UsageError and CannotDo."""
    topology = read_topology(path)
    host = this_host(topology, path, wanted)
    return plan_host(topology, path, host, restart=restart, lost=lost_ids(lost, len(topology.replicas)))


def this_host(topology: Topology, path: Path, wanted: str | None) -> str:
    """The host that was named, or the only one whose address is this machine's. Raises UsageError and CannotDo."""
    known = ", ".join(topology.hosts)
    if wanted is not None:
        if wanted not in topology.hosts:
            raise UsageError(f"--host {wanted}: there is no [hosts.{wanted}] in {path}; there are: {known}")
        complaint = _complaint(topology.hosts[wanted])
        if complaint is not None:
            raise CannotDo(f"host {wanted} of {path} is not this machine: {complaint}")
        return wanted
    here = [name for name, host in topology.hosts.items() if _complaint(host) is None]
    if len(here) == 1:
        return here[0]
    if here:
        raise UsageError(f"this machine has the addresses of several hosts of {path}: say which with --host {here[0]}")
    raise UsageError(
        f"this machine has the address of no host in {path} ({known}): is it the right file? Or use --host"
    )


def _complaint(host: Host) -> str | None:
    """Why one cannot listen there, None when one can. Asking the system is surer than comparing addresses."""
    address = host.listen or host.address
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as probe:
            probe.bind(where)
    except OSError as error:
        return f"{address}: {error.strerror}"
    return None
