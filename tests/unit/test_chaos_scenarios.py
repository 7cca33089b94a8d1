"""Which faults a seed draws, and whom they strike."""

from itertools import islice

import pytest

from eval.chaos.faults import leader_changes, resolve
from eval.chaos.scenarios import CUTS, HOLD_S, KINDS, MOST_DELAY_S, Scenario, draw
from eval.processes import describe, is_level
from services.cluster.status import ServiceView, Snapshot

ROLES = {"leader", "follower-1", "follower-2", "catalog", "front-end-1", "front-end-2"}


def drawn(seed: int, count: int, *, partitions: bool = True) -> list[Scenario]:
    return list(islice(draw(seed, 2, partitions=partitions), count))


def snapshot(leader: int | None = 2) -> Snapshot:
    names = ("catalog", "order-1", "order-2", "order-3", "front-end-1", "front-end-2")
    services = [
        ServiceView(name=name, pid=1, url="", state="running", uptime_s=1.0, restarts=0, reason=None) for name in names
    ]
    return Snapshot(leader=leader, supervisor=1, services=services)


def test_scenarios_are_the_same_when_the_seed_is() -> None:
    assert drawn(7, 100) == drawn(7, 100)
    assert drawn(7, 100) != drawn(8, 100)


def test_every_kind_is_seen_when_there_are_as_many_rounds_as_kinds() -> None:
    kinds = {f"{action} {what}" for action, what in KINDS}
    assert {scenario.kind for scenario in drawn(1, len(KINDS), partitions=False)} == kinds
    with_cuts = kinds | {f"{action} {what}" for action, what in CUTS}
    assert {scenario.kind for scenario in drawn(1, len(KINDS + CUTS))} == with_cuts


def test_network_is_left_alone_when_partitions_were_not_asked_for() -> None:
    assert all(scenario.action != "cut" for scenario in drawn(3, 300, partitions=False))


def test_scenarios_are_within_their_bounds_whatever_the_seed() -> None:
    for seed in range(20):
        for scenario in drawn(seed, 50):
            assert scenario.roles
            assert set(scenario.roles) <= ROLES
            assert len(set(scenario.roles)) == len(scenario.roles)
            assert 0 <= scenario.delay_s <= MOST_DELAY_S
            is_held = scenario.action in {"pause", "cut"}
            assert (HOLD_S[0] <= scenario.hold_s <= HOLD_S[1]) if is_held else scenario.hold_s == 0
            assert bool(scenario.others) == (scenario.action == "cut")
            if scenario.what == "several":
                assert 2 <= len(scenario.roles) < len(ROLES)


def test_cuts_go_every_way_when_there_are_many() -> None:
    assert {scenario.direction for scenario in drawn(1, 200) if scenario.action == "cut"} == {"in", "out", "both"}


@pytest.mark.parametrize(
    ("roles", "names"),
    [
        (("leader",), ["order-2"]),
        (("follower-1", "follower-2"), ["order-1", "order-3"]),
        (("front-end-2", "catalog"), ["catalog", "front-end-2"]),
        (("everybody else",), ["catalog", "order-1", "order-3", "front-end-1", "front-end-2"]),
    ],
)
def test_roles_are_found_when_somebody_leads(roles: tuple[str, ...], names: list[str]) -> None:
    assert resolve(roles, snapshot(), without=["order-2"] if roles == ("everybody else",) else ()) == names


def test_only_changes_of_the_leader_count_when_a_log_is_read() -> None:
    template = '{{"leader": 2, "before": {}, "after_s": 0.0, "event": "x", "timestamp": "2026-11-24T08:00:0{}.5Z"}}'
    lines = ["no JSON", '{"event": "other"}', template.format("null", 1), template.format(3, 2)]
    moments = list(leader_changes(lines))
    assert [moment % 60 for moment in moments] == [2.5]


REPLICA = {"pid": 7, "state": "running", "role": "follower", "level": True, "generation": 1}
FRONT_END = {"pid": 8, "state": "running", "role": "front-end", "leader": 2}


def service(name: str, **told: object) -> ServiceView:
    known: dict[str, object] = {"name": name, "url": "", "uptime_s": 1.0, "restarts": 0, "reason": None}
    return ServiceView.model_validate(known | told)


@pytest.mark.parametrize(
    ("told", "is_ready"),
    [
        ({}, True),
        ({"level": False}, False),
        ({"state": "starting"}, False),
        ({"pid": 6}, False),
        ({"generation": 2}, False),
        ({"generation": None, "level": None}, False),
    ],
    ids=["all is well", "not level", "starting", "the old process", "another generation", "no answer"],
)
def test_bazaar_is_level_when_every_service_is(told: dict[str, object], is_ready: bool) -> None:
    services = [service("order-1", **REPLICA), service("order-2", **(REPLICA | told)), service("fe", **FRONT_END)]
    assert is_level(services, {"order-2": 6}) is is_ready
    assert not is_level([*services, service("fe-2", **(FRONT_END | {"leader": None}))], {})


def test_service_is_described_with_what_it_lacks() -> None:
    text = describe(service("order-2", **(REPLICA | {"level": False, "reason": "not level with the catalog"})))
    assert text == "order-2 running, level False, generation 1, reason not level with the catalog"
