"""The snapshot, the control room, and how they are shown."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from services.cluster.child import Child, State
from services.cluster.console import show_verdict, status_page, watch_page
from services.cluster.control import create_control
from services.cluster.health import Event, FailOver
from services.cluster.status import ProcessView, Snapshot, take_snapshot
from services.cluster.supervisor import Supervisor
from services.cluster.topology import Cluster, Settings, plan
from services.cluster.verify import verify_logs
from services.common.http import SECRET_HEADER
from services.common.models import CatalogStatus, FrontEndStatus, Head, ReplicaStatus, StocksAnswer
from services.control_room.watch import Watch
from tests.support.ports import free_ports

HEAD = Head(position=20, number=17, digest="ab" * 32)
SECRET = {SECRET_HEADER: "s"}


def _answer(request: httpx.Request) -> httpx.Response:
    """Catalog, replicas 1 to 3 and front-ends of a bazaar on ports 8000 and up; order-2 is not there."""
    port = request.url.port or 0
    assert request.url.path == "/status"
    message: CatalogStatus | ReplicaStatus | FrontEndStatus
    if port == 8010:
        message = CatalogStatus(generation=1, base=0, head=HEAD, sessions=1)
    elif port in {8011, 8013}:
        role = "leader" if port == 8013 else "follower"
        message = ReplicaStatus.model_validate(
            {"replica_id": port - 8010, "generation": 1, "role": role, "level": True, "level_age": 0.1, "head": HEAD}
        )
    elif port in {8021, 8022}:
        leader = {8021: 3, 8022: 1}[port]
        message = FrontEndStatus(name=f"front-end-{port - 8020}", leader=leader, replicas=[], session=True)
    else:
        raise httpx.ConnectError("nobody listens", request=request)
    return httpx.Response(200, content=message.model_dump_json())


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(_answer)) as answers:
        yield answers


@pytest.fixture
def cluster() -> Cluster:
    return plan(Settings(front_ends=2)).model_copy(update={"supervisor": 77})


def _processes(cluster: Cluster, **states: State) -> dict[str, ProcessView]:
    """All running, but for those named (order_2: order-2)."""
    return {
        service.name: ProcessView(pid=1_000 + n, state=states.get(service.name.replace("-", "_"), "running"))
        for n, service in enumerate(cluster.services)
    }


async def test_the_snapshot_has_what_every_service_says(cluster: Cluster, client: httpx.AsyncClient) -> None:
    snapshot = await take_snapshot(cluster, client, _processes(cluster, order_2="down"))
    shown = [(each.name, each.state, each.role, each.head, each.leader) for each in snapshot.services]
    assert shown == [
        ("catalog", "running", "catalog", HEAD, None),
        ("order-1", "running", "follower", HEAD, None),
        ("order-2", "down", None, None, None),
        ("order-3", "running", "leader", HEAD, None),
        ("front-end-1", "running", "front-end", None, 3),
        ("front-end-2", "running", "front-end", None, 1),
    ]
    assert (snapshot.leader, snapshot.supervisor) == (3, 77)


async def test_the_json_has_the_members_that_were_promised(cluster: Cluster, client: httpx.AsyncClient) -> None:
    snapshot = (await take_snapshot(cluster, client, _processes(cluster))).model_dump(mode="json")
    order = snapshot["services"][3]
    assert list(order)[:6] == ["name", "pid", "url", "state", "role", "head"]
    assert order["head"] == {"position": 20, "number": 17, "digest": "ab" * 32}
    assert order["url"] == "http://127.0.0.1:8013"


async def test_nobody_asks_a_paused_service(cluster: Cluster) -> None:
    asked: list[int | None] = []

    def note(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.port)
        return _answer(request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(note)) as client:
        snapshot = await take_snapshot(cluster, client, _processes(cluster, order_3="paused", front_end_1="paused"))
    assert not {8013, 8021} & set(asked)
    assert snapshot.leader is None
    assert [each.state for each in snapshot.services if each.name == "order-3"] == ["paused"]


async def test_states_come_from_the_answers_when_no_supervisor_runs(client: httpx.AsyncClient) -> None:
    snapshot = await take_snapshot(plan(Settings()), client)
    states = {each.name: each.state for each in snapshot.services}
    assert states == {
        "catalog": "running", "order-1": "running", "order-2": "down", "order-3": "running", "front-end-1": "running",
    }  # fmt: skip
    assert snapshot.supervisor is None


async def test_the_owner_of_a_services_port_is_its_process_when_no_supervisor_runs() -> None:
    cluster = plan(Settings(port=free_ports()))
    port = int(cluster.catalog.url.rpartition(":")[2])
    server = await asyncio.start_server(lambda _r, writer: writer.close(), "127.0.0.1", port)
    async with server, httpx.AsyncClient() as client:
        snapshot = await take_snapshot(cluster, client)
    assert (snapshot.services[0].pid, snapshot.services[0].state) == (os.getpid(), "starting")


def _render(width: int, show: Callable[[Console], None]) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    show(console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 140])
async def test_no_cell_is_cut_when_the_terminal_is_ordinary(
    width: int, cluster: Cluster, client: httpx.AsyncClient
) -> None:
    snapshot = await take_snapshot(cluster, client, _processes(cluster, order_2="failed"))

    def show(console: Console) -> None:
        for part in status_page(snapshot, console.width):
            console.print(part)

    lines = _render(width, show)
    assert lines[0].startswith("Degraded: order-2 is failed. order-3 leads")
    assert lines[4].split()[:7] == [
        "order-1", "running", "follower", "1001", "http://127.0.0.1:8011", "17", "abababab",
    ]  # fmt: skip
    assert "…" not in "".join(lines)
    assert "leader, as front-end-1 chose it: order-3" in lines


async def test_the_missing_supervisor_and_reasons_are_told(cluster: Cluster) -> None:
    snapshot = Snapshot.model_validate(
        {"leader": None, "supervisor": None, "services": [
            {"name": "catalog", "pid": None, "url": "u", "state": "failed", "uptime_s": None, "restarts": 0,
             "reason": "two logs differ"},
        ]}
    )  # fmt: skip
    text = "\n".join(str(part) for part in status_page(snapshot, 80))
    assert "catalog: two logs differ" in text
    assert "systemd" in text
    assert "bazaar up" in text


async def test_what_happened_last_is_told_while_one_watches(cluster: Cluster, client: httpx.AsyncClient) -> None:
    fail_over = FailOver(
        front_end="front-end-1", before="order-3", leader="order-2", cause="was killed",
        struck_ms=1_000, noticed_ms=1_003, selected_ms=1_004,
    )  # fmt: skip
    event = Event(at_ms=1_004, service="front-end-1", text=fail_over.sentence, fail_over=fail_over)
    snapshot = (await take_snapshot(cluster, client, _processes(cluster))).told(fail_over, [event])
    lines = [str(part) for part in watch_page(snapshot, 80)]
    assert lines[0].startswith("Degraded: order-2 does not answer. order-3 leads")
    assert any(line.startswith("Last fail-over ") and "order-3 to order-2 in 4 ms" in line for line in lines)
    assert lines[-1].endswith("order-3 was killed; noticed after 3 ms, selected after 4 ms")


async def test_lag_is_how_far_a_replica_is_behind_the_catalog(cluster: Cluster) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        response = _answer(request)
        return httpx.Response(200, text=response.text.replace('"position":20', '"position":13')) if (
            request.url.port == 8011
        ) else response  # fmt: skip

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        snapshot = await take_snapshot(cluster, client, _processes(cluster, order_2="down"))
    assert {each.name: each.lag for each in snapshot.services if each.role not in {"catalog", "front-end"}} == {
        "order-1": 7, "order-2": None, "order-3": 0,
    }  # fmt: skip
    assert (snapshot.caught_up, snapshot.replicas) == (2, 3)


# Several hosts.


@pytest.fixture
def hosts(cluster: Cluster) -> Cluster:
    """The same services, order-2 and order-3 on host b; this is host a."""
    far = {"order-2", "order-3"}
    services = [each.model_copy(update={"host": "b" if each.name in far else "a"}) for each in cluster.services]
    return cluster.model_copy(update={"services": services, "host": "a"})


async def test_services_of_other_hosts_are_known_by_their_answers(hosts: Cluster, client: httpx.AsyncClient) -> None:
    own = {name: view for name, view in _processes(hosts).items() if name not in hosts.elsewhere}
    snapshot = await take_snapshot(hosts, client, own)
    shown = {each.name: (each.host, each.state, each.pid is not None, each.reason) for each in snapshot.services}
    assert shown["order-1"] == ("a", "running", True, None)
    assert shown["order-3"] == ("b", "running", False, None)
    assert shown["order-2"] == ("b", "down", False, "does not answer from here")


async def test_services_of_other_hosts_are_not_sought_among_our_processes(
    hosts: Cluster, monkeypatch: pytest.MonkeyPatch, client: httpx.AsyncClient
) -> None:
    """Another process may well have the same port here."""
    monkeypatch.setattr("services.cluster.status.listeners", lambda: dict.fromkeys(range(8000, 8030), os.getpid()))
    snapshot = await take_snapshot(hosts, client)
    assert {each.name for each in snapshot.services if each.pid is None} == {"order-2", "order-3"}


async def test_host_stands_in_the_json_when_there_are_several_only(
    cluster: Cluster, hosts: Cluster, client: httpx.AsyncClient
) -> None:
    alone = (await take_snapshot(cluster, client, _processes(cluster))).model_dump(mode="json")
    assert not any("host" in each for each in alone["services"])
    several = (await take_snapshot(hosts, client, _processes(hosts))).model_dump(mode="json")
    assert [each["host"] for each in several["services"]] == ["a", "a", "b", "b", "a", "a"]


@pytest.mark.parametrize("width", [80, 140])
async def test_every_row_names_its_host_when_there_are_several(
    width: int, hosts: Cluster, client: httpx.AsyncClient
) -> None:
    snapshot = await take_snapshot(hosts, client, _processes(hosts))

    def show(console: Console) -> None:
        for part in status_page(snapshot, console.width):
            console.print(part)

    lines = [line.split()[:3] for line in _render(width, show)]
    assert ["service", "host", "state"] in lines
    assert ["order-1", "a", "running"] in lines
    assert ["order-3", "b", "running"] in lines


async def test_lag_counts_from_the_catalog_that_knows_most(cluster: Cluster) -> None:
    first, *others = cluster.services
    more = first.model_copy(update={"name": "catalog-2", "id": 2, "internal_url": "http://127.0.0.1:8015"})
    both = [first.model_copy(update={"name": "catalog-1"}), more, *others]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.port != 8015:
            return _answer(request)
        ahead = CatalogStatus(generation=1, base=0, head=Head(position=25, number=20, digest="cd" * 32), sessions=1)
        return httpx.Response(200, content=ahead.model_dump_json())

    several = cluster.model_copy(update={"services": both})
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        snapshot = await take_snapshot(several, client, _processes(several, order_2="down"))
    assert {each.name: each.lag for each in snapshot.services if each.lag is not None} == {"order-1": 5, "order-3": 5}
    assert snapshot.health.condition == "degraded"


def test_the_verdict_comes_last_and_every_problem_before_it() -> None:
    catalog = StocksAnswer(generation=1, head=HEAD, stocks=[])
    verdict = verify_logs([], {"order-1": [], "order-2": []}, catalog)
    lines = _render(80, lambda console: show_verdict(verdict, console))
    assert lines == [
        "wrong: order-1 holds 0 entries, there are 20",
        "wrong: order-2 holds 0 entries, there are 20",
        "not proven: order-1 holds 0 entries, there are 20 (and 1 more)",
    ]


# The control room.


@pytest.fixture
async def control(tmp_path: Path, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """The control room over one process, which is not supervised: whatever is asked of it, it is down."""

    async def probe() -> str | None:
        return None

    cluster = plan(Settings(replicas=1))
    names = [service.name for service in cluster.services]
    children = [Child(name, ["true"], log=tmp_path / "log", env={}, probe=probe) for name in names]
    supervisor = Supervisor([children])
    app = create_control(supervisor, Watch(cluster, supervisor, client).look, "s")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://control") as calls:
        yield calls


async def test_the_control_room_shows_the_snapshot(control: httpx.AsyncClient) -> None:
    response = await control.get("/status", headers=SECRET)
    snapshot = Snapshot.model_validate_json(response.content)
    assert [each.state for each in snapshot.services] == ["down"] * 3
    assert snapshot.leader == 3


@pytest.mark.parametrize(("method", "path"), [("GET", "/status"), ("POST", "/services/order-1/kill")])
async def test_the_control_room_refuses_whoever_does_not_know_the_secret(
    control: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await control.request(method, path)
    assert response.status_code == 403


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/services/order-1/kill", 200),
        ("/services/order-7/kill", 404),
        ("/services/order-1/explode", 422),
        ("/services/order-1/pause", 409),
    ],
)
async def test_the_control_room_answers_in_the_one_shape(control: httpx.AsyncClient, path: str, code: int) -> None:
    response = await control.post(path, headers=SECRET)
    assert response.status_code == code
    if code == 200:
        assert response.json() == {"name": "order-1", "state": "down", "pid": None}
    else:
        assert response.json()["error"]["code"] == code
