"""The release is installed as on the machine on EC2 and its services run, in a folder and without systemd."""

import json
import os
import re
import shlex
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from eval.ec2 import evaluation, release
from eval.ec2.deployment import wait_ready
from eval.latency.results import Result
from tests.support.ports import free_ports

PATIENCE_S = 600.0
SHIMS = {
    "systemctl": 'echo "$*" >> "$DESTDIR/systemctl"',
    "journalctl": 'echo "$*"',
    "chown": "",  # there is no user bazaar here
    "runuser": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
}
STARTS = {
    "bazaar-catalog.service": "",
    "bazaar-order@.service": "123",
    "bazaar-front-end.service": "",
}


class Machine:
    """A folder that stands for the machine's disk; ports 8000 to 8031 are others here."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.port = free_ports()
        shims = folder / "bin"
        shims.mkdir()
        for name, text in SHIMS.items():
            (shims / name).write_text(f"#!/bin/sh\n{text}\n")
            (shims / name).chmod(0o755)
        self._environment = os.environ | {"DESTDIR": str(self.root), "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *command: str | Path) -> bytes:
        """Run to the end, with systemd's commands replaced, and give the output."""
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False, env=self._environment)
        assert done.returncode == 0, (done.stderr + done.stdout).decode()
        return done.stdout

    def here(self, text: str) -> str:
        """What the installed files say, with this machine's paths and ports."""
        text = re.sub(r"/(opt|var/lib)/bazaar", rf"{self.root}\g<0>", text)
        return re.sub(r"\b80(\d\d)\b", lambda match: str(self.port + int(match[1])), text)

    def starts(self) -> list[list[str]]:
        """The command lines in the installed units, in the order in which systemd starts them."""
        lines = []
        for name, instances in STARTS.items():
            unit = (self.root / "etc" / "systemd" / "system" / name).read_text()
            (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
            lines += [start.replace("%i", instance) for instance in instances or "-"]
        return [shlex.split(self.here(line)) for line in lines]

    @contextmanager
    def running(self) -> Iterator[None]:
        """All services run during the body, and end as they should."""
        settings = self.here((self.root / "opt/bazaar/eval/ec2/machine/bazaar.env").read_text())
        variables = dict(line.split("=", 1) for line in settings.splitlines() if not line.startswith("#"))
        with ExitStack() as stack:
            processes = [
                stack.enter_context(subprocess.Popen(start, env=variables, cwd="/")) for start in self.starts()
            ]
            try:
                yield
            finally:
                for process in reversed(processes):
                    process.terminate()
                    process.wait(PATIENCE_S)
        assert [process.returncode for process in processes] == [0] * len(processes)


@pytest.mark.slow
def test_bazaar_trades_and_is_proven_when_the_release_was_installed(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    unpacked = machine.root / "opt" / "bazaar.new"
    unpacked.mkdir(parents=True)
    release.pack(tmp_path / "release.tar.gz")
    machine.run("tar", "-xzf", tmp_path / "release.tar.gz", "-C", unpacked)
    machine.run(unpacked / "eval" / "ec2" / "machine" / "install.sh")
    assert not unpacked.exists()
    assert (machine.root / "systemctl").read_text() == "daemon-reload\nenable --now bazaar.target\n"

    cluster = machine.root / "var" / "lib" / "bazaar" / "cluster.json"
    cluster.write_text(machine.here(cluster.read_text()))
    with machine.running():
        url = f"http://127.0.0.1:{machine.port}"
        wait_ready(url, PATIENCE_S)
        wanted = evaluation.Wanted([1.0], clients=2, iterations=5, repetitions=1)
        command = evaluation.latency_command(url, tmp_path, wanted, tmp_path / "latency")
        switch = f"{machine.here('/opt/bazaar/.venv/bin/bazaar')} evaluate switch --data-dir {cluster.parent}"
        command[command.index("--switch-cache") + 1] = switch  # nobody listens to ssh here
        machine.run(*command)
        collected = machine.run(machine.root / "opt" / "bazaar" / "eval" / "ec2" / "machine" / "collect.sh")
    with tarfile.open(fileobj=BytesIO(collected)) as archive:
        archive.extractall(tmp_path / "collected", filter="data")
    verdict = json.loads((tmp_path / "collected" / "verify.json").read_text())
    assert verdict["passed"], verdict
    result = Result.model_validate_json((tmp_path / "latency" / "latency.json").read_text())
    assert [run.cache for run in result.runs] in (["on", "off"], ["off", "on"])
    assert verdict["orders"] == sum(run.counts.acknowledged for run in result.runs) > 0
    said = (tmp_path / "collected" / "logs" / "bazaar-order@2.log").read_text()
    assert said == "--no-pager --output=cat _SYSTEMD_UNIT=bazaar-order@2.service\n"
