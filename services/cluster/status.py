"""How a bazaar is: what its services say of themselves, and what is known of their processes."""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

import httpx
from pydantic import BaseModel

from services.cluster.child import State, is_stopped
from services.cluster.ports import listeners
from services.cluster.topology import Cluster, Service, port_of
from services.common.http import Peer, PeerError
from services.common.models import CatalogStatus, FrontEndStatus, Head, ReplicaStatus

ANSWER_S = 0.5

AnswerT = TypeVar("AnswerT", bound=BaseModel)


class ProcessView(BaseModel):
    """What is known of a service's process. `reason`: why it is down, failed or not ready yet."""

    pid: int | None = None
    state: State
    uptime_s: float | None = None
    restarts: int | None = None
    reason: str | None = None


class ServiceView(BaseModel):
    """One service: its process, and what it says of itself; what it does not say, now or ever, is null."""

    name: str
    pid: int | None
    url: str
    state: State
    role: str | None = None  # catalog, leader, follower, front-end; null for a replica that does not answer
    head: Head | None = None
    leader: int | None = None  # front-ends only: their choice
    level: bool | None = None  # replicas only
    generation: int | None = None
    uptime_s: float | None
    restarts: int | None
    reason: str | None


class Snapshot(BaseModel):
    """The whole bazaar. `leader` is front-end-1's choice; `supervisor` the process id of the running `bazaar up`."""

    leader: int | None
    supervisor: int | None
    services: list[ServiceView]


async def take_snapshot(
    cluster: Cluster, client: httpx.AsyncClient, processes: Mapping[str, ProcessView] | None = None
) -> Snapshot:
    """Ask every service. Without `processes` (no supervisor runs) their states are what the answers tell."""
    ports = await asyncio.to_thread(listeners) if processes is None else {}

    async def view(service: Service) -> ServiceView:
        process = _found(service, ports) if processes is None else processes[service.name]
        return await _view(service, process, client, is_guess=processes is None)

    services = await asyncio.gather(*(view(service) for service in cluster.services))
    first = next((each for each in services if each.name == "front-end-1"), None)
    return Snapshot(
        leader=first.leader if first is not None else None,
        supervisor=cluster.supervisor if processes is not None else None,
        services=list(services),
    )


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
        {"role": role} | process.model_dump() | {"name": service.name, "url": service.url} | told
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
    return ({}, False) if status is None else ({"leader": status.leader}, True)


_ASK = {"catalog": _catalog, "order": _replica, "front-end": _front_end}


async def _ask(peer: Peer, kind: type[AnswerT], process: ProcessView) -> AnswerT | None:
    if process.state == "paused":
        return None  # it cannot answer; one that is down refuses at once
    try:
        return await peer.call("/status", kind, timeout_s=ANSWER_S)
    except PeerError:
        return None
