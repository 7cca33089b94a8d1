"""Strikes one fault after the other: finds the processes behind a scenario's roles, breaks them, and undoes it."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from eval.chaos.network import Network
from eval.chaos.scenarios import EVERYBODY, FOLLOWERS, LEADER, Scenario
from eval.processes import Processes
from services.cluster.service_log import tail
from services.cluster.status import Snapshot


@dataclass
class Blow:
    """A fault as it struck. Times are monotonic seconds; downtime_s: until a process that ended answered again.

    is_total: nothing could work before it was undone. etcd_ms: how long etcd took no write.
    """

    hit: list[str]
    began: float
    undone: float = 0.0
    level: float = 0.0
    downtime_s: dict[str, float] = field(default_factory=dict)
    is_total: bool = False
    etcd_ms: float | None = None


class Faults:
    """Breaks `processes`, and the network between them when there is one to cut."""

    def __init__(self, processes: Processes, network: Network | None) -> None:
        self._processes = processes
        self._network = network

    async def strike(self, scenario: Scenario) -> Blow:
        """Break something, undo it, and wait until everything is level again. Raises Failed when that never comes."""
        await asyncio.sleep(scenario.delay_s)
        snapshot = await self._processes.wait_level()
        names = resolve(scenario.roles, snapshot)
        pids = {each.name: each.pid for each in snapshot.services if each.name in names and each.pid is not None}
        blow = Blow(names, time.monotonic())
        match scenario.action:
            case "kill":
                await self._end(pids, signal.SIGKILL, blow)
            case "restart":
                await self._end(pids, signal.SIGTERM, blow)
            case "pause":
                await self._pause(pids, scenario.hold_s)
            case "cut":
                others = resolve(scenario.others, snapshot, without=names)
                rest = scenario.what.partition(" from ")[2]
                blow.hit = [f"{' '.join(names)} from {rest} ({scenario.direction})"]
                await self._cut(names, others, scenario)
        blow.undone = time.monotonic()
        await self._processes.wait_level(pids if scenario.action in {"kill", "restart"} else None)
        blow.level = time.monotonic()
        return blow

    def noticed_ms(self, since: float) -> float | None:
        """From `since` (seconds since 1970) until a front-end wrote down that it selected another leader."""
        moments = [
            moment
            for service in self._processes.cluster.of("front-end")
            for moment in leader_changes(tail(self._processes.data_dir / "logs" / f"{service.name}.log"))
            if moment >= since
        ]
        return round((min(moments) - since) * 1_000, 1) if moments else None

    async def _end(self, pids: Mapping[str, int], number: signal.Signals, blow: Blow) -> None:
        """Have processes end; the supervisor starts them again, and this returns when each answers."""
        send(number, pids.values())
        downtimes = await asyncio.gather(*(self._processes.downtime(name, blow.began) for name in pids))
        blow.downtime_s = dict(zip(pids, downtimes, strict=True))

    async def _pause(self, pids: Mapping[str, int], hold_s: float) -> None:
        try:
            send(signal.SIGSTOP, pids.values())
            await asyncio.sleep(hold_s)
        finally:
            send(signal.SIGCONT, pids.values())

    async def _cut(self, names: Collection[str], others: Collection[str], scenario: Scenario) -> None:
        assert self._network is not None, "there are cuts only where there is a network to cut"
        try:
            self._network.cut(names, others, scenario.direction)
            await asyncio.sleep(scenario.hold_s)
        finally:
            self._network.heal()


def resolve(roles: Sequence[str], snapshot: Snapshot, without: Collection[str] = ()) -> list[str]:
    """The names of the services that play these roles now."""
    names = [each.name for each in snapshot.services]
    leader = f"order-{snapshot.leader}"
    followers = [name for name in names if name.startswith("order-") and name != leader]
    found = {LEADER: leader, **dict(zip(FOLLOWERS, followers, strict=False))}
    if EVERYBODY in roles:
        return [name for name in names if name not in without]
    return sorted({found.get(role, role) for role in roles} - set(without))


def leader_changes(lines: Iterable[str]) -> Iterator[float]:
    """When, in seconds since 1970, a front-end selected another leader than before, by its log."""
    for line in lines:
        if '"before"' in line and '"after_s"' in line:
            record = json.loads(line)
            if record["before"] is not None:
                yield datetime.fromisoformat(record["timestamp"]).timestamp()


def send(number: signal.Signals, pids: Collection[int]) -> None:
    """Send a signal to processes; one that has just died hears nothing."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
