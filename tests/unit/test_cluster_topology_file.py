"""The topology file: what it means on each host, and what is said when it is wrong."""

import re
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cluster.errors import CannotDo, UsageError
from services.cluster.folder import find_cluster, write_cluster
from services.cluster.hosts import plan_this_host, this_host
from services.cluster.topology import Cluster, Listen, Settings, command, plan
from services.cluster.topology_file import plan_host, read_topology
from services.common.settings import CatalogSettings, FrontEndSettings, OrderSettings
from services.common.tls import TlsFiles

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "topology.toml"

TWO = """
secret_file = "secret"

[hosts.a]
address = "10.0.0.1"

[hosts.b]
address = "10.0.0.2"

[[catalogs]]
id = 1
host = "a"
port = 8010

[[replicas]]
id = 1
host = "a"
port = 8011

[[replicas]]
id = 2
host = "b"
port = 8012

[[front_ends]]
id = 1
host = "b"
port = 8000
internal_port = 8021
"""
"""Two hosts, no TLS, one catalog."""


def written(folder: Path, text: str) -> Path:
    path = folder / "topology.toml"
    path.write_text(text)
    return path


def seen_from(path: Path, host: str) -> Cluster:
    return plan_host(read_topology(path), path, host)


def started(cluster: Cluster, name: str) -> list[str]:
    """The flags of a service."""
    service = next(each for each in cluster.services if each.name == name)
    return command(cluster, service, Path("d"))[3:]


def test_every_host_runs_its_own_part_when_the_example_is_read() -> None:
    parts = {host: [each.name for each in seen_from(EXAMPLE, host).own] for host in ("a", "b", "c")}
    assert parts == {
        "a": ["catalog-1", "order-1", "front-end-1"],
        "b": ["catalog-2", "order-2", "front-end-2"],
        "c": ["catalog-3", "order-3", "front-end-3"],
    }


def test_services_understand_their_flags_when_the_example_is_read() -> None:
    cluster = seen_from(EXAMPLE, "b")
    folder = EXAMPLE.parent
    files = TlsFiles(folder / "tls" / "b.crt", folder / "tls" / "b.key", folder / "tls" / "authority.crt")
    catalogs = [f"https://10.0.0.{n}:8010" for n in (1, 2, 3)]
    replicas = {n: f"https://10.0.0.{n}:8011" for n in (1, 2, 3)}
    catalog = CatalogSettings(_cli_parse_args=started(cluster, "catalog-2"))
    assert (catalog.host, catalog.port, catalog.replicas) == ("10.0.0.2", 8010, replicas)
    assert catalog.store == "etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379"
    order = OrderSettings(_cli_parse_args=started(cluster, "order-2"))
    assert (order.host, order.port, order.catalog, order.replicas) == ("10.0.0.2", 8011, catalogs, replicas)
    front_end = FrontEndSettings(_cli_parse_args=started(cluster, "front-end-2"))
    assert (front_end.host, front_end.port, front_end.name) == ("10.0.0.2", 8000, "front-end-2")
    assert (front_end.internal_host, front_end.internal_port) == ("10.0.0.2", 8021)
    assert front_end.internal_url == "https://10.0.0.2:8021"
    assert (front_end.catalog, front_end.replicas, front_end.cache_size) == (catalogs, replicas, 10)
    for settings in (catalog, order, front_end):
        assert settings.tls == files
        assert settings.secret_file == folder / "secret"


def test_customers_are_served_in_plain_http_when_there_is_tls() -> None:
    assert [each.url for each in seen_from(EXAMPLE, "a").of("front-end")] == [
        f"http://10.0.0.{n}:8000" for n in (1, 2, 3)
    ]


