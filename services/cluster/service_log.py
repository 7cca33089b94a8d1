"""The log file of one service: what its process writes to standard output and standard error."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

MAX_LOG_BYTES = 10_000_000  # a larger one is put aside when its service is started
TAIL_BYTES = 65_536


def open_log(log: Path) -> BinaryIO:
    """Open a log to append to it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    return log.open("ab")


def tail(log: Path, start: int = 0) -> list[str]:
    """The last lines of a log, none before byte `start`."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def last_critical(lines: Sequence[str]) -> str | None:
    """What the last critical line says, None when there is none. Lines are JSON objects, one a line."""
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("level") == "critical":
            reason = record.get("reason")
            return f"{record.get('event')}: {reason}" if reason else str(record.get("event"))
    return None
