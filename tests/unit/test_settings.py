"""Settings: flags, else environment, else defaults; what makes no sense ends with status 2 and says why."""

import os
import sys
from pathlib import Path
from typing import TypeVar

import pytest

from services.common.launch import load_settings
from services.common.settings import CatalogSettings, FrontEndSettings, OrderSettings, ServiceSettings
from services.common.tls import TlsFiles

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)

REPLICAS = "1=http://127.0.0.1:8011,2=http://127.0.0.1:8012"
ADDRESSES = {1: "http://127.0.0.1:8011", 2: "http://127.0.0.1:8012"}


class Shell:
    """Starts a service with flags and environment variables."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        for name in [name for name in os.environ if name.startswith("BAZAAR_")]:
            monkeypatch.delenv(name)
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, kind: type[SettingsT], *flags: str, **environment: str) -> SettingsT:
        self._monkeypatch.setattr(sys, "argv", ["service", *flags])
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        return load_settings(kind)

    def refusal(self, kind: type[ServiceSettings], *flags: str, **environment: str) -> str:
        """What is said on standard error when it ends with status 2."""
        with pytest.raises(SystemExit) as ended:
            self.run(kind, *flags, **environment)
        assert ended.value.code == 2
        said = self._capsys.readouterr()
        assert not said.out
        assert "Traceback" not in said.err
        return said.err


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


def test_everything_comes_from_flags_when_they_are_given(shell: Shell) -> None:
    settings = shell.run(
        CatalogSettings,
        *("--host", "0.0.0.0", "--port", "9010", "--data-dir", "/tmp/some where", "--log-level", "debug"),  # noqa: S108
        *("--replicas", REPLICAS, "--stocks", "mine.csv", "--lost", "1,2"),
    )
    assert settings.host == "0.0.0.0"
    assert settings.port == 9010
    assert settings.data_dir == Path("/tmp/some where")  # noqa: S108
    assert settings.log_level == "debug"
    assert settings.replicas == ADDRESSES
    assert settings.stocks == Path("mine.csv")
    assert settings.lost == [1, 2]


def test_everything_comes_from_the_environment_when_there_are_no_flags(shell: Shell) -> None:
    settings = shell.run(
        OrderSettings,
        BAZAAR_PORT="9012",
        BAZAAR_REPLICA_ID="2",
        BAZAAR_CATALOG="http://10.0.0.1:8010",
        BAZAAR_REPLICAS=REPLICAS,
        BAZAAR_DATA_DIR="/srv/bazaar",
    )
    assert settings.port == 9012
    assert settings.replica_id == 2
    assert settings.catalog == ["http://10.0.0.1:8010"]
    assert settings.replicas == ADDRESSES
    assert settings.data_dir == Path("/srv/bazaar")


def test_the_flag_wins_when_the_environment_says_otherwise(shell: Shell) -> None:
    settings = shell.run(
        CatalogSettings, "--port", "1", "--replicas=1=http://a", BAZAAR_PORT="2", BAZAAR_REPLICAS=REPLICAS
    )
    assert settings.port == 1
    assert settings.replicas == {1: "http://a"}


def test_defaults_are_taken_when_nothing_is_said(shell: Shell) -> None:
    catalog = shell.run(CatalogSettings, "--replicas", REPLICAS)
    assert (catalog.host, catalog.port, catalog.data_dir) == ("127.0.0.1", 8010, Path("data"))
    assert catalog.stocks is None
    assert catalog.lost == []
    front_end = shell.run(FrontEndSettings, "--replicas", REPLICAS)
    assert (front_end.port, front_end.internal_port, front_end.cache_size) == (8000, 8021, 10)
    assert front_end.internal_url == "http://127.0.0.1:8021"
    assert shell.run(OrderSettings, "--replicas", REPLICAS, "--replica-id", "1").port == 8011


def test_environment_of_others_is_ignored(shell: Shell) -> None:
    assert shell.run(CatalogSettings, "--replicas", REPLICAS, BAZAAR_NONSENSE="1", PORT="99").port == 8010


def test_slash_at_the_end_of_an_address_is_dropped(shell: Shell) -> None:
    assert shell.run(CatalogSettings, "--replicas", "1=http://a:1/,2=http://b:2").replicas == {
        1: "http://a:1",
        2: "http://b:2",
    }


@pytest.mark.parametrize("given", ["http://a:1/,http://b:2/", " http://a:1 , http://b:2", "http://a:1,,http://b:2,"])
def test_addresses_of_catalogs_may_be_written_carelessly(shell: Shell, given: str) -> None:
    settings = shell.run(OrderSettings, "--replicas", REPLICAS, "--replica-id", "1", "--catalog", given)
    assert settings.catalog == ["http://a:1", "http://b:2"]


@pytest.mark.parametrize("given", ["", ",", "a:1", "http://", "http://a:1/b", "http://a:1;http://b:2", "ftp://a:1"])
def test_a_line_says_what_is_wrong_when_there_is_no_address_of_a_catalog(shell: Shell, given: str) -> None:
    assert "catalog" in shell.refusal(FrontEndSettings, "--replicas", REPLICAS, f"--catalog={given}")


def test_addresses_may_be_given_as_values(shell: Shell) -> None:
    assert CatalogSettings(replicas={3: "http://c"}, lost=[3]).lost == [3]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--port", "eight"], "port"),
        (["--port", "8010.5"], "port"),
        (["--port", "-1"], "port"),
        (["--port", "65536"], "port"),
        (["--lost", "1,x"], "lost"),
        (["--log-level", "loud"], "log"),
        (["--replicas", "1"], "replicas"),
        (["--replicas", "1="], "replicas"),
        (["--replicas", "=http://a"], "replicas"),
        (["--replicas", "x=http://a"], "replicas"),
        (["--replicas", "1=a:8011"], "replicas"),
        (["--replicas", "1=http://a,1=http://b"], "replicas"),
        (["--replicas", "0=http://a"], "replicas"),
        (["--replicas", "10=http://a"], "replicas"),
        (["--replicas", "-1=http://a"], "replicas"),
        (["--replicas", ""], "replicas"),
        (["--replicas", ","], "replicas"),
        (["--nonsense", "1"], "nonsense"),
        (["surplus"], "surplus"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_status_2_and_the_reason_when_a_flag_makes_no_sense(shell: Shell, flags: list[str], reason: str) -> None:
    given = [] if "--replicas" in flags else ["--replicas", REPLICAS]
    assert reason in shell.refusal(CatalogSettings, *given, *flags)


def test_status_2_and_the_reason_when_something_needed_is_missing(shell: Shell) -> None:
    assert "replicas" in shell.refusal(CatalogSettings)
    said = shell.refusal(OrderSettings, "--replicas", REPLICAS)
    assert "replica" in said


@pytest.mark.parametrize("value", ["0", "10", "-1", "1.5", "one"])
def test_status_2_when_the_replica_id_is_out_of_range(shell: Shell, value: str) -> None:
    assert "replica" in shell.refusal(OrderSettings, "--replicas", REPLICAS, "--replica-id", value)


@pytest.mark.parametrize(
    "flags",
    [
        ["--cache-size", "-1"],
        ["--cache-size", "1000001"],
        ["--max-trades", "0"],
        ["--internal-port", "x"],
        ["--refused-trades-per-s", "-1"],
        ["--refused-trades-per-s", "inf"],
        ["--refused-trades-per-s", "nan"],
        ["--refused-trades-burst", "0"],
        ["--max-connections", "0"],
        ["--max-requests", "0"],
        ["--max-head-bytes", "10"],
        ["--max-body-bytes", "10"],
        ["--arrival-timeout-s", "0"],
        ["--idle-timeout-s", "inf"],
    ],
)
def test_status_2_when_a_limit_is_out_of_range(shell: Shell, flags: list[str]) -> None:
    assert flags[0].removeprefix("--").split("-")[0] in shell.refusal(FrontEndSettings, "--replicas", REPLICAS, *flags)


def test_status_2_and_the_reason_when_the_environment_makes_no_sense(shell: Shell) -> None:
    assert "port" in shell.refusal(CatalogSettings, "--replicas", REPLICAS, BAZAAR_PORT="eight")


def test_help_names_every_flag_and_ends_with_status_0(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        shell.run(CatalogSettings, "--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for flag in ("--host", "--port", "--data-dir", "--log-level", "--replicas", "--stocks", "--lost"):
        assert flag in said


TLS = ("--tls-certificate", "a.crt", "--tls-key", "a.key", "--tls-authority", "authority.crt")


def test_internal_traffic_is_encrypted_when_three_files_are_given(shell: Shell) -> None:
    settings = shell.run(FrontEndSettings, "--replicas", REPLICAS, "--internal-host", "10.0.0.1", *TLS)
    assert settings.tls == TlsFiles(Path("a.crt"), Path("a.key"), Path("authority.crt"))
    assert settings.internal_url == "https://10.0.0.1:8021"


@pytest.mark.parametrize("left_out", [0, 2, 4])
def test_start_is_refused_when_a_file_for_tls_is_missing(shell: Shell, left_out: int) -> None:
    flags = TLS[:left_out] + TLS[left_out + 2 :]
    said = shell.refusal(CatalogSettings, "--replicas", REPLICAS, *flags)
    assert said == (
        "Value error, --tls-certificate, --tls-key and --tls-authority go together: give all three or none\n"
    )


def test_internal_traffic_is_plain_when_no_files_are_given(shell: Shell) -> None:
    assert shell.run(CatalogSettings, "--replicas", REPLICAS).tls is None


@pytest.mark.parametrize(
    ("store", "urls", "prefix"),
    [
        ("etcd://a:1", ["http://a:1"], "bazaar"),
        ("etcd://a:1,10.0.0.2:2379,c.d:3/", ["http://a:1", "http://10.0.0.2:2379", "http://c.d:3"], "bazaar"),
        ("etcd://a:1,b:2/other", ["http://a:1", "http://b:2"], "other"),
        ("etcds://a:1,b:2/other", ["https://a:1", "https://b:2"], "other"),
    ],
)
def test_a_store_on_etcd_is_its_addresses_and_a_prefix(shell: Shell, store: str, urls: list[str], prefix: str) -> None:
    flags = TLS if store.startswith("etcds") else ()
    assert shell.run(CatalogSettings, "--replicas", REPLICAS, "--store", store, *flags).etcd == (urls, prefix)


def test_status_2_and_what_is_missing_when_etcd_is_to_speak_tls_without_certificates(shell: Shell) -> None:
    said = shell.refusal(CatalogSettings, "--replicas", REPLICAS, "--store", "etcds://a:1")
    assert "etcds:// needs --tls-certificate, --tls-key and --tls-authority" in said


@pytest.mark.parametrize(
    ("flags", "path"),
    [
        ([], "there/catalog.db"),
        (["--store", "sqlite:///some/where.db"], "some/where.db"),
        (["--store", "sqlite:////root/where.db"], "/root/where.db"),
    ],
)
def test_the_embedded_store_is_a_file(shell: Shell, flags: list[str], path: str) -> None:
    settings = shell.run(CatalogSettings, "--replicas", REPLICAS, "--data-dir", "there", *flags)
    assert settings.etcd is None
    assert settings.database == Path(path)


@pytest.mark.parametrize(
    "store",
    [
        "",
        "sqlite:///",
        "sqlite:/x",
        "etcd://",
        "etcd://a",
        "etcd://a:1,",
        "etcd://a:1,b",
        "redis://a:1",
        "etcd://a:1/b/c",
    ],
)
def test_status_2_and_the_form_when_a_store_makes_no_sense(shell: Shell, store: str) -> None:
    said = shell.refusal(CatalogSettings, "--replicas", REPLICAS, "--store", store)
    assert "sqlite:///PATH or etcd://host:port" in said