def test_traffic_is_plain_and_the_only_catalog_has_no_number_when_the_file_says_nothing(tmp_path: Path) -> None:
    cluster = seen_from(written(tmp_path, TWO), "b")
    assert {each.name: (each.host, each.url, each.internal_url) for each in cluster.services} == {
        "catalog": ("a", "http://10.0.0.1:8010", "http://10.0.0.1:8010"),
        "order-1": ("a", "http://10.0.0.1:8011", "http://10.0.0.1:8011"),
        "order-2": ("b", "http://10.0.0.2:8012", "http://10.0.0.2:8012"),
        "front-end-1": ("b", "http://10.0.0.2:8000", "http://10.0.0.2:8021"),
    }
    assert cluster.elsewhere == {"catalog": "a", "order-1": "a"}
    assert cluster.control == "http://127.0.0.1:8009"
    assert cluster.settings.tls is None
    assert cluster.listens == [
        Listen("10.0.0.2", 8000, "front-end-1"),
        Listen("127.0.0.1", 8009, "control room"),
        Listen("10.0.0.2", 8012, "order-2"),
        Listen("10.0.0.2", 8021, "front-end-1"),
    ]


def test_a_host_listens_elsewhere_when_it_says_so(tmp_path: Path) -> None:
    text = TWO.replace('"10.0.0.2"', '"10.0.0.2"\nlisten = "0.0.0.0"\ncontrol = "[::1]:9009"')
    cluster = seen_from(written(tmp_path, text), "b")
    front_end = FrontEndSettings(_cli_parse_args=started(cluster, "front-end-1"))
    assert (front_end.host, front_end.internal_host) == ("0.0.0.0", "0.0.0.0")
    assert front_end.internal_url == "http://10.0.0.2:8021"
    assert OrderSettings(_cli_parse_args=started(cluster, "order-2")).host == "0.0.0.0"
    assert cluster.control == "http://[::1]:9009"
    assert cluster.settings.control_host == "::1"


def test_address_of_version_6_is_written_in_brackets(tmp_path: Path) -> None:
    cluster = seen_from(written(tmp_path, TWO.replace("10.0.0.2", "fd00::2")), "b")
    front_end = FrontEndSettings(_cli_parse_args=started(cluster, "front-end-1"))
    assert (front_end.internal_host, front_end.internal_url) == ("fd00::2", "http://[fd00::2]:8021")
    assert front_end.replicas == {1: "http://10.0.0.1:8011", 2: "http://[fd00::2]:8012"}


def test_certificate_is_good_for_the_address_and_the_names_of_a_host(tmp_path: Path) -> None:
    text = TWO.replace('"10.0.0.2"', '"10.0.0.2"\nnames = ["b.example", "10.1.0.2"]')
    topology = read_topology(written(tmp_path, text))
    assert topology.addresses("b") == ["10.0.0.2", "b.example", "10.1.0.2", "b"]


def test_cluster_of_several_hosts_is_read_as_it_was_written(tmp_path: Path) -> None:
    cluster = seen_from(EXAMPLE, "c")
    write_cluster(tmp_path, cluster)
    assert find_cluster(tmp_path) == cluster


def test_cluster_of_one_machine_is_written_as_ever(tmp_path: Path) -> None:
    """So that an older version finds nothing new in it."""
    write_cluster(tmp_path, plan(Settings()))
    text = (tmp_path / "cluster.json").read_text()
    assert not [
        word for word in ('"host"', '"topology"', '"tls"', '"listen"', '"store"', '"secret_file"') if word in text
    ]


# What is wrong.


