"""The units in docs/examples: without a fault to systemd, and with flags that mean what the topology means."""

import os
import shlex
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest

from services.cluster.topology import command
from services.cluster.topology_file import plan_host, read_topology
from services.common.settings import OrderSettings

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
UNITS = EXAMPLES / "systemd"
CREDENTIALS = "/run/credentials/bazaar-order@2.service"


def unit(name: str, instance: str = "") -> RawConfigParser:
    """A unit as systemd reads it, %i filled in."""
    parser = RawConfigParser(delimiters="=", comment_prefixes="#", strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((UNITS / name).read_text().replace("\\\n", " ").replace("%i", instance))
    return parser


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs the Debian package systemd")
def test_units_have_no_fault_when_systemd_reads_them(tmp_path: Path) -> None:
    system = tmp_path / "etc" / "systemd" / "system"
    system.mkdir(parents=True)
    for path in UNITS.glob("*.service"):
        shutil.copy(path, system)
    shutil.copytree("/lib/systemd/system", tmp_path / "lib" / "systemd" / "system", symlinks=True)
    programs = tmp_path / "opt" / "bazaar" / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "bazaar"):
        shutil.copy("/bin/true", programs / name)
    checked = ["bazaar-order@2.service", "bazaar-host.service"]
    done = subprocess.run(
        ["systemd-analyze", f"--root={tmp_path}", "verify", *checked],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "bazaar" not in done.stdout, done.stdout


def test_replica_is_told_what_the_topology_says_when_systemd_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    topology = EXAMPLES / "topology.toml"
    cluster = plan_host(read_topology(topology), topology, "b")
    (service,) = (each for each in cluster.services if each.name == "order-2")
    wanted = OrderSettings(_cli_parse_args=command(cluster, service, Path("/var/lib/bazaar"))[3:])
    for name in [name for name in os.environ if name.startswith("BAZAAR_")]:
        monkeypatch.delenv(name)
    for line in (UNITS / "bazaar.env").read_text().splitlines():
        if not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    started = unit("bazaar-order@.service", "2")["Service"]["ExecStart"].replace(
        "${CREDENTIALS_DIRECTORY}", CREDENTIALS
    )
    parts = shlex.split(started)
    assert parts[:3] == ["/opt/bazaar/.venv/bin/python", "-m", "services.order"]
    found = OrderSettings(_cli_parse_args=parts[3:])
    files = {"secret_file", "tls_certificate", "tls_key", "tls_authority"}
    assert found.model_dump(exclude=files) == wanted.model_dump(exclude=files)
    assert found.secret_file == Path(CREDENTIALS) / "secret"
    assert found.tls is not None
    assert found.tls.key == Path(CREDENTIALS) / "tls.key"


def test_every_credential_that_is_used_is_loaded() -> None:
    text = (UNITS / "bazaar-order@.service").read_text()
    loaded = {line.split("=")[1].split(":")[0] for line in text.splitlines() if line.startswith("LoadCredential=")}
    used = {word.rpartition("/")[2] for word in text.split() if word.startswith("${CREDENTIALS_DIRECTORY}/")}
    assert used == loaded == {"secret", "tls.key"}


def test_services_are_stopped_in_order_when_their_supervisor_is_a_unit() -> None:
    service = unit("bazaar-host.service")["Service"]
    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"]) >= 3 * 5 + 5
