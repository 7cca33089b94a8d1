"""Disks that fail under real processes: calls that the kernel refuses, disks without room, files that are damaged."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import apsw
import pytest

from tests.support.cluster import Cluster

Fault = Literal["fsync fails", "read fails", "write fails", "no room"]

_POINTS: dict[Fault, tuple[str, ...]] = {  # libfiu's names of the calls, and the errno that they end with
    "fsync fails": ("posix/io/sync/fsync,failinfo=5", "posix/io/sync/fdatasync,failinfo=5"),
    "read fails": ("posix/io/rw/pread,failinfo=5",),
    "write fails": ("posix/io/rw/pwrite,failinfo=5",),
    "no room": ("posix/io/rw/pwrite,failinfo=28",),
}

needs_faults = pytest.mark.skipif(
    shutil.which("fiu-run") is None or shutil.which("fiu-ctrl") is None,
    reason="libfiu makes system calls fail: apt-get install fiu-utils",
)


class FaultyCluster(Cluster):
    """A bazaar under libfiu: system calls of each of its processes can be made to fail while it runs.

    Only SQLite reads and writes at positions and syncs, so nothing but databases is hit. A fault ends with its process.
    """

    def command(self, name: str, *arguments: str) -> list[str]:
        """The command line of `bazaar NAME`; `up` runs under libfiu, and so do its children."""
        command = super().command(name, *arguments)
        return ["fiu-run", "-x", "-f", str(self._control), *command] if name == "up" else command

    async def break_disk(self, name: str, fault: Fault) -> None:
        """Have these calls of one service fail from now on."""
        commands = [part for point in _POINTS[fault] for part in ("-c", f"enable name={point}")]
        pid = str(await self.pid(name))
        process = await asyncio.create_subprocess_exec("fiu-ctrl", "-f", str(self._control), *commands, pid)
        assert await process.wait() == 0

    @property
    def _control(self) -> Path:
        return self.data_dir.with_name(self.data_dir.name + "-fiu")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system in memory of so many bytes, at `folder`; the test is skipped where none may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "bazaar-test", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def without_room(disk: Path) -> Iterator[None]:
    """During the body there is no room left on this disk."""
    filler = disk / "filler"
    state = os.statvfs(disk)
    try:
        with suppress(OSError):  # somebody else has taken some of it in between
            filler.write_bytes(b"\xa5" * (state.f_bavail * state.f_frsize))
        yield
    finally:
        filler.unlink(missing_ok=True)


def fold(path: Path) -> None:
    """Bring everything that is in the `-wal` file of a database into the file; its process must be down."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def damage(path: Path, how: Literal["overwritten", "cut short", "noise"]) -> None:
    """Damage a database whose process is down."""
    fold(path)
    data = bytearray(path.read_bytes())
    assert len(data) > 4_096, "there is more than one page"
    match how:
        case "overwritten":
            data[:100] = b"\x00" * 100
        case "cut short":
            del data[4_096:]
        case "noise":
            data[4_096:] = b"\xa5" * (len(data) - 4_096)
    path.write_bytes(data)
