"""Three hosts: where what runs, which faults a seed draws, what a cut loses, what is said where it cannot be done."""

import os
import random
import shutil
import sqlite3
from contextlib import AsyncExitStack, closing
from itertools import islice
from pathlib import Path

import pytest

from eval.chaos.faults import Blow
from eval.chaos.load import Crowd, Customer, Reader
from eval.chaos.report import Round, everybody_ms, no_trade_ms
from eval.chaos.run import Run
from eval.chaos.scenarios import MOST_DELAY_S, Scenario
from eval.history import Operation
from eval.hosts.bazaar import HostsBazaar, running_hosts
from eval.hosts.ground import CLIENTS, OnePlace, check_namespaces, lost_pairs
from eval.hosts.layout import HOSTS, Layout, on_host
from eval.hosts.process import HostProcess
from eval.hosts.scenarios import ALL, ALL_HOLD_S, BEYOND, CUTS, HOLD_S, KINDS, draw
from eval.hosts.stage import BOUND_S, ThreeHosts, on_three_hosts
from eval.processes import Failed
from eval.witness import History, Witness
from services.catalog.inventory import fold
from services.cluster.errors import CannotDo
from services.common.digest import empty_head, entry_digest, head_at
from services.common.http import make_client
from services.common.models import Entry, Stock, Type
from services.common.runtime import Runtime
from services.common.settings import CatalogSettings, FrontEndSettings, OrderSettings
from services.order.store import LogStore
from tests.support.fake_front_end import FakeFrontEnd
from tests.support.ports import free_ports

INITIAL = [Stock(name="FishCo", price=100, quantity=10)]
ADDRESSES = ["10.7.0.1", "10.7.0.2", "10.7.0.3"]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path, ADDRESSES, 8000)


def drawn(seed: int, count: int, *, with_cuts: bool = True) -> list[Scenario]:
    return list(islice(draw(seed, with_cuts=with_cuts), count))


def flags_of(layout: Layout, name: str) -> dict[str, str]:
    words = layout.command(name)[3:]
    return dict(zip(words[::2], words[1::2], strict=True))


# Where what runs.


def test_each_host_has_its_processes_when_there_are_three(layout: Layout) -> None:
    assert layout.on(1) == ["etcd-1", "catalog-1", "order-1", "front-end-1"]
    assert layout.on(2) == ["etcd-2", "catalog-2", "order-2", "front-end-2"]
    assert layout.on(3) == ["etcd-3", "order-3"]
    assert set(layout.on(*HOSTS)) == set(layout.parts)


def test_no_two_processes_listen_on_one_port_when_all_are_on_one_machine(tmp_path: Path) -> None:
    layout = Layout(tmp_path, ["127.0.0.1"] * 3, free_ports())
    of_two = {"etcd", "front-end"}
    urls = [each.url for each in layout.parts.values()]
    urls += [each.internal_url for each in layout.parts.values() if each.kind in of_two]
    assert len(set(urls)) == len(urls)
    ports = [int(url.rpartition(":")[2]) for url in urls]
    assert max(ports) - min(ports) < 30


def test_catalogs_share_etcd_and_ask_the_own_host_first(layout: Layout) -> None:
    stores = {name: flags_of(layout, name)["--store"] for name in ("catalog-1", "catalog-2")}
    assert stores == {
        "catalog-1": "etcd://10.7.0.1:8004,10.7.0.2:8014,10.7.0.3:8024",
        "catalog-2": "etcd://10.7.0.2:8014,10.7.0.1:8004,10.7.0.3:8024",
    }


def test_services_understand_their_flags(layout: Layout, tmp_path: Path) -> None:
    parts = layout.parts
    catalog = CatalogSettings(_cli_parse_args=layout.command("catalog-2")[3:])
    assert (f"http://{catalog.host}:{catalog.port}", catalog.data_dir) == (parts["catalog-2"].url, tmp_path / "host-2")
    order = OrderSettings(_cli_parse_args=layout.command("order-3")[3:])
    assert (order.replica_id, f"http://{order.host}:{order.port}") == (3, parts["order-3"].url)
    front_end = FrontEndSettings(_cli_parse_args=layout.command("front-end-1")[3:])
    assert front_end.internal_url == parts["front-end-1"].internal_url
    assert order.catalog == front_end.catalog == [parts["catalog-1"].url, parts["catalog-2"].url]
    assert order.replicas == front_end.replicas == {host: parts[f"order-{host}"].url for host in HOSTS}


def test_etcd_ends_with_us_and_every_command_is_put_on_its_host(layout: Layout) -> None:
    prefix = ("nsenter", "--net=/proc/7/ns/net")
    assert on_host(layout, "order-1", prefix) == [*prefix, *layout.command("order-1")]
    etcd = on_host(layout, "etcd-1", prefix)
    assert "die_with_parent" in etcd[2]
    assert etcd[3:] == [*prefix, *layout.command("etcd-1")]


