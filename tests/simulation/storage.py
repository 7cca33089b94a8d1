"""What becomes of a simulated process' files when it dies: SQLite's real files, under a layer that can cut them off.

A killed process writes nothing more, not even what SQLite would tidy up when a connection is closed. A power cut
also takes back writes that were not fsynced: each of them survives wholly, in part (its first sectors) or not at all,
in whatever combination chance chooses. Deletions are taken as durable at once.
"""

import os
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512


@dataclass
class Write:
    """One write, or a truncation (data is None), that no fsync has covered yet; what it replaced is kept."""

    offset: int
    data: bytes | None
    before: bytes
    size_before: int

    def undo(self, file: int) -> None:
        """Put back what was there."""
        os.pwrite(file, self.before, self.offset)
        os.ftruncate(file, self.size_before)

    def redo(self, file: int, chance: random.Random) -> None:
        """Let a part of it survive, or all."""
        if self.data is None:
            os.ftruncate(file, self.offset)
        else:
            sectors = -(-len(self.data) // SECTOR)
            kept = chance.choice([sectors, chance.randint(0, sectors)])
            os.pwrite(file, self.data[: kept * SECTOR], self.offset)


@dataclass
class Storage:
    """All files of a simulation. Databases are named by their path; journals and logs beside them belong to them."""

    unsynced: dict[str, list[Write]] = field(default_factory=lambda: defaultdict(list))
    frozen: set[str] = field(default_factory=set)
    writes_left: dict[str, int] = field(default_factory=dict)

    def tear(self, database: Path, writes: int) -> None:
        """Let so many more writes to `database` through, then none."""
        self.writes_left[str(database)] = writes

    def freeze(self, database: Path) -> None:
        """The process that has it open is dead: whatever its connections still do changes nothing."""
        self.frozen.add(str(database))

    def thaw(self, database: Path) -> None:
        """Its connections are closed; the next process may have it."""
        self.frozen.discard(str(database))
        self.writes_left.pop(str(database), None)

    def cut_power(self, database: Path, chance: random.Random) -> int:
        """Take back writes to a closed database that were not fsynced; how many there were."""
        count = 0
        for path, writes in self.unsynced.items():
            if writes and _database_of(path) == str(database):
                count += len(writes)
                _take_back(path, writes, chance)
                writes.clear()
        return count

    def forget(self, database: Path) -> None:
        """Its disk is lost."""
        for path in [path for path in self.unsynced if _database_of(path) == str(database)]:
            del self.unsynced[path]

    def lets_through(self, path: str) -> bool:
        """Whether a change of this file still happens; asked once for each."""
        database = _database_of(path)
        left = self.writes_left.get(database)
        if left is not None:
            if left <= 0:
                self.frozen.add(database)
            self.writes_left[database] = left - 1
        return database not in self.frozen


def _database_of(path: str) -> str:
    return path.removesuffix("-wal").removesuffix("-journal")


def _take_back(path: str, writes: list[Write], chance: random.Random) -> None:
    if not Path(path).exists():
        return
    file = os.open(path, os.O_RDWR)
    try:
        for write in reversed(writes):
            write.undo(file)
        for write in writes:
            if chance.random() < 0.5:
                write.redo(file, chance)
    finally:
        os.close(file)


class _File(apsw.VFSFile):
    def __init__(self, storage: Storage, path: str, name: Any, flags: list[int]) -> None:
        self._storage = storage
        self._path = path
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._storage.lets_through(self._path):
            self._remember(offset, bytes(data), len(data))
            super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        if self._storage.lets_through(self._path):
            self._remember(newsize, None, max(self.xFileSize() - newsize, 0))
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if _database_of(self._path) not in self._storage.frozen:
            super().xSync(flags)
            self._storage.unsynced[self._path].clear()

    def _remember(self, offset: int, data: bytes | None, length: int) -> None:
        size = self.xFileSize()
        there = max(min(length, size - offset), 0)
        before = self.xRead(there, offset) if there else b""
        self._storage.unsynced[self._path].append(Write(offset, data, before, size))


class CuttingVFS(apsw.VFS):
    """Every database that this operating-system process opens from now on goes through `storage`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        super().__init__("cutting", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        """As SQLite's."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _File(self._storage, str(path), name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        """As SQLite's."""
        if self._storage.lets_through(name):
            self._storage.unsynced.pop(name, None)
            super().xDelete(name, syncdir)
