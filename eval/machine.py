"""What a measurement was made on: machine, versions and commit, without names or paths of the machine."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import apsw
import psutil
from pydantic import BaseModel

PACKAGES = ("bazaar", "fastapi", "uvicorn", "uvloop", "httpx", "aiohttp", "pydantic")
ROOT = Path(__file__).parents[1]


class Machine(BaseModel):
    """A machine and the software on it. commit: of this repository, with a `+` when files differ from it."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    sqlite: str
    packages: dict[str, str]
    commit: str | None


@cache
def describe_machine() -> Machine:
    """This machine, now."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        sqlite=apsw.sqlite_lib_version(),
        packages={name: version(name) for name in PACKAGES},
        commit=_commit(),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str | None:
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return None
    return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
