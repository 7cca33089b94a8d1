"""Whether ports are free, and who has them when they are not."""

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from services.cluster.topology import HOST, Listen


@dataclass(frozen=True)
class BusyPort:
    """A port that somebody else listens on; `pid` is None when the system does not tell."""

    port: int
    wanted_by: str
    pid: int | None
    command: str


def is_free(port: int, address: str = HOST) -> bool:
    """Whether one can listen on this port now. An address that is none of this machine's is free: nobody is there."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        return True
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
            probe.listen(1)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            if error.errno != errno.EADDRNOTAVAIL:
                raise
        return True


def busy_ports(listens: Iterable[Listen]) -> list[BusyPort]:
    """Those of `listens` that are taken, with their owners."""
    taken = [each for each in listens if not is_free(each.port, each.address)]
    if not taken:
        return []
    owners = listeners()
    return [BusyPort(each.port, each.name, *_describe(owners.get(each.port))) for each in taken]


def listeners() -> dict[int, int]:
    """Which process (id) listens on which TCP port, as far as this user may know."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return {}
    return {
        each.laddr.port: each.pid
        for each in connections
        if each.status == psutil.CONN_LISTEN and each.pid is not None and each.laddr
    }


def _describe(pid: int | None) -> tuple[int | None, str]:
    if pid is None:
        return None, "a process of another user"
    try:
        return pid, " ".join(psutil.Process(pid).cmdline()) or "no command line"
    except psutil.Error:
        return pid, "unknown command"
