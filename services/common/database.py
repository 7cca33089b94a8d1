"""One SQLite file: a connection that writes and checkpoints it, one that only reads, and a lock that keeps others out.

WAL with synchronous=FULL: a transaction that returned is on the disk (unless `durability` says otherwise). An fsync
that failed is never tried again, because the kernel may have dropped what it could not write: the process stops, and
the data comes back from the other replicas. A write that finds no room is another matter: nothing of it is in the file,
which stays as sound as it was.
apsw brings its own SQLite, newer than the WAL-reset bug of those that Debian 12 and Python 3.11 link.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import apsw

from services.common.durability import SYNCHRONOUS, Durability
from services.common.errors import IntegrityFailure

Row = tuple[Any, ...]

# What SQLite does not call "full", though there was no room: a quota, a limit on the file's size, and the `-shm` file,
# which cannot even be opened on a full disk. It holds nothing that must last.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_WRITTEN = {apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE}


class DatabaseLocked(Exception):
    """Another process has this database open."""


class DiskFull(Exception):
    """There is no room for the transaction; nothing of it was written."""


class Database:
    """A database file. Writing belongs on a `Disk`; reading is quick enough for the event loop."""

    def __init__(self, path: Path, schema: str, durability: Durability = "disk") -> None:
        """Lock `path` for this process, then open it and make its tables where it has none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = _lock(path.with_suffix(".lock"))
        with ExitStack() as on_failure:
            on_failure.callback(os.close, self._lock)
            self._writer = apsw.Connection(str(path))
            with self._mapped_errors(self._writer):
                # One by one: apsw does not go on to a next statement before the rows of this one are read.
                self._writer.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")
                self._writer.execute("PRAGMA journal_mode = WAL")
                self._writer.execute(schema)
            self._reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            on_failure.pop_all()

    def read(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """Rows as committed, from the reading connection."""
        with self._mapped_errors(self._reader):
            return list(self._reader.execute(query, tuple(values)))

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """Everything in the body, durable when it ends; nothing of it when it raises. Use on one thread at a time."""
        with self._mapped_errors(self._writer):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # a full or failing disk has ended it already
                    self._writer.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file, then let others have it."""
        self._reader.close()
        self._writer.close()
        os.close(self._lock)

    @contextmanager
    def _mapped_errors(self, connection: apsw.Connection) -> Iterator[None]:
        try:
            yield
        except (apsw.FullError, apsw.IOError, apsw.CorruptError, apsw.NotADBError) as error:
            if _found_no_room(connection, error):
                raise DiskFull(f"no room on the disk for {self.path.name}; it is unharmed: make room") from error
            message = f"{self.path.name} cannot be trusted ({error}); delete it, it is rebuilt from the replicas"
            raise IntegrityFailure(message) from error


def _found_no_room(connection: apsw.Connection, error: apsw.Error) -> bool:
    if isinstance(error, apsw.FullError):
        return True
    return getattr(error, "extendedresult", None) in NOT_WRITTEN and connection.system_errno in NO_ROOM


def _lock(path: Path) -> int:
    """Take the exclusive lock; it is held until the descriptor is closed or the process dies, however it dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DatabaseLocked(f"another process has {path.with_suffix('.db').name} open; end it first") from None
    return descriptor
