"""What a commit outlives: the choice of whoever runs the bazaar, and what it means for SQLite."""

from typing import Literal, TypeAlias

Durability: TypeAlias = Literal["disk", "process"]
"""disk: a commit is fsynced, and outlives the power of the machine. process: it outlives every process, but a machine
that loses its power may forget the last of what was acknowledged, on every disk at once."""

SYNCHRONOUS: dict[Durability, str] = {"disk": "FULL", "process": "NORMAL"}
"""SQLite's `PRAGMA synchronous`, for a database in WAL mode."""
