"""Whether ports are free, and who has them when they are not."""

import errno
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from services.cluster.topology import HOST


@dataclass(frozen=True)
class BusyPort:
    """A port that somebody else listens on; `pid` is None when the system does not tell."""

    port: int
    wanted_by: str
    pid: int | None
    command: str


def is_free(port: int) -> bool:
    """Whether one can listen on this port of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
        return True


def busy_ports(ports: Iterable[tuple[int, str]]) -> list[BusyPort]:
    """Those of `ports` (port, who wants it) that are taken, with their owners."""
    taken = [(port, wanted_by) for port, wanted_by in ports if not is_free(port)]
    if not taken:
        return []
    owners = listeners()
    return [BusyPort(port, wanted_by, *_describe(owners.get(port))) for port, wanted_by in taken]


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