def test_verification_reads_every_log_and_the_catalog_that_it_is_given(layout: Layout) -> None:
    cluster = layout.seen_from(layout.parts["catalog-2"])
    assert cluster.catalog.url == "http://10.7.0.2:8012"
    assert [each.name for each in cluster.of("order")] == ["order-1", "order-2", "order-3"]


# Which faults a seed draws.


def test_faults_are_the_same_when_the_seed_is() -> None:
    assert drawn(7, 100) == drawn(7, 100)
    assert drawn(7, 100) != drawn(8, 100)


def test_every_kind_comes_once_when_there_are_as_many_rounds_as_kinds() -> None:
    kinds = [f"{action} {what}" for action, what in KINDS]
    assert sorted(each.kind for each in drawn(1, len(KINDS), with_cuts=False)) == sorted(kinds)
    cuts = [f"{action} {what}" for action, what in CUTS]
    assert sorted(each.kind for each in drawn(1, len(KINDS + CUTS))) == sorted(kinds + cuts)


def test_one_host_or_all_are_struck_whatever_the_seed() -> None:
    for seed in range(20):
        for each in drawn(seed, 50):
            assert len(each.roles) == 1
            assert 0 <= each.delay_s <= MOST_DELAY_S
            low, high = ALL_HOLD_S if each.what == ALL else HOLD_S
            assert low <= each.hold_s <= high
            assert each.others in ({(beyond,) for beyond in BEYOND} if each.action == "cut" else {()})


def test_hosts_are_cut_off_from_clients_too_when_there_are_many_rounds() -> None:
    cuts = [each for each in drawn(1, 300) if each.action == "cut"]
    assert {(each.others[0], each.direction) for each in cuts} == {
        (beyond, way) for beyond in BEYOND for way in ("in", "out", "both")
    }


# What a cut loses.


def test_a_cut_goes_the_way_that_it_should() -> None:
    assert set(lost_pairs(2, {1, 3}, "out")) == {(2, 1), (2, 3)}
    assert set(lost_pairs(2, {1, 3}, "in")) == {(1, 2), (3, 2)}
    assert set(lost_pairs(2, {1, CLIENTS}, "both")) == {(2, 1), (1, 2), (2, CLIENTS), (CLIENTS, 2)}


# How soon trades go on.


def operation(client: str, began: float, ended: float, key: str, status: int = 201) -> Operation:
    return Operation(client, "trade", began, key=key, ended=ended, status=status)


def test_everybody_trades_again_when_the_last_client_has_a_new_trade_decided() -> None:
    operations = [
        operation("a", 9.0, 12.0, "old"),
        operation("a", 10.1, 10.3, "a1"),
        operation("b", 10.1, 10.2, "b1", 503),
        operation("b", 10.4, 11.5, "b2", 409),
        operation("a", 10.5, 13.0, "a2"),
    ]
    assert everybody_ms(operations, 10.0) == 1500.0


def test_no_trade_goes_on_when_an_old_one_is_answered_again() -> None:
    operations = [
        operation("a", 8.0, 8.1, "old"),
        operation("a", 9.9, 10.2, "late"),
        operation("b", 10.1, 10.8, "none", 503),
        operation("a", 10.3, 11.0, "old"),
        operation("b", 11.0, 12.5, "new", 409),
        operation("a", 11.1, 12.9, "new"),
    ]
    assert no_trade_ms(operations, 10.0, 15.0) == 2500.0, "after it, until the fault was over"
    assert no_trade_ms(operations, 10.0, 13.0) == 2300.0


def run_of(blow: Blow, waited_ms: float) -> Run:
    run = on_three_hosts(1, 1, 5, namespaces=True)
    round_ = Round(
        number=1,
        kind="kill host-1",
        hit=["host-1"],
        began_s=0.0,
        undone_s=2.0,
        level_s=8.0,
        longest_ms={},
        trade_waits_ms=[],
        first_trade_ms=waited_ms,
        everybody_ms=waited_ms,
        noticed_ms=None,
        downtime_ms={},
    )
    run._check_bound(round_, blow)
    return run


@pytest.mark.parametrize(
    ("waited_s", "is_total", "is_late"),
    [
        (BOUND_S - 0.1, False, False),
        (BOUND_S + 0.1, False, True),
        (BOUND_S + 7.9, True, False),
        (BOUND_S + 8.1, True, True),
    ],
)
def test_it_is_a_violation_when_a_client_waits_longer_than_it_may(
    waited_s: float, is_total: bool, is_late: bool
) -> None:
    run = run_of(Blow(["host-1"], 0.0, 2.0, 8.0, is_total=is_total), waited_s * 1_000)
    assert [problem.startswith("K9: round 1, kill host-1") for problem in run.problems] == [True] * is_late


