"""What `bazaar up` looks at before it starts anything, so that what cannot work is refused in one clear line."""

import time
from collections.abc import Sequence
from pathlib import Path

from services.catalog.stocks_file import read_stocks
from services.cluster.errors import CannotDo
from services.cluster.ports import BusyPort, busy_ports
from services.cluster.topology import BLOCK, END_OF_PORTS, Cluster, Settings

PORT_PATIENCE_S = 1.0  # the processes of a supervisor that was just killed may need a moment to let go


def check(data_dir: Path, wanted: Cluster, known: Cluster | None) -> None:
    """Raise CannotDo when `wanted` cannot be started; `known` is what the data folder holds already."""
    _check_replicas(data_dir, wanted.settings, known)
    _check_stocks(wanted.settings)
    _check_ports(wanted)


def _check_replicas(data_dir: Path, settings: Settings, known: Cluster | None) -> None:
    if known is not None and known.settings.replicas != settings.replicas:
        raise CannotDo(
            f"the bazaar in {data_dir}/ has {known.settings.replicas} replicas, and that cannot be changed: "
            f"start it with --replicas {known.settings.replicas}, or choose another --data-dir"
        )


def _check_stocks(settings: Settings) -> None:
    if settings.catalog is not None:
        try:
            read_stocks(settings.catalog)
        except ValueError as error:
            raise CannotDo(f"--catalog: {error}") from error


def _check_ports(cluster: Cluster) -> None:
    deadline = time.monotonic() + PORT_PATIENCE_S
    while busy := busy_ports(cluster.ports):
        if time.monotonic() >= deadline:
            raise CannotDo(describe_busy(busy, cluster.settings.port))
        time.sleep(0.05)


def describe_busy(busy: Sequence[BusyPort], port: int) -> str:
    """Who has the ports, and what to do about it."""
    lines = []
    for each in busy:
        owner = f"process {each.pid}: {each.command}" if each.pid is not None else each.command
        lines.append(f"port {each.port}, which {each.wanted_by} needs, is taken by {owner}")
    pids = sorted({each.pid for each in busy if each.pid is not None})
    stop = f"stop it (kill {' '.join(map(str, pids))}) or " if pids else ""
    other = port + 100 if port + 100 <= END_OF_PORTS - BLOCK else 8000
    lines.append(f"{stop}choose other ports, for instance: bazaar up --port {other}")
    return "\n".join(lines)
