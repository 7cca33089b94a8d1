"""Restarting a bazaar that works, one process after the other, so that nobody who knows two front-ends notices.

A process runs what is installed when it starts: so this is how a new version is brought in, too.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from client.console import make_console
from services.cluster.control import ActionAnswer
from services.cluster.errors import CannotDo
from services.cluster.folder import read_cluster
from services.cluster.links import Nothing, asking_supervisor, check_names, internal_client
from services.cluster.status import Snapshot
from services.common.http import Peer

PATIENCE_S = 60.0  # for the bazaar to be whole again after each process
CONTROL_S = 15.0  # a process has 5 s to end what is under way
SNAPSHOT_S = 5.0
LOOK_EVERY_S = 0.2


def restart(data_dir: Path, names: Sequence[str], *, rolling: bool) -> int:
    """Have the supervisor stop these services (all of this host, when none is named), gracefully, and start them again.

    rolling: one after the other, each only while all others do their work. Raises CannotDo and UsageError.
    """
    cluster = read_cluster(data_dir)
    check_names(cluster, *names)
    chosen = list(dict.fromkeys(names)) or [service.name for service in cluster.own]
    with asking_supervisor(data_dir, cluster):
        asyncio.run(_restart(data_dir, cluster.control, chosen, rolling=rolling))
    return 0


def rolling_order(snapshot: Snapshot, names: Sequence[str]) -> list[str]:
    """Followers, the leader, catalogs, front-ends: so the leader changes once, and front-ends come back to all new."""
    roles = {each.name: each.role for each in snapshot.services}

    def place(name: str) -> tuple[int, bool]:
        kind = 0 if name.startswith("order-") else 2 if name.startswith("front-end-") else 1
        return kind, roles.get(name) == "leader"

    return sorted(names, key=place)


def missing(snapshot: Snapshot) -> str | None:
    """What keeps the bazaar from being whole, None when every service does its work."""
    for each in snapshot.services:
        if each.state != "running":
            return f"{each.name} is {each.state}" + (f" ({each.reason})" if each.reason else "")
        if each.name.startswith("order-") and not each.level:
            return f"{each.name} is not level with the catalog"
        if each.role == "front-end" and each.leader is None:
            return f"{each.name} has no leader"
    return None


async def _restart(data_dir: Path, control: str, names: Sequence[str], *, rolling: bool) -> None:
    console = make_console()
    async with internal_client(data_dir) as client:
        supervisor = Peer(client, control)
        snapshot = await _whole(supervisor)
        steps = [[name] for name in rolling_order(snapshot, names)] if rolling else [list(names)]
        for step in steps:
            began = time.monotonic()
            await asyncio.gather(*(_restart_one(supervisor, name) for name in step))
            await _whole(supervisor)
            console.print(f"restarted: {', '.join(step)} ({time.monotonic() - began:.1f} s)", soft_wrap=True)


async def _restart_one(supervisor: Peer, name: str) -> None:
    await supervisor.call(f"/services/{name}/restart", ActionAnswer, Nothing(), timeout_s=CONTROL_S)


async def _whole(supervisor: Peer) -> Snapshot:
    """Wait until nothing is missing. Raises CannotDo when something is for too long."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        snapshot = await supervisor.call("/status", Snapshot, timeout_s=SNAPSHOT_S)
        lacks = missing(snapshot)
        if lacks is None:
            return snapshot
        if time.monotonic() > deadline:
            raise CannotDo(f"nothing more is restarted: {lacks}, and that for {PATIENCE_S:.0f} s")
        await asyncio.sleep(LOOK_EVERY_S)