# Who looks, and who judges.


async def test_a_reader_looks_up_its_one_stock_and_nothing_else() -> None:
    front_end, history = FakeFrontEnd(), History()
    async with Witness("reader-1", history, "http://front-end-1", transport=front_end.transport) as witness:
        reader = Reader(witness, "FishCo", random.Random(1))
        for _ in range(20):
            await reader.act()
    assert {(each.kind, each.name, each.status) for each in history.operations} == {("look_up", "FishCo", 200)}
    await Crowd([reader], history).everybody_traded(float("inf"))  # nobody waits for a reader's trade


async def test_a_key_is_asked_for_again_through_either_front_end() -> None:
    fakes, history = [FakeFrontEnd({"FishCo": 10_000}) for _ in range(2)], History()
    async with AsyncExitStack() as stack:
        witnesses = [
            await stack.enter_async_context(Witness("client-1", history, "http://f", transport=each.transport))
            for each in fakes
        ]
        customer = Customer(witnesses, ["FishCo"], random.Random(1))
        for _ in range(300):
            await customer.act()
    keys = [set(each.keys) for each in fakes]
    first = {each.key for each in history.operations if each.kind == "trade"}
    assert len(keys[0] & keys[1]) > 0.15 * len(first), "more than those that were sent twice"


@pytest.fixture
async def stage(tmp_path: Path) -> ThreeHosts:
    """The disks of three hosts after two orders, and what the catalogs showed."""
    stage = ThreeHosts(1, namespaces=False)
    async with make_client(Runtime()) as client:
        stage.found = HostsBazaar(Layout(tmp_path, ADDRESSES, 8000), OnePlace(), client)
    log = entries(("buy", 3), ("sell", 1))
    for host in HOSTS:
        stage.found.layout.data_dir(host).mkdir()
        store = LogStore(stage.found.layout.data_dir(host) / f"order-{host}.db")
        store.adopt(1, INITIAL)
        store.append(log)
        store.close()
    stage.found.stocks = list(fold(INITIAL, log).values())
    return stage


def test_a_run_passes_when_disks_and_catalogs_agree(stage: ThreeHosts, tmp_path: Path) -> None:
    assert stage.problems_on_disk(tmp_path, [], float("inf")) == []


def test_a_run_fails_when_the_catalogs_showed_another_quantity(stage: ThreeHosts, tmp_path: Path) -> None:
    assert stage.found is not None
    stage.found.stocks = INITIAL
    assert stage.problems_on_disk(tmp_path, [], float("inf")) == [
        "K5: the catalog's stocks are not what the log adds up to"
    ]


def test_a_run_fails_when_one_host_has_lost_an_order(stage: ThreeHosts, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "host-2" / "order-2.db")) as database, database:
        assert database.execute("DELETE FROM log WHERE position = 2").rowcount == 1
    assert "K5: order-2 has 1 entries at rest, another replica 2" in stage.problems_on_disk(tmp_path, [], float("inf"))


def entries(*trades: tuple[Type, int]) -> list[Entry]:
    """A log of accepted trades."""
    head, log = empty_head(INITIAL), []
    for kind, quantity in trades:
        number = head.number + 1
        draft = Entry(
            position=number, number=number, key=f"key-{number}", name="FishCo", type=kind, quantity=quantity,
            price=100, at=0, digest="",
        )  # fmt: skip
        log.append(draft.model_copy(update={"digest": entry_digest(head.digest, draft)}))
        head = head_at(log[-1], head)
    return log


# Where it cannot be done.


def test_somebody_who_is_not_root_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotDo, match=r"need root.*--no-namespaces"):
        check_namespaces()


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "nsenter" else f"/bin/{name}")
    with pytest.raises(CannotDo, match="nsenter is not installed"):
        check_namespaces()


async def test_it_is_said_how_to_install_etcd_when_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotDo, match=r"etcd is not installed.*apt-get install"):
        async with running_hosts(tmp_path, namespaces=False):
            pass


# Its processes.


async def test_a_process_that_ends_by_itself_is_a_verdict(tmp_path: Path) -> None:
    process = HostProcess("order-1", ["sh", "-c", "echo last words; exit 3"], dict(os.environ), tmp_path / "log")
    await process.start()
    assert process.pid is not None
    await process.ended()
    with pytest.raises(Failed, match=r"order-1 ended by itself, with status 3:\nlast words"):
        process.check()
    await process.kill()
    process.check()
    assert process.pid is None