def changed(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "no TOML": (changed("[hosts.a]", "[hosts.a"), r"this is no TOML: .*line 4"),
    "a key twice": (changed("port = 8010", "port = 8010\nport = 8010"), r"this is no TOML: .*line 14"),
    "unknown key": (
        changed("id = 1", "prot = 1\nid = 1"),
        r"\[\[catalogs\]\] number 1, there is no key `prot`; did .*`port`",
    ),
    "unknown key at the top": (
        changed("secret_file", "cachesize = 3\nsecret_file"),
        r": there is no key `cachesize`; .*`cache_size`",
    ),
    "unknown key of a host": (
        changed("address", "x = 1\naddress"),
        r"\[hosts.a\] there is no key `x`; known here: address, l",
    ),
    "unknown table": (changed("[hosts.a]", "[peers]\n[hosts.a]"), r"there is no key `peers`"),
    "no address": (changed('address = "10.0.0.2"', ""), r"\[hosts.b\] `address` is missing"),
    "no port": (changed("port = 8012", ""), r"\[\[replicas\]\] number 2, `port` is missing"),
    "no internal port": (
        changed("internal_port = 8021", ""),
        r"\[\[front_ends\]\] number 1, `internal_port` is missing",
    ),
    "no replicas": (lambda text: re.sub(r"\[\[replicas\]\][^[]*", "", text), "`replicas` is missing"),
    "no hosts": (lambda text: re.sub(r"\[hosts[^[]*", "", text), "`hosts` is missing"),
    "no secret": (changed('secret_file = "secret"', ""), "`secret_file` is missing: .*bazaar certs"),
    "text for a number": (
        changed("port = 8010", 'port = "8010"'),
        r"\[\[catalogs\]\] number 1, `port`: .*valid integer",
    ),
    "truth for a number": (changed("id = 2", "id = true"), r"\[\[replicas\]\] number 2, `id`: .*valid integer"),
    "port too high": (changed("port = 8010", "port = 40000"), r"`port`: .*less than 32768 \(ports are 1024 to 32767\)"),
    "port too low": (changed("port = 8010", "port = 80"), r"`port`: .*greater than or equal to 1024"),
    "port twice on a host": (
        changed("port = 8011", "port = 8010"),
        r"\[\[replicas\]\] number 1, `port`: 8010 .*host a by its catalog$",
    ),
    "port of the control room": (
        changed("port = 8012", "port = 8009"),
        r"number 2, `port`: 8009 .* host b by its control room",
    ),
    "both ports of a front-end": (
        changed("internal_port = 8021", "internal_port = 8000"),
        r"`internal_port`: 8000 .*its front-end-1",
    ),
    "id twice": (changed("id = 2", "id = 1"), r"\[\[replicas\]\]: the `id`s must be 1, 2, 3, .*here: 1, 1"),
    "id left out": (changed("id = 2", "id = 3"), r"\[\[replicas\]\]: the `id`s must be .*here: 1, 3"),
    "id too high": (changed("id = 2", "id = 10"), r"number 2, `id`: .*less than or equal to 9"),
    "host of a service unknown": (
        changed('host = "b"', 'host = "z"'),
        r"\[\[replicas\]\] number 2, `host`: there is no \[hosts.z\]; there are: a, b",
    ),
    "host without a service": (
        changed("[hosts.a]", '[hosts.c]\naddress = "10.0.0.3"\n[hosts.a]'),
        r"\[hosts.c\] runs no service",
    ),
    "address twice": (changed("10.0.0.2", "10.0.0.1"), r"\[hosts.b\]: 10.0.0.1 is that of \[hosts.a\]"),
    "address of another form twice": (
        lambda text: text.replace("10.0.0.1", "fd00::1").replace("10.0.0.2", "fd00:0::1"),
        r"\[hosts.b\]: fd00:0::1 is that of",
    ),
    "no address at all": (
        changed("10.0.0.2", "http://10.0.0.2"),
        r"\[hosts.b\] `address`: 'http://10.0.0.2' is no address",
    ),
    "every address": (
        changed("10.0.0.2", "0.0.0.0"),
        r"\[hosts.b\] `address`: others cannot reach 0.0.0.0; write it as `listen`",
    ),
    "odd name of a host": (
        lambda text: text.replace("hosts.b", 'hosts."b/c"').replace('"b"', '"b/c"'),
        r"a host's name is 1 to 63",
    ),
    "no control room": (
        changed('"10.0.0.2"', '"10.0.0.2"\ncontrol = "8009"'),
        r"\[hosts.b\] `control`: '8009' is no address with a port",
    ),
    "several catalogs without etcd": (
        changed("[[replicas]]", '[[catalogs]]\nid = 2\nhost = "b"\nport = 8010\n[[replicas]]'),
        r"`store`: 2 catalogs need an etcd",
    ),
    "odd store": (
        changed("secret_file", 'store = "redis://x"\nsecret_file'),
        r"`store`: 'redis://x' is none; write sqlite",
    ),
    "etcd with TLS, and no certificates": (
        changed("secret_file", 'store = "etcds://a:1"\nsecret_file'),
        r"`store`: etcds:// needs the table \[tls\]",
    ),
    "half of TLS": (lambda text: text + '[tls]\nkey = "k"\n', r"\[tls\] `authority` is missing"),
    "odd durability": (
        changed("secret_file", 'durability = "tape"\nsecret_file'),
        r"`durability`: .*'disk' or 'process'",
    ),
    "cache too small": (
        changed("secret_file", "cache_size = -1\nsecret_file"),
        r"`cache_size`: .*greater than or equal to 0",
    ),
    "one table for many": (changed("[[catalogs]]", "[catalogs]"), r"`catalogs`: .*valid list"),
}


