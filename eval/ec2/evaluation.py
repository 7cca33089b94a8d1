"""Runs the evaluation from this computer against the machine, and fetches what the machine knows.

Every folder of results says in `origin.json` which machine served and which one asked.
"""

import io
import json
import platform
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from eval.ec2.deployment import SHORT_S, SWITCH, VERIFY, Say, remote_of
from eval.ec2.state import Deployment
from services.cluster.errors import CannotDo

PROBABILITIES = (0.0, 0.2, 0.4, 0.6, 0.8)
LATENCY_S = 10_800.0
END_S = 60.0
COLLECT = "sudo /opt/bazaar/eval/ec2/machine/collect.sh"
COLLECT_S = 300.0


@dataclass(frozen=True)
class Wanted:
    """What is to be measured; see `bazaar evaluate latency`."""

    probabilities: Sequence[float] = PROBABILITIES
    clients: int = 5
    iterations: int = 200
    repetitions: int = 3


def latency_command(url: str, folder: Path, wanted: Wanted, out: Path) -> list[str]:
    """The latency experiment against a machine that runs; it has the machine turn its cache on and off."""
    switch = [sys.executable, "-m", "eval.ec2", "cache", "--state-dir", str(folder.absolute())]
    flags = [("--url", url), ("--switch-cache", shlex.join(switch)), ("--out", out)]
    flags += [("--clients", wanted.clients), ("--iterations", wanted.iterations)]
    flags += [("--repetitions", wanted.repetitions), *(("--p", p) for p in wanted.probabilities)]
    return [sys.executable, "-m", "eval.latency", *(str(part) for flag in flags for part in flag)]


def switch_cache(deployment: Deployment, folder: Path, mode: str) -> None:
    """Turn the machine's cache on or off. Raises CannotDo."""
    remote_of(deployment, folder).run(SWITCH.format(mode=mode), timeout_s=SHORT_S)


def origin(deployment: Deployment, now: datetime) -> dict[str, object]:
    """Where the figures come from."""
    return {
        "served_by": f"{deployment.machine_type} in {deployment.region}",
        "commit": deployment.commit,
        "asked_by": f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, over the internet",
        "at": now.isoformat(timespec="seconds"),
    }


def evaluate(deployment: Deployment, folder: Path, wanted: Wanted, say: Say) -> bool:
    """Measure latency and have the machine verify its orders; whether all of it passed."""
    now = datetime.now(UTC)
    results = folder / "results" / f"{now:%Y%m%dT%H%M%SZ}"
    results.mkdir(parents=True)
    (results / "origin.json").write_text(json.dumps(origin(deployment, now), indent=2) + "\n", encoding="utf-8")
    say(f"measuring {deployment.url} ...")
    passed = _run(latency_command(deployment.url, folder, wanted, results / "latency"))
    try:
        verdict = remote_of(deployment, folder).run(VERIFY, timeout_s=SHORT_S).decode()
    except CannotDo as error:
        passed, verdict = False, error.message
    (results / "verify.txt").write_text(verdict, encoding="utf-8")
    say(verdict.strip())
    say(f"results: {results}/")
    return passed


def _run(command: Sequence[str]) -> bool:
    """Whether it ended well. It also has its end of a Ctrl-C, and time to turn the cache on again."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait(LATENCY_S) == 0
        except subprocess.TimeoutExpired:
            process.terminate()
            raise CannotDo(f"`{shlex.join(command)}` did not end within {LATENCY_S:.0f} s") from None
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S)
            process.kill()


def fetch(deployment: Deployment, folder: Path) -> Path:
    """Bring the machine's logs, description and verdict here; gives the folder they are in."""
    target = folder / "fetched" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    packed = remote_of(deployment, folder).run(COLLECT, timeout_s=COLLECT_S)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(target, filter="data")
    return target
