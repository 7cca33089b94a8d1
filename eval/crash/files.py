"""Whether the replicas' database files hold the same, read from the files themselves and not through any service."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

import apsw
from pydantic import BaseModel

TABLES = {"meta": "name", "log": "position"}
"""The tables of a replica's database, and what their rows are ordered by."""

Row = tuple[Any, ...]


class Comparison(BaseModel):
    """Files side by side. sha256: of all rows, by file. difference: the first one; None when there is none."""

    entries: int
    orders: int
    sha256: dict[str, str]
    difference: str | None

    @property
    def same(self) -> bool:
        """Whether every row stands in every file."""
        return self.difference is None


def compare_files(folder: Path, names: list[str]) -> Comparison:
    """Compare `NAME.db` of these names, row by row. A running service may have them open, as long as it rests."""
    hashes = {name: hashlib.sha256() for name in names}
    difference = None
    with ExitStack() as stack:
        files = {name: stack.enter_context(closing(_open(folder / f"{name}.db"))) for name in names}
        for table, key in TABLES.items():
            for number, rows in enumerate(zip_longest(*(_rows(file, table, key) for file in files.values())), start=1):
                side_by_side = dict(zip(names, rows, strict=True))
                for name, row in side_by_side.items():
                    hashes[name].update(repr(row).encode() if row is not None else b"")
                if difference is None and len(set(rows)) > 1:
                    difference = f"row {number} of {table}: {_words(side_by_side)}"
        first = files[names[0]]
        counts: tuple[Any, ...] = first.execute("SELECT count(*), count(number) FROM log").fetchall()[0]
    return Comparison(
        entries=counts[0],
        orders=counts[1],
        sha256={name: each.hexdigest() for name, each in hashes.items()},
        difference=difference,
    )


def last_position(path: Path) -> int:
    """The last position in one file, 0 for an empty log."""
    with closing(_open(path)) as file:
        row: tuple[Any, ...] = file.execute("SELECT coalesce(max(position), 0) FROM log").fetchall()[0]
        return int(row[0])


def _open(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)


def _rows(file: apsw.Connection, table: str, key: str) -> Iterator[Row]:
    return iter(file.execute(f"SELECT * FROM {table} ORDER BY {key}"))  # noqa: S608 - constants


def _words(rows: Mapping[str, Row | None]) -> str:
    return "; ".join(f"{name} has {'none' if row is None else row}" for name, row in rows.items())
