"""How a node of a real etcd is started: its command line, its environment, and its end with whoever started it."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.cluster.errors import CannotDo
from services.cluster.up import environment

INSTALL = "on Debian: apt-get install --no-install-recommends etcd-server"

# Becomes the program that its arguments name, and is killed with the process that started it.
_BECOME = (
    "import os, sys; from services.common.lifeline import die_with_parent; die_with_parent();"
    " os.execvp(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class EtcdNode:
    """One node: where clients and where the other nodes find it, and where its data is."""

    name: str
    url: str
    peer_url: str
    data_dir: Path


def require_etcd() -> None:
    """Raise CannotDo where etcd is not installed."""
    if shutil.which("etcd") is None:
        raise CannotDo(f"etcd is not installed; {INSTALL}")


def etcd_command(
    node: EtcdNode, nodes: Sequence[EtcdNode], *flags: str, heartbeat_ms: int = 100, election_ms: int = 1_000
) -> list[str]:
    """Starts `node` of a cluster of these `nodes`. The defaults for heartbeat and election are etcd's own."""
    return [
        "etcd",
        f"--name={node.name}",
        f"--data-dir={node.data_dir}",
        f"--listen-client-urls={node.url}",
        f"--advertise-client-urls={node.url}",
        f"--listen-peer-urls={node.peer_url}",
        f"--initial-advertise-peer-urls={node.peer_url}",
        f"--initial-cluster={','.join(f'{each.name}={each.peer_url}' for each in nodes)}",
        "--initial-cluster-state=new",
        "--logger=zap",
        "--pre-vote",  # a node that comes back does not unseat the leader
        f"--heartbeat-interval={heartbeat_ms}",
        f"--election-timeout={election_ms}",
        *flags,
    ]


def dying_with_us(command: Sequence[str]) -> list[str]:
    """The same command, in a process that Linux ends with this one. It must not fork."""
    return [sys.executable, "-c", _BECOME, *command]


def etcd_environment() -> Mapping[str, str]:
    """What such a process is given: no settings of an etcd of somebody else's."""
    return {name: value for name, value in environment().items() if not name.startswith("ETCD_")}
