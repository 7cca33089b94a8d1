"""Names, ports and command lines of a bazaar."""

import sys
from pathlib import Path

import pytest

from services.cluster.errors import UsageError
from services.cluster.routes import read_routes, write_routes
from services.cluster.topology import Settings, command, lost_ids, plan
from services.common.settings import CatalogSettings, FrontEndSettings, OrderSettings


def test_every_service_has_its_port_when_the_first_one_is_given() -> None:
    cluster = plan(Settings(port=9000, replicas=2, front_ends=2))
    assert {service.name: (service.url, service.internal_url) for service in cluster.services} == {
        "catalog": ("http://127.0.0.1:9010", "http://127.0.0.1:9010"),
        "order-1": ("http://127.0.0.1:9011", "http://127.0.0.1:9011"),
        "order-2": ("http://127.0.0.1:9012", "http://127.0.0.1:9012"),
        "front-end-1": ("http://127.0.0.1:9000", "http://127.0.0.1:9021"),
        "front-end-2": ("http://127.0.0.1:9001", "http://127.0.0.1:9022"),
    }
    assert cluster.control == "http://127.0.0.1:9009"


@pytest.mark.parametrize(
    ("host", "control"),
    [
        ("0.0.0.0", "http://127.0.0.1:8009"),
        ("10.0.0.5", "http://10.0.0.5:8009"),
        ("::", "http://[::1]:8009"),
        ("bazaar.example", "http://bazaar.example:8009"),
    ],
)
def test_commands_reach_the_control_room_where_it_listens(host: str, control: str) -> None:
    assert plan(Settings(control_host=host)).control == control


def test_services_are_listed_in_the_order_of_their_start() -> None:
    kinds = [service.kind for service in plan(Settings()).services]
    assert kinds == ["catalog", "order", "order", "order", "front-end"]


def test_no_two_listeners_share_a_port_when_the_bazaar_is_as_large_as_possible() -> None:
    listens = plan(Settings(port=20_000, replicas=9, front_ends=9)).listens
    assert len({each.port for each in listens}) == len(listens) == 9 + 9 + 9 + 1 + 1
    assert all(20_000 <= each.port < 20_030 and each.address == "127.0.0.1" for each in listens)


@pytest.mark.parametrize("port", [1024, 32_738])
def test_a_port_is_taken_when_the_whole_block_fits(port: int) -> None:
    assert plan(Settings(port=port, replicas=9, front_ends=9)).listens[-1].port < 32_768


@pytest.mark.parametrize(
    "settings",
    [
        Settings(port=1023),
        Settings(port=32_739),
        Settings(replicas=0),
        Settings(replicas=10),
        Settings(front_ends=0),
        Settings(front_ends=10),
        Settings(cache_size=-1),
        Settings(cache_size=1_000_001),
        Settings(control_host=""),
        Settings(control_host="http://10.0.0.5"),
    ],
    ids=str,
)
def test_settings_are_refused_when_they_make_no_sense(settings: Settings) -> None:
    with pytest.raises(UsageError):
        plan(settings)


def _command(name: str, settings: Settings) -> list[str]:
    cluster = plan(settings)
    service = next(each for each in cluster.services if each.name == name)
    return command(cluster, service, Path("d"))


def test_the_catalog_is_given_its_stocks_and_the_lost_replicas_when_there_are_any() -> None:
    assert _command("catalog", Settings(catalog=Path("stocks.csv"), lost=[2])) == [
        sys.executable, "-m", "services.catalog", "--port", "8010", "--data-dir", "d",
        "--replicas", "1=http://127.0.0.1:8011,2=http://127.0.0.1:8012,3=http://127.0.0.1:8013",
        "--stocks", "stocks.csv", "--lost", "2", "--durability", "disk",
    ]  # fmt: skip


