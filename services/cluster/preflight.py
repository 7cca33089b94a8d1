"""What `bazaar up` looks at before it starts anything, so that what cannot work is refused in one clear line."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from services.catalog.stocks_file import read_stocks
from services.cluster.errors import CannotDo
from services.cluster.ports import BusyPort, busy_ports
from services.cluster.topology import BLOCK, END_OF_PORTS, Cluster
from services.common.secret import BadSecret, load_secret
from services.common.tls import BadTls, expiry, server_context

PORT_PATIENCE_S = 1.0  # the processes of a supervisor that was just killed may need a moment to let go


def check(data_dir: Path, wanted: Cluster, known: Cluster | None) -> None:
    """Raise CannotDo when `wanted` cannot be started; `known` is what the data folder holds already."""
    _check_replicas(data_dir, wanted, known)
    _check_stocks(wanted)
    _check_files(data_dir, wanted)
    _check_ports(wanted)


def _check_replicas(data_dir: Path, wanted: Cluster, known: Cluster | None) -> None:
    if known is not None and known.settings.replicas != wanted.settings.replicas:
        count = known.settings.replicas
        way = f"start it with --replicas {count}" if wanted.topology is None else f"name {count} in {wanted.topology}"
        raise CannotDo(
            f"the bazaar in {data_dir}/ has {count} replicas, and that cannot be changed: "
            f"{way}, or choose another --data-dir"
        )


def _check_stocks(wanted: Cluster) -> None:
    if wanted.settings.catalog is not None:
        try:
            read_stocks(wanted.settings.catalog)
        except ValueError as error:
            where = "--catalog" if wanted.topology is None else f"{wanted.topology}: `stocks`"
            raise CannotDo(f"{where}: {error}") from error


def _check_files(data_dir: Path, wanted: Cluster) -> None:
    """The secret and the certificates: better told here than in the log of every service."""
    try:
        if wanted.settings.secret_file is not None:
            load_secret(data_dir, wanted.settings.secret_file)
        if wanted.settings.tls is not None:
            server_context(wanted.settings.tls)
            ends = expiry(wanted.settings.tls.certificate)
            if ends <= datetime.now(UTC):
                raise CannotDo(
                    f"{wanted.settings.tls.certificate} has expired ({ends:%Y-%m-%d}): "
                    "renew it with: bazaar certs --force"
                )
    except (BadSecret, BadTls) as error:
        raise CannotDo(str(error)) from error


def _check_ports(cluster: Cluster) -> None:
    deadline = time.monotonic() + PORT_PATIENCE_S
    while busy := busy_ports(cluster.listens):
        if time.monotonic() >= deadline:
            raise CannotDo(describe_busy(busy, cluster))
        time.sleep(0.05)


def describe_busy(busy: Sequence[BusyPort], cluster: Cluster) -> str:
    """Who has the ports, and what to do about it."""
    lines = []
    for each in busy:
        owner = f"process {each.pid}: {each.command}" if each.pid is not None else each.command
        lines.append(f"port {each.port}, which {each.wanted_by} needs, is taken by {owner}")
    pids = sorted({each.pid for each in busy if each.pid is not None})
    stop = f"stop it (kill {' '.join(map(str, pids))}) or " if pids else ""
    port = cluster.settings.port
    other = port + 100 if port + 100 <= END_OF_PORTS - BLOCK else 8000
    choose = f"for instance: bazaar up --port {other}" if cluster.topology is None else f"in {cluster.topology}"
    lines.append(f"{stop}choose other ports, {choose}")
    return "\n".join(lines)
