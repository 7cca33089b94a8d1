"""Snapshots of a bazaar of one front-end, three replicas and a catalog, as tests of the control room want them."""

from typing import Any

from services.cluster.child import State, Strike
from services.cluster.health import count_level, judge
from services.cluster.status import ServiceView, Snapshot
from services.common.models import Head, LeaderChange

HEAD = Head(position=20, number=17, digest="ab" * 32)
NAMES = ["catalog", "order-1", "order-2", "order-3", "front-end-1"]


def services(
    leader: int | None = 3,
    *,
    behind: tuple[str, ...] = (),
    strikes: dict[str, Strike] | None = None,
    changes: tuple[LeaderChange, ...] = (),
    **states: State,
) -> list[ServiceView]:
    """All running and level, but for those named (order_2="down") and those `behind`."""
    return [_service(name, leader, name in behind, (strikes or {}).get(name), changes, states) for name in NAMES]


def _service(
    name: str,
    leader: int | None,
    is_behind: bool,
    strike: Strike | None,
    changes: tuple[LeaderChange, ...],
    states: dict[str, State],
) -> ServiceView:
    state = states.get(name.replace("-", "_"), "running")
    told: dict[str, Any] = {}
    if state == "running" and name == "front-end-1":
        told = {"leader": leader, "changes": list(changes)}
    elif state == "running":
        told = {"head": HEAD, "level": not is_behind if name != "catalog" else None}
    told |= {"pid": 1, "url": "http://x:1", "uptime_s": 1.0, "restarts": 0, "reason": None, "strike": strike}
    return ServiceView(name=name, state=state, **told)


def snapshot(at_ms: int, views: list[ServiceView]) -> Snapshot:
    """What the supervisor would make of them at this moment."""
    front_end = next(each for each in views if each.name == "front-end-1")
    return Snapshot(
        leader=front_end.leader,
        supervisor=1,
        services=views,
        at_ms=at_ms,
        health=judge(views, now_ms=at_ms),
        replicas=3,
        caught_up=count_level(views),
    )