def test_the_services_understand_their_command_lines() -> None:
    settings = Settings(cache_size=0, lost=[1, 3], catalog=Path("s.csv"), durability="process")
    replicas = {1: "http://127.0.0.1:8011", 2: "http://127.0.0.1:8012", 3: "http://127.0.0.1:8013"}
    catalog = CatalogSettings(_cli_parse_args=_command("catalog", settings)[3:])
    assert (catalog.port, catalog.replicas, catalog.lost, catalog.stocks) == (8010, replicas, [1, 3], Path("s.csv"))
    order = OrderSettings(_cli_parse_args=_command("order-2", settings)[3:])
    assert (order.port, order.replica_id, order.catalog) == (8012, 2, ["http://127.0.0.1:8010"])
    assert order.replicas == replicas
    assert (catalog.durability, order.durability) == ("process", "process")
    front_end = FrontEndSettings(_cli_parse_args=_command("front-end-1", settings)[3:])
    assert (front_end.port, front_end.internal_port, front_end.cache_size) == (8000, 8021, 0)
    assert (front_end.name, front_end.data_dir) == ("front-end-1", Path("d"))


def test_services_reach_each_other_another_way_when_there_are_routes() -> None:
    routes = {
        "front-end-1": {"catalog": "http://127.0.0.1:1", "order-2": "http://127.0.0.1:2"},
        "order-2": {"catalog": "http://127.0.0.1:3", "order-1": "http://127.0.0.1:4"},
        "catalog": {"front-end-1": "http://127.0.0.1:5"},
    }
    settings = Settings(replicas=2, front_ends=2, routes=routes)
    front_end = FrontEndSettings(_cli_parse_args=_command("front-end-1", settings)[3:])
    assert front_end.catalog == ["http://127.0.0.1:1"]
    assert front_end.replicas == {1: "http://127.0.0.1:8011", 2: "http://127.0.0.1:2"}
    assert (front_end.internal_port, front_end.internal_url) == (8021, "http://127.0.0.1:5")
    order = OrderSettings(_cli_parse_args=_command("order-2", settings)[3:])
    assert order.catalog == ["http://127.0.0.1:3"]
    assert order.replicas == {1: "http://127.0.0.1:4", 2: "http://127.0.0.1:8012"}
    other = FrontEndSettings(_cli_parse_args=_command("front-end-2", settings)[3:])
    assert (other.catalog, other.internal_url) == (["http://127.0.0.1:8010"], "http://127.0.0.1:8022")


@pytest.mark.parametrize(
    "routes",
    [
        {"order-9": {"catalog": "http://127.0.0.1:1"}},
        {"catalog": {"order-9": "http://127.0.0.1:1"}},
        {"catalog": {"order-1": "127.0.0.1:1"}},
        {"catalog": {"order-1": "http://127.0.0.1:1,2=http://127.0.0.1:2"}},
    ],
    ids=["caller", "target", "no address", "two addresses"],
)
def test_routes_are_refused_when_they_lead_nowhere(routes: dict[str, dict[str, str]]) -> None:
    with pytest.raises(UsageError, match="--routes"):
        plan(Settings(routes=routes))


def test_routes_are_read_as_they_were_written(tmp_path: Path) -> None:
    routes = {"order-1": {"catalog": "http://127.0.0.1:1"}}
    write_routes(tmp_path / "routes.json", routes)
    assert read_routes(tmp_path / "routes.json") == routes


@pytest.mark.parametrize("content", ["", "[]", '{"order-1": "http://127.0.0.1:1"}', None])
def test_file_of_routes_is_refused_when_it_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "routes.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match="--routes"):
        read_routes(path)


def test_lost_replicas_are_known_by_name() -> None:
    assert lost_ids(["order-3", "order-1", "order-3"], 3) == [1, 3]


@pytest.mark.parametrize("names", [["order-4"], ["2"], ["catalog"], ["order-1", "order-2", "order-3"]], ids=str)
def test_lost_replicas_are_refused_when_unknown_or_all(names: list[str]) -> None:
    with pytest.raises(UsageError):
        lost_ids(names, 3)
