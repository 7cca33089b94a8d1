"""What the machine on EC2 is given: the template, the user-data and the units, judged by those who will read them."""

import shlex
import shutil
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml  # type: ignore[import-untyped]

from eval.ec2 import stack
from eval.ec2.cluster_file import cluster
from services.cluster.topology import command
from services.common.settings import CatalogSettings, FrontEndSettings, OrderSettings, ServiceSettings

MACHINE = stack.HERE / "machine"
UNITS = MACHINE / "units"
DATA = Path("/var/lib/bazaar")
SERVICES: dict[str, tuple[str, type[ServiceSettings]]] = {
    "catalog": ("bazaar-catalog.service", CatalogSettings),
    "order-1": ("bazaar-order@1.service", OrderSettings),
    "order-2": ("bazaar-order@2.service", OrderSettings),
    "order-3": ("bazaar-order@3.service", OrderSettings),
    "front-end-1": ("bazaar-front-end.service", FrontEndSettings),
}


def needs(program: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs the Debian package {package}")


def output_of(*arguments: str | Path) -> str:
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def unit(name: str) -> RawConfigParser:
    """A unit as systemd reads it, %i filled in."""
    stem, at, instance = name.removesuffix(".service").partition("@")
    path = UNITS / (f"{stem}@.service" if at else name)
    parser = RawConfigParser(delimiters="=", comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text().replace("%i", instance))
    return parser


def properties() -> dict[str, Any]:
    """Of the machine in the template."""
    template: dict[str, Any] = cfn_yaml.load(str(stack.TEMPLATE))
    result: dict[str, Any] = template["Resources"]["Machine"]["Properties"]
    return result


def test_template_has_no_fault_when_cfn_lint_reads_it() -> None:
    lint = Path(sys.executable).with_name("cfn-lint")
    assert output_of(lint, "--region", "us-east-1", "--template", stack.TEMPLATE) == ""


def test_machine_is_gone_with_its_disk_when_it_switches_itself_off() -> None:
    machine = properties()
    assert machine["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert [each["Ebs"]["DeleteOnTermination"] for each in machine["BlockDeviceMappings"]] == [True]
    assert machine["PropagateTagsToVolumeOnCreation"], "or a volume that stays would not be found"


def test_metadata_needs_a_token_when_a_process_asks() -> None:
    assert properties()["MetadataOptions"]["HttpTokens"] == "required"


@needs("cloud-init", "cloud-init")
def test_user_data_has_no_fault_when_cloud_init_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_text(stack.user_data('ssh-ed25519 AAAA "somebody"', 4))
    assert "Valid" in output_of("cloud-init", "schema", "--config-file", file)


def test_the_key_travels_without_its_comment_when_it_has_one() -> None:
    assert '"ssh-ed25519 AAAA"' in stack.user_data('ssh-ed25519 AAAA some"body\n', 4)


def test_the_end_is_set_in_the_background_when_the_machine_starts() -> None:
    """In the foreground systemd-run would wait for a stage of the start that waits for it, for ever."""
    (line,) = (each for each in stack.user_data("ssh-ed25519 AAAA", 4).splitlines() if "machine-end" in each)
    assert line == "  - systemd-run --on-boot=4h --unit=machine-end systemctl poweroff >/dev/null 2>&1 &"


@needs("systemd-analyze", "systemd")
def test_units_have_no_fault_when_systemd_reads_them(tmp_path: Path) -> None:
    shutil.copytree(UNITS, tmp_path / "etc" / "systemd" / "system")
    shutil.copytree("/lib/systemd/system", tmp_path / "lib" / "systemd" / "system", symlinks=True)
    python = tmp_path / "opt" / "bazaar" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    shutil.copy("/bin/true", python)
    names = ["bazaar.target", *(name for name, _ in SERVICES.values())]
    said = output_of("systemd-analyze", f"--root={tmp_path}", "verify", *names)
    assert "bazaar" not in said, said


@pytest.mark.parametrize("service", SERVICES)
def test_settings_are_those_of_bazaar_up_when_systemd_starts_a_service(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, settings = SERVICES[service]
    topology = cluster()
    (expected,) = (command(topology, each, DATA) for each in topology.services if each.name == service)
    started = shlex.split(unit(name)["Service"]["ExecStart"])
    assert started[:3] == ["/opt/bazaar/.venv/bin/python", *expected[1:3]]
    wanted = settings(_cli_parse_args=expected[3:])
    for line in (MACHINE / "bazaar.env").read_text().splitlines():
        if not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    found = settings(_cli_parse_args=started[3:])
    public = {"host": "0.0.0.0"} if service == "front-end-1" else {}
    assert found.model_dump() == wanted.model_dump() | public


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_started_again_when_it_ends(service: str) -> None:
    read = unit(SERVICES[service][0])
    assert read["Service"]["Restart"] == "always"
    assert read["Unit"]["StartLimitIntervalSec"] == "0"
    assert read["Service"]["RestartPreventExitStatus"] == "3"


def test_every_service_is_wanted_when_the_target_starts() -> None:
    assert unit("bazaar.target")["Unit"]["Wants"].split() == [name for name, _ in SERVICES.values()]
    assert {each.name for each in cluster().services} == set(SERVICES)
