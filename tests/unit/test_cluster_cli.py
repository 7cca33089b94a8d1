"""The command line: help, usage, exit codes, and what is said when there is no bazaar."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.cluster.certs import make_certificates
from services.cluster.folder import up_command, write_cluster
from services.cluster.topology import Settings, plan
from services.cluster.topology_file import plan_host, read_topology
from tests.support.ports import free_ports
from tests.support.tls_files import Certificates

ROOT = Path(__file__).parents[2]
EXAMPLE = "docs/examples/topology.toml"
COMMANDS = [
    "up", "status", "kill", "pause", "resume", "start", "restart", "stock", "buy", "sell", "order", "load", "verify",
    "chaos", "demo", "bench", "evaluate", "certs",
]  # fmt: skip


def bazaar(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "services.cluster", *arguments],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=60,
        env=os.environ | {"COLUMNS": "100"} | environment,
    )  # fmt: skip


def test_help_lists_every_command() -> None:
    result = bazaar("--help")
    assert result.returncode == 0
    assert all(f" {name} " in result.stdout for name in COMMANDS)
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = bazaar(command, "--help")
    assert result.returncode == 0
    assert f"bazaar {command}" in result.stdout.partition("Example")[2]


@pytest.mark.parametrize("command", ["latency", "distance", "scaling", "all", "plot"])
def test_every_experiment_has_help_with_an_example(command: str) -> None:
    result = bazaar("evaluate", command, "--help")
    assert result.returncode == 0
    assert f"bazaar evaluate {command}" in result.stdout.partition("Example")[2]


def test_help_needs_none_of_the_heavy_packages() -> None:
    heavy = ("fastapi", "httpx", "pydantic", "aiohttp")
    code = f"import sys, services.cluster.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["kill"],
        ["buy", "A", "0"],
        ["buy", "A", "1.5"],
        ["order", "0"],
        ["up", "--restart", "sometimes"],
        ["up", "--replicas", "10"],
        ["up", "--port", "32760"],
        ["up", "--lost", "order-9"],
        ["up", "--host", "a"],
        ["up", "--topology", EXAMPLE, "--port", "8000"],
        ["up", "--topology", EXAMPLE, "--catalog", "stocks.csv"],
        ["up", "--topology", EXAMPLE, "--host", "z"],
        ["up", "--topology", EXAMPLE, "--lost", "order-4"],
        ["up", "--topology", "no-such-file.toml"],
        ["certs", "--topology", EXAMPLE],
        ["load", "--p", "2"],
        ["status", "--json", "--watch"],
        ["stock", "A", "--url", "not an address"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2_and_one_word_of_explanation(arguments: list[str], tmp_path: Path) -> None:
    result = bazaar(*arguments, *(["--data-dir", str(tmp_path / "d")] if arguments[0] in {"up", "status"} else []))
    assert result.returncode == 2
    assert result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["kill", "order-1"], ["verify", "--json"], ["stock", "A"], ["buy", "A", "1"], ["load"]],
    ids=" ".join,
)
def test_the_way_out_is_told_when_there_was_never_a_bazaar(arguments: list[str], tmp_path: Path) -> None:
    result = bazaar(*arguments, "--data-dir", str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert f"bazaar up --data-dir {tmp_path}" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The data folder of a bazaar that does not run."""
    write_cluster(tmp_path, plan(Settings(port=free_ports())))
    return tmp_path


@pytest.mark.parametrize("arguments", [["kill", "order-1"], ["verify"]], ids=" ".join)
def test_the_way_out_is_told_when_the_bazaar_is_not_running(arguments: list[str], stopped: Path) -> None:
    result = bazaar(*arguments, "--data-dir", str(stopped))
    assert (result.returncode, result.stdout) == (1, "")
    assert f"is not running; start it with: bazaar up --data-dir {stopped}" in result.stderr


def test_the_services_are_named_when_there_is_none_of_that_name(stopped: Path) -> None:
    result = bazaar("kill", "order-4", "--data-dir", str(stopped))
    assert result.returncode == 2
    assert "catalog, order-1, order-2, order-3, front-end-1" in result.stderr


