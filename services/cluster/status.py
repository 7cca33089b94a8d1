"""How a bazaar is: what its services say of themselves, and what is known of their processes."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

import httpx
from pydantic import BaseModel

from services.cluster.child import is_stopped
from services.cluster.health import UNKNOWN, Event, FailOver, Health, count_level, judge
from services.cluster.ports import listeners
from services.cluster.topology import Cluster, Service, port_of
from services.cluster.views import ProcessView, ServiceView
from services.common.http import Peer, PeerError
from services.common.models import CatalogStatus, FrontEndStatus, ReplicaStatus

__all__ = ["ProcessView", "ServiceView", "Snapshot", "take_snapshot"]

ANSWER_S = 0.5
FAR = "does not answer from here"

AnswerT = TypeVar("AnswerT", bound=BaseModel)


class Snapshot(BaseModel):
    """The whole bazaar. `leader` is front-end-1's choice; `supervisor` the process id of the running `bazaar up`.

    What only a supervisor can have seen, `last_fail_over` and the last `events` (newest first), is empty without one.
    """

    leader: int | None
    supervisor: int | None
    services: list[ServiceView]
    at_ms: int = 0
    health: Health = UNKNOWN
    replicas: int = 0
    caught_up: int = 0
    last_fail_over: FailOver | None = None
    events: list[Event] = []

    def told(self, last: FailOver | None, events: Sequence[Event]) -> "Snapshot":
        """The same with what the supervisor has seen happen."""
        health = judge(self.services, last, self.at_ms)
        return self.model_copy(update={"last_fail_over": last, "events": list(events), "health": health})


async def take_snapshot(
    cluster: Cluster, client: httpx.AsyncClient, processes: Mapping[str, ProcessView] | None = None
) -> Snapshot:
    """Ask every service. Those in `processes` are this supervisor's; the states of others are what answers tell."""
    ports = await asyncio.to_thread(listeners) if processes is None else {}

    async def view(service: Service) -> ServiceView:
        if service.host != cluster.host:
            return await _view(service, ProcessView(state="down", reason=FAR), client, is_guess=True)
        process = _found(service, ports) if processes is None else processes[service.name]
        return await _view(service, process, client, is_guess=processes is None)

    services = await asyncio.gather(*(view(service) for service in cluster.services))
    first = next((each for each in services if each.name == "front-end-1"), None)
    at_ms = time.time_ns() // 1_000_000
    return Snapshot(
        leader=first.leader if first is not None else None,
        supervisor=cluster.supervisor if processes is not None else None,
        services=_with_lag(services),
        at_ms=at_ms,
        health=judge(services, now_ms=at_ms),
        replicas=len(cluster.of("order")),
        caught_up=count_level(services),
    )


def _with_lag(services: Sequence[ServiceView]) -> list[ServiceView]:
    """How many positions each replica's answer was behind the catalog's; they were not given at the same moment."""
    positions = [each.head.position for each in services if each.role == "catalog" and each.head is not None]
    if not positions:
        return list(services)
    return [each.model_copy(update={"lag": _lag(each, max(positions))}) for each in services]


def _lag(service: ServiceView, end: int) -> int | None:
    is_replica = service.level is not None
    return max(end - service.head.position, 0) if is_replica and service.head is not None else None


def _found(service: Service, ports: Mapping[int, int]) -> ProcessView:
    """A process without a supervisor, as far as its port gives it away."""
    pid = ports.get(port_of(service.internal_url))
    if pid is None:
        return ProcessView(state="down", reason="nothing listens there")
    return ProcessView(pid=pid, state="paused" if is_stopped(pid) else "starting")


async def _view(service: Service, process: ProcessView, client: httpx.AsyncClient, *, is_guess: bool) -> ServiceView:
    """`process`, with what the service says of itself."""
    peer = Peer(client, service.internal_url)
    told, answered = await _ASK[service.kind](peer, process)
    if is_guess and answered:
        process = process.model_copy(update={"state": "running", "reason": None})
    role = service.kind if service.kind != "order" else None
    return ServiceView.model_validate(
        {"role": role} | process.model_dump() | {"name": service.name, "host": service.host, "url": service.url} | told
    )


async def _catalog(peer: Peer, process: ProcessView) -> tuple[dict[str, object], bool]:
    status = await _ask(peer, CatalogStatus, process)
    if status is None:
        return {}, False
    return {"head": status.head, "generation": status.generation}, True


async def _replica(peer: Peer, process: ProcessView) -> tuple[dict[str, object], bool]:
    status = await _ask(peer, ReplicaStatus, process)
    if status is None:
        return {}, False
    told: dict[str, object] = {"role": status.role, "head": status.head, "level": status.level}
    return told | {"generation": status.generation}, True


async def _front_end(peer: Peer, process: ProcessView) -> tuple[dict[str, object], bool]:
    status = await _ask(peer, FrontEndStatus, process)
    if status is None:
        return {}, False
    return {"leader": status.leader, "cache": status.cache, "changes": status.changes}, True


_ASK = {"catalog": _catalog, "order": _replica, "front-end": _front_end}


async def _ask(peer: Peer, kind: type[AnswerT], process: ProcessView) -> AnswerT | None:
    if process.state == "paused":
        return None  # it cannot answer; one that is down refuses at once
    try:
        return await peer.call("/status", kind, timeout_s=ANSWER_S)
    except PeerError:
        return None