@pytest.mark.parametrize("fault", BAD)
def test_file_is_refused_with_the_place_in_it_when_it_is_wrong(fault: str, tmp_path: Path) -> None:
    change, says = BAD[fault]
    path = written(tmp_path, change(TWO))
    with pytest.raises(UsageError) as refused:
        read_topology(path)
    lines = str(refused.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert re.search(says, lines[0]), lines


def test_file_is_refused_when_it_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--topology .*No such file"):
        read_topology(tmp_path / "none.toml")
    (tmp_path / "odd.toml").write_bytes(b"# \xff")
    with pytest.raises(UsageError, match="byte 2 is no UTF-8"):
        read_topology(tmp_path / "odd.toml")


def test_every_key_is_explained_in_the_example() -> None:
    """Also those that are left out, as comments."""
    text = EXAMPLE.read_text()
    whole = tomllib.loads(re.sub(r"(?m)^# (\w+ = )", r"\1", text))
    assert {"store", "stocks", "cache_size", "durability", "secret_file", "tls", "hosts"} < whole.keys()
    assert whole["hosts"]["a"].keys() == {"address", "listen", "names", "control"}


# Which host this is.


def test_host_is_found_when_one_address_is_this_machines(tmp_path: Path) -> None:
    path = written(tmp_path, TWO.replace("10.0.0.2", "127.0.0.1").replace("10.0.0.1", "240.0.0.1"))
    assert plan_this_host(path, None, restart="never", lost=["order-1"]).host == "b"


def test_host_is_asked_for_when_it_may_be_several(tmp_path: Path) -> None:
    path = written(tmp_path, TWO.replace("10.0.0.", "127.0.0."))
    topology = read_topology(path)
    with pytest.raises(UsageError, match=r"several hosts of .*: say which with --host a"):
        this_host(topology, path, None)
    assert this_host(topology, path, "b") == "b"


def test_host_is_asked_for_when_it_may_be_none(tmp_path: Path) -> None:
    path = written(tmp_path, TWO.replace("10.0.0.", "240.0.0."))
    with pytest.raises(UsageError, match=r"the address of no host in .* \(a, b\)"):
        this_host(read_topology(path), path, None)


def test_host_is_refused_when_it_is_another_machine(tmp_path: Path) -> None:
    path = written(tmp_path, TWO.replace("10.0.0.", "240.0.0."))
    with pytest.raises(CannotDo, match=r"host a of .* is not this machine: 240.0.0.1: "):
        this_host(read_topology(path), path, "a")
    with pytest.raises(UsageError, match=r"--host z: there is no \[hosts.z\] in .*; there are: a, b"):
        this_host(read_topology(path), path, "z")


def test_host_is_found_when_its_name_leads_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo
    names = {"a.example": "240.0.0.1", "b.example": "127.0.0.1"}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: resolve(names.get(host, host), *rest, **more)
    )
    path = written(tmp_path, TWO.replace("10.0.0.1", "a.example").replace("10.0.0.2", "b.example"))
    assert this_host(read_topology(path), path, None) == "b"
