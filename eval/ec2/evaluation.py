"""Runs the evaluation from this computer against the machine, and fetches what the machine knows.

Every folder of results says in `origin.json` which machine served and which one asked.
"""

import io
import json
import platform
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from eval.ec2.deployment import SHORT_S, VERIFY, Say, remote_of
from eval.ec2.state import Deployment
from services.cluster.errors import CannotDo

PROBABILITIES = (0.0, 0.2, 0.4, 0.6, 0.8)
LOAD_S = 1_800.0
COLLECT = "sudo /opt/bazaar/eval/ec2/machine/collect.sh"
COLLECT_S = 300.0


def load_command(url: str, clients: int, p: float, iterations: int) -> list[str]:
    """One measurement, as a command that prints its report as JSON."""
    flags = {"--url": url, "--clients": clients, "--p": p, "--iterations": iterations}
    return [sys.executable, "-m", "client", *(str(part) for flag in flags.items() for part in flag), "--json"]


def origin(deployment: Deployment, now: datetime) -> dict[str, object]:
    """Where the figures come from."""
    return {
        "served_by": f"{deployment.machine_type} in {deployment.region}",
        "commit": deployment.commit,
        "asked_by": f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, over the internet",
        "at": now.isoformat(timespec="seconds"),
    }


def evaluate(
    deployment: Deployment, folder: Path, probabilities: Sequence[float], clients: int, iterations: int, say: Say
) -> bool:
    """Measure for each trade probability and have the machine verify its orders; whether all of it passed."""
    now = datetime.now(UTC)
    results = folder / "results" / f"{now:%Y%m%dT%H%M%SZ}"
    results.mkdir(parents=True)
    (results / "origin.json").write_text(json.dumps(origin(deployment, now), indent=2) + "\n", encoding="utf-8")
    passed = True
    for p in probabilities:
        say(f"{clients} clients, p = {p:g} ...")
        passed &= _measure(load_command(deployment.url, clients, p, iterations), results / f"load-p-{p:g}.json")
    try:
        verdict = remote_of(deployment, folder).run(VERIFY, timeout_s=SHORT_S).decode()
    except CannotDo as error:
        passed, verdict = False, error.message
    (results / "verify.txt").write_text(verdict, encoding="utf-8")
    say(verdict.strip())
    say(f"results: {results}/")
    return passed


def _measure(command: Sequence[str], result: Path) -> bool:
    with result.open("wb") as stdout:
        try:
            return subprocess.run(command, stdout=stdout, timeout=LOAD_S, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            raise CannotDo(f"`{' '.join(command)}` did not end within {LOAD_S:.0f} s") from None


def fetch(deployment: Deployment, folder: Path) -> Path:
    """Bring the machine's logs, description and verdict here; gives the folder they are in."""
    target = folder / "fetched" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    packed = remote_of(deployment, folder).run(COLLECT, timeout_s=COLLECT_S)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(target, filter="data")
    return target
