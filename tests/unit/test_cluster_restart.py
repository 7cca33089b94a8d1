"""A rolling restart: whose turn it is, and what has to be there before the next one."""

from typing import Any

import pytest

from services.cluster.restart import missing, rolling_order
from services.cluster.status import Snapshot
from services.cluster.views import ServiceView

ROLES = {
    "catalog": "catalog",
    "order-1": "follower",
    "order-2": "leader",
    "order-3": "follower",
    "front-end-1": "front-end",
    "front-end-2": "front-end",
}


def snapshot(**changed: dict[str, Any]) -> Snapshot:
    """A bazaar that is whole, but for what is changed; `order_2={...}` changes order-2."""
    services = []
    for name, role in ROLES.items():
        told: dict[str, Any] = {"name": name, "pid": 1, "url": "http://x", "state": "running", "role": role}
        told |= {"uptime_s": 1.0, "restarts": 0, "reason": None}
        told |= {"level": True} if name.startswith("order") else {"leader": 2} if role == "front-end" else {}
        services.append(ServiceView.model_validate(told | changed.get(name.replace("-", "_"), {})))
    return Snapshot(leader=2, supervisor=1, services=services)


def test_leader_comes_after_the_followers_and_front_ends_last_when_all_are_restarted() -> None:
    assert rolling_order(snapshot(), list(ROLES)) == [
        "order-1",
        "order-3",
        "order-2",
        "catalog",
        "front-end-1",
        "front-end-2",
    ]


def test_only_those_named_are_restarted_when_some_are() -> None:
    assert rolling_order(snapshot(), ["front-end-1", "order-2", "order-1"]) == ["order-1", "order-2", "front-end-1"]


def test_nothing_is_missing_when_every_service_works() -> None:
    assert missing(snapshot()) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"catalog": {"state": "starting", "reason": "no generation"}}, "catalog is starting (no generation)"),
        ({"order_1": {"state": "down"}}, "order-1 is down"),
        ({"order_3": {"level": False}}, "order-3 is not level with the catalog"),
        ({"order_3": {"level": None, "role": None}}, "order-3 is not level with the catalog"),
        ({"front_end_2": {"leader": None}}, "front-end-2 has no leader"),
    ],
)
def test_what_is_missing_is_named_when_a_service_does_not_work(changed: dict[str, Any], words: str) -> None:
    assert missing(snapshot(**changed)) == words
