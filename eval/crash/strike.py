"""One replica, killed with SIGKILL and brought back, with all moments noted."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eval.chaos.faults import resolve
from eval.crash.files import last_position
from eval.crash.report import Back
from eval.processes import PATIENCE_S, Failed, Processes
from services.cluster.service_log import tail
from services.common.http import Peer, PeerError
from services.common.models import CatalogStatus, FrontEndStatus, LeaderChange, ReplicaStatus

POLL_S = 0.005
STATUS_S = 1.0
NOT_WAITED_FOR = "a follower is not waited for"
FETCHED = "fetched missed entries from the other replicas"


@dataclass(frozen=True)
class Killed:
    """at: monotonic seconds; wall: the same moment in seconds since 1970."""

    victim: str
    pid: int
    was_leader: bool
    at: float
    wall: float


@dataclass(frozen=True)
class Returned:
    """started and level are monotonic seconds."""

    started: float
    level: float
    back: Back


class Striker:
    """Kills replicas of `processes`, which do not start them again by themselves."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        client = processes.client
        self._peers = {each.name: Peer(client, each.internal_url) for each in processes.cluster.services}
        self._logs = processes.data_dir / "logs"

    async def kill(self, role: str) -> Killed:
        """Kill the replica that plays this role now. Raises Failed when not everything is well before."""
        snapshot = await self._processes.wait_level()
        (victim,) = resolve((role,), snapshot)
        pid = next(each.pid for each in snapshot.services if each.name == victim)
        assert pid is not None
        killed = Killed(victim, pid, victim == f"order-{snapshot.leader}", time.monotonic(), time.time())
        os.kill(pid, signal.SIGKILL)
        return killed

    async def bring_back(self, victim: str) -> Returned:
        """Start it again, and wait until it is level with the catalog. Raises Failed when that never comes."""
        had = last_position(self._processes.data_dir / f"{victim}.db")
        catalog = await self._peers["catalog"].call("/status", CatalogStatus, timeout_s=STATUS_S)
        assert catalog.head is not None
        started, wall = time.monotonic(), time.time()
        await self._processes.act(victim, "start")
        answered = level = 0.0
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while not level:
                    status = await self._status(victim)
                    answered = answered or (time.monotonic() if status is not None else 0.0)
                    level = time.monotonic() if status is not None and status.level else 0.0
                    await asyncio.sleep(POLL_S)
        if not level:
            raise Failed(f"K9: {victim} was not level within {PATIENCE_S:.0f} s")
        fetched = [line for moment, line in events(self._lines(victim), FETCHED) if moment >= wall]
        return Returned(
            started=started,
            level=level,
            back=Back(
                answers_ms=_ms(answered - started),
                level_ms=_ms(level - started),
                missed=catalog.head.position - had,
                fetched=fetched[0]["entries"] if fetched else None,
                fetch_ms=_ms(fetched[0]["seconds"]) if fetched else None,
            ),
        )

    async def noticed(self, killed: Killed) -> tuple[float | None, float | None]:
        """After how many ms the death was noticed, and another leader selected."""
        if not killed.was_leader:
            moments = [
                moment
                for name in self._peers
                if name.startswith("order-")
                for moment, line in events(self._lines(name), NOT_WAITED_FOR)
                if f"order-{line['replica']}" == killed.victim and moment >= killed.wall
            ]
            return (_ms(min(moments) - killed.wall), None) if moments else (None, None)
        status = await self._peers["front-end-1"].call("/status", FrontEndStatus, timeout_s=STATUS_S)
        change = first_change(status.changes, killed)
        if change is None:
            return None, None
        # These moments are whole milliseconds, so one may seem to be a fraction before the kill.
        noticed, selected = (
            max(moment / 1_000 - killed.wall, 0.0) for moment in (change.noticed_ms, change.selected_ms)
        )
        return _ms(noticed), _ms(selected)

    async def _status(self, name: str) -> ReplicaStatus | None:
        try:
            return await self._peers[name].call("/status", ReplicaStatus, timeout_s=STATUS_S)
        except PeerError:
            return None

    def _lines(self, name: str) -> list[str]:
        return tail(self._logs / f"{name}.log")


def first_change(changes: Iterable[LeaderChange], killed: Killed) -> LeaderChange | None:
    """The first choice of another leader than the killed one, since it was killed."""
    victim = int(killed.victim.removeprefix("order-"))
    since = int(killed.wall * 1_000)
    return next((each for each in changes if each.before == victim and each.selected_ms >= since), None)


def events(lines: Iterable[str], event: str) -> Iterator[tuple[float, dict[str, Any]]]:
    """When, in seconds since 1970, a log says this, and with what."""
    for line in lines:
        if event in line:
            with suppress(ValueError):
                record = json.loads(line)
                yield datetime.fromisoformat(record["timestamp"]).timestamp(), record


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 1)
