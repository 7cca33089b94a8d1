"""The machine on EC2 is made, used and removed, by the code that does it for real: AWS is moto, ssh is a script."""

import base64
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws
from typer.testing import CliRunner

from eval.ec2 import deployment, evaluation, release, state
from eval.ec2.cli import app
from eval.ec2.cost import REGION
from eval.ec2.remote import Remote
from eval.ec2.stack import Stack, parameters, user_data
from eval.ec2.state import Deployment
from services.cluster.errors import CannotDo

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagTypeDef

IMAGE = "/test/debian"
AN_IMAGE_OF_MOTO = "ami-03cf127a"
CALLER = "198.51.100.7/32"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOyprWi368Sc7sxRI0xuOCp somebody"
SSH = """#!/bin/sh
# Notes the command, keeps what came with it, and says what the test laid ready.
for text; do :; done
printf '%s\\n' "$text" >> "{folder}/commands"
cat > "{folder}/standard-input"
if [ -s "{folder}/standard-input" ]; then mv "{folder}/standard-input" "{folder}/sent"; fi
[ ! -e "{folder}/answer" ] || cat "{folder}/answer"
[ "$text" != "$(cat "{folder}/failing" 2>/dev/null)" ] || exit 3
exit "$(cat "{folder}/status" 2>/dev/null || echo 0)"
"""


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS of this test's own, with one image in it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "pretended")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        boto3.client("ssm", REGION).put_parameter(Name=IMAGE, Value=AN_IMAGE_OF_MOTO, Type="String")
        yield


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a machine that does nothing but listen to ssh."""
    folder = tmp_path / "machine"
    folder.mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH.format(folder=folder))
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(deployment, "wait_ready", lambda url: None)  # moto's addresses belong to somebody
    return folder


@pytest.fixture
def stack(aws: None) -> Stack:
    return Stack("bazaar", REGION, poll_s=0)


@pytest.fixture
def wanted(tmp_path: Path) -> deployment.Wanted:
    key = tmp_path / "id.pub"
    key.write_text(KEY)
    return deployment.Wanted(public_key=key, ssh_from=CALLER, public_from="203.0.113.0/24", hours=3, image=IMAGE)


def silent(_: str) -> None:
    """Nobody listens."""


def make(stack: Stack) -> None:
    """The stack alone, without a release on it."""
    stack.create(parameters(user_data(KEY, 3), CALLER, "203.0.113.0/24", IMAGE))


def a_deployment() -> Deployment:
    return Deployment(
        region=REGION,
        stack="bazaar",
        machine_type="m5a.xlarge",
        machine_id="i-1",
        address="127.0.0.1",
        identity=Path("id"),
        hours=3,
        started_at=datetime.now(UTC),
        commit="c0ffee",
    )


def test_nothing_is_left_when_the_stack_was_deleted(stack: Stack) -> None:
    assert stack.status() is None
    make(stack)
    assert stack.status() == "CREATE_COMPLETE"
    assert len(stack.leftovers()) == 3, "machine, firewall, stack"
    stack.delete()
    assert (stack.status(), stack.machine(), stack.leftovers()) == (None, None, [])
    stack.delete()


def test_machine_is_as_promised_when_the_stack_was_made(stack: Stack) -> None:
    make(stack)
    machine = stack.machine()
    assert machine is not None
    assert (machine.machine_type, machine.state) == ("m5a.xlarge", "running")
    ec2 = boto3.client("ec2", REGION)
    (volume,) = ec2.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (16, "gp3", True)
    given = ec2.describe_instance_attribute(InstanceId=machine.machine_id, Attribute="userData")
    assert base64.b64decode(given["UserData"]["Value"]).decode() == user_data(KEY, 3)


def test_only_ssh_and_the_api_are_open_when_the_stack_was_made(stack: Stack) -> None:
    make(stack)
    groups = boto3.client("ec2", REGION).describe_security_groups(
        Filters=[{"Name": "tag-key", "Values": ["bazaar-evaluation"]}]
    )["SecurityGroups"]
    opened = {
        (rule["IpProtocol"], rule["FromPort"], rule["ToPort"], addresses["CidrIp"])
        for group in groups
        for rule in group["IpPermissions"]
        for addresses in rule["IpRanges"]
    }
    assert opened == {("tcp", 22, 22, CALLER), ("tcp", 8000, 8000, "203.0.113.0/24")}


def test_what_is_left_is_named_when_it_belongs_to_no_stack(stack: Stack) -> None:
    tags: list[TagTypeDef] = [{"Key": "bazaar-evaluation", "Value": "another"}]
    ec2 = boto3.client("ec2", REGION)
    volume = ec2.create_volume(
        AvailabilityZone="us-east-1a", Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": tags}]
    )
    address = ec2.allocate_address(Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": tags}])
    assert stack.leftovers() == [f"volume {volume['VolumeId']}", f"address {address['PublicIp']}"]


def test_reasons_are_told_when_the_stack_cannot_be_made(stack: Stack) -> None:
    with Stubber(stack._cloudformation) as stub:
        stub.add_response("create_stack", {"StackId": "id-1"})
        gone = {"StackName": "bazaar", "StackStatus": "DELETE_COMPLETE", "CreationTime": datetime.now(UTC)}
        stub.add_response("describe_stacks", {"Stacks": [gone]})
        event = {"StackId": "id-1", "EventId": "1", "StackName": "bazaar", "Timestamp": datetime.now(UTC)}
        said = {"LogicalResourceId": "Machine", "ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": "no room"}
        stub.add_response("describe_stack_events", {"StackEvents": [event | said]})
        with pytest.raises(CannotDo, match="Machine: no room"):
            make(stack)


def test_release_is_installed_when_there_was_no_machine(
    stack: Stack, wanted: deployment.Wanted, machine: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    made = deployment.deploy(stack, wanted, folder, silent)
    assert made == state.load(folder)
    assert made.commit == release._git(release.CHECKOUT, "rev-parse", "HEAD")
    assert (made.hours, made.identity) == (3, wanted.public_key)
    assert (machine / "commands").read_text().splitlines() == [
        "true",
        deployment.PREPARED,
        deployment.WILL_END,
        deployment.UNPACK,
        deployment.INSTALL,
    ]
    assert (machine / "sent").read_bytes().startswith(b"\x1f\x8b"), "a compressed tarball"


def test_machine_is_used_again_when_it_is_there(
    stack: Stack, wanted: deployment.Wanted, machine: Path, tmp_path: Path
) -> None:
    first = deployment.deploy(stack, wanted, tmp_path / "state", silent)
    assert deployment.deploy(stack, wanted, tmp_path / "state", silent) == first
    assert deployment.teardown(stack, tmp_path / "state") == []
    with pytest.raises(CannotDo, match="deploy"):
        state.load(tmp_path / "state")


def test_deploy_is_refused_when_the_machine_has_ended(
    stack: Stack, wanted: deployment.Wanted, machine: Path, tmp_path: Path
) -> None:
    made = deployment.deploy(stack, wanted, tmp_path / "state", silent)
    boto3.client("ec2", REGION).terminate_instances(InstanceIds=[made.machine_id])
    with pytest.raises(CannotDo, match="teardown"):
        deployment.deploy(stack, wanted, tmp_path / "state", silent)


def test_deploy_is_refused_when_the_machine_is_unknown_here(
    stack: Stack, wanted: deployment.Wanted, machine: Path, tmp_path: Path
) -> None:
    make(stack)
    with pytest.raises(CannotDo, match="does not know"):
        deployment.deploy(stack, wanted, tmp_path / "state", silent)


def test_deploy_is_refused_when_the_machine_would_not_end_by_itself(
    stack: Stack, wanted: deployment.Wanted, machine: Path, tmp_path: Path
) -> None:
    (machine / "failing").write_text(deployment.WILL_END)
    with pytest.raises(CannotDo, match=r"would not end by itself: .* teardown"):
        deployment.deploy(stack, wanted, tmp_path / "state", silent)
    assert deployment.UNPACK not in (machine / "commands").read_text()


def test_private_key_is_used_when_it_lies_beside_the_public_one(wanted: deployment.Wanted, tmp_path: Path) -> None:
    assert wanted.identity == wanted.public_key
    (tmp_path / "id").write_text("private")
    assert wanted.identity == tmp_path / "id"


def test_last_words_are_told_when_a_command_fails(machine: Path) -> None:
    (machine / "status").write_text("3")
    (machine / "answer").write_text("not proven: order-3 is missing\n")
    with pytest.raises(CannotDo, match=r"status 3:\nnot proven: order-3 is missing"):
        Remote("127.0.0.1", Path("id"), Path("known_hosts")).run("verify", timeout_s=60)


def test_waiting_ends_when_ssh_never_gets_in(machine: Path) -> None:
    (machine / "status").write_text("255")
    with pytest.raises(CannotDo, match="does not reach"):
        Remote("127.0.0.1", Path("id"), Path("known_hosts")).wait(0.0)


def test_results_say_where_they_come_from_when_the_evaluation_ran(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "answer").write_text("3 of 3 replicas hold the same 7 orders\n")
    monkeypatch.setattr(evaluation, "latency_command", lambda url, folder, wanted, out: ["mkdir", out])
    assert evaluation.evaluate(a_deployment(), tmp_path, evaluation.Wanted(), silent)
    (results,) = (tmp_path / "results").iterdir()
    assert (results / "latency").exists()
    assert (results / "verify.txt").read_text() == "3 of 3 replicas hold the same 7 orders\n"
    origin = json.loads((results / "origin.json").read_text())
    assert origin["served_by"] == "m5a.xlarge in us-east-1"
    assert origin["commit"] == "c0ffee"


def test_evaluation_fails_when_a_load_or_the_verdict_does(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = evaluation.Wanted()
    monkeypatch.setattr(evaluation, "latency_command", lambda *_: ["false"])
    assert not evaluation.evaluate(a_deployment(), tmp_path / "load", wanted, silent)
    monkeypatch.setattr(evaluation, "latency_command", lambda *_: ["true"])
    (machine / "status").write_text("1")
    assert not evaluation.evaluate(a_deployment(), tmp_path / "verdict", wanted, silent)


def test_machine_turns_its_cache_on_and_off_when_the_evaluation_asks(machine: Path, tmp_path: Path) -> None:
    state.save(tmp_path, a_deployment())
    result = CliRunner().invoke(app, ["cache", "off", "--state-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (machine / "commands").read_text() == deployment.SWITCH.format(mode="off") + "\n"


def test_evaluation_measures_both_modes_of_the_machine_from_here() -> None:
    wanted = evaluation.Wanted([0.2, 1.0], 2, 9, 1)
    command = evaluation.latency_command("http://192.0.2.7:8000", Path("/a state"), wanted, Path("out"))
    flags = dict(zip(command[3::2], command[4::2], strict=True))
    assert command[1:3] == ["-m", "eval.latency"]
    assert flags == {
        "--url": "http://192.0.2.7:8000",
        "--switch-cache": f"{sys.executable} -m eval.ec2 cache --state-dir '/a state'",
        "--out": "out", "--clients": "2", "--iterations": "9", "--repetitions": "1", "--p": "1.0",
    }  # fmt: skip


def test_logs_are_brought_when_they_are_fetched(machine: Path, tmp_path: Path) -> None:
    collected = tmp_path / "collected"
    (collected / "logs").mkdir(parents=True)
    (collected / "logs" / "bazaar-catalog.log").write_text("{}\n")
    subprocess.run(["tar", "-cf", machine / "answer", "-C", collected, "."], check=True)
    fetched = evaluation.fetch(a_deployment(), tmp_path)
    assert (fetched / "logs" / "bazaar-catalog.log").read_text() == "{}\n"


def test_cost_and_openings_are_told_when_deploy_is_a_dry_run(wanted: deployment.Wanted) -> None:
    arguments = ["deploy", "--dry-run", "--ssh-from", "198.51.100.7", "--public-key", str(wanted.public_key)]
    result = CliRunner().invoke(app, [*arguments, "--hours", "2"])
    assert result.exit_code == 0, result.output
    assert "at most 0.36 USD in 2 hours" in result.output
    assert "opens: ssh to 198.51.100.7/32, the API on port 8000 to 198.51.100.7/32" in result.output
    assert user_data(KEY, 2) in result.output


@pytest.mark.parametrize("text", ["198.51.100.7/8", "everywhere", "::1"])
def test_addresses_are_refused_when_they_make_no_sense(text: str) -> None:
    result = CliRunner().invoke(app, ["deploy", "--dry-run", "--ssh-from", text])
    assert isinstance(result.exception, CannotDo)


def test_status_tells_the_cost_when_the_machine_runs(
    stack: Stack, wanted: deployment.Wanted, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deployment.deploy(stack, wanted, Path(".ec2"), silent)
    result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 0, result.output
    assert "about 0.00 USD so far" in result.output
    assert "still there" in CliRunner().invoke(app, ["teardown", "--dry-run"]).output
    result = CliRunner().invoke(app, ["teardown"])
    assert (result.exit_code, result.output) == (0, "nothing that costs money is left in us-east-1\n")
    assert "there is no machine" in CliRunner().invoke(app, ["status"]).output