def test_the_status_is_json_alone_when_the_bazaar_is_not_running(stopped: Path) -> None:
    result = bazaar("status", "--json", "--data-dir", str(stopped))
    assert result.returncode == 0
    snapshot = json.loads(result.stdout)
    assert [each["state"] for each in snapshot["services"]] == ["down"] * 5
    assert (snapshot["leader"], result.stderr) == (None, "")


def test_a_damaged_cluster_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    result = bazaar("status", "--data-dir", str(tmp_path))
    assert result.returncode == 1
    assert f"{tmp_path}/cluster.json is damaged" in result.stderr


def test_nothing_is_said_about_a_pipe_that_closed(stopped: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cluster", "status", "--json", "--data-dir", str(stopped)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(timeout=60) in {0, 1}


def test_the_ordinary_folder_needs_no_flag() -> None:
    assert up_command(Path("data")) == "bazaar up"


@pytest.mark.parametrize(
    ("called", "path", "shown"),
    [
        (".venv/bin/bazaar", "/usr/bin", ".venv/bin/bazaar up"),
        ("{here}/.venv/bin/bazaar", "/usr/bin", ".venv/bin/bazaar up"),
        ("{here}/.venv/bin/bazaar", "{here}/.venv/bin", "bazaar up"),
        ("services/cluster/__main__.py", "/usr/bin", "bazaar up"),
    ],
)
def test_the_command_is_shown_as_it_can_be_called_here(
    called: str, path: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / ".venv" / "bin" / "bazaar"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [called.format(here=tmp_path)])
    monkeypatch.setenv("PATH", path.format(here=tmp_path))
    assert up_command(Path("data")) == shown


def test_the_host_is_part_of_the_command_when_there_are_several(tmp_path: Path) -> None:
    path = ROOT / EXAMPLE
    assert up_command(tmp_path, plan_host(read_topology(path), path, "b")) == (
        f"bazaar up --topology {path} --host b --data-dir {tmp_path}"
    )


HERE = """
secret_file = "secret"
[tls]
authority = "tls/authority.crt"
certificate = "tls/{host}.crt"
key = "tls/{host}.key"
[hosts.a]
address = "127.0.0.1"
control = "127.0.0.1:PORT9"
[hosts.b]
address = "127.0.0.2"
[[catalogs]]
id = 1
host = "a"
port = PORT0
[[replicas]]
id = 1
host = "b"
port = PORT1
[[front_ends]]
id = 1
host = "a"
port = PORT2
internal_port = PORT3
"""


def _another_secret(folder: Path) -> None:
    (folder / "secret").write_text("short")


def _no_secret(folder: Path) -> None:
    (folder / "secret").unlink()


def _no_certificates(folder: Path) -> None:
    (folder / "tls").rename(folder / "elsewhere")


def _another_key(folder: Path) -> None:
    (folder / "tls" / "a.key").write_bytes((folder / "tls" / "b.key").read_bytes())


def _expired(folder: Path) -> None:
    Certificates(folder / "tls").host("a", days=5, made_days_ago=6)


MISSING = {
    "no secret": (_no_secret, "secret, the file of the secret, cannot be read: No such file"),
    "weak secret": (_another_secret, "every host must have the same one"),
    "no certificates": (_no_certificates, "authority.crt cannot be read: No such file or directory; make it"),
    "another key": (_another_key, "a.key are no certificate and its key: key values mismatch"),
    "expired": (_expired, "a.crt has expired"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MISSING)
def test_nothing_is_started_when_a_file_of_this_host_cannot_be_used(fault: str, tmp_path: Path) -> None:
    spoil, says = MISSING[fault]
    first, text = free_ports(), HERE
    for offset in (0, 1, 2, 3, 9):
        text = text.replace(f"PORT{offset}", str(first + offset))
    (tmp_path / "topology.toml").write_text(text)
    make_certificates(tmp_path / "tls", {"a": ["127.0.0.1"], "b": ["127.0.0.2"]})
    (tmp_path / "tls" / "secret").rename(tmp_path / "secret")
    spoil(tmp_path)
    topology = str(tmp_path / "topology.toml")
    result = bazaar("up", "--topology", topology, "--host", "a", "--data-dir", str(tmp_path / "data"))
    assert (result.returncode, result.stdout) == (1, "")
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data" / "cluster.json").exists()
