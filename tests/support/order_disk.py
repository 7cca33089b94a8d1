"""A real file system that fails when it is told to, under SQLite."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import apsw

NAME = "failing"


class FailingFiles(apsw.VFS):
    """Files whose fsync, or write, fails while `fails` says so."""

    def __init__(self) -> None:
        self.fails: Literal["fsync", "write", None] = None
        super().__init__(NAME, "unix", makedefault=True)

    def xOpen(self, name: "str | apsw.URIFilename | None", flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's
        return _File(self, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, files: FailingFiles, name: "str | apsw.URIFilename | None", flags: list[int]) -> None:
        self._files = files
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's
        if self._files.fails == "fsync":
            raise apsw.IOError("the test wants it")
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's
        if self._files.fails == "write":
            raise apsw.IOError("the test wants it")
        super().xWrite(data, offset)


@contextmanager
def failing_files() -> Iterator[FailingFiles]:
    """Databases that are opened in the body lie on files that can fail."""
    files = FailingFiles()
    try:
        yield files
    finally:
        files.unregister()
