"""What one durable commit costs here: the least that a trade must wait for, twice."""

import statistics
import tempfile
import time
from pathlib import Path

from services.common.database import Database

SCHEMA = "CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY, entry TEXT NOT NULL)"
ENTRY = "x" * 250  # about as long as an entry
COMMITS = 100


def commit_ms(commits: int = COMMITS) -> float:
    """The median time of a transaction with one row, durable as every transaction of the bazaar, in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="bazaar-bench-") as folder:
        database = Database(Path(folder) / "commit.db", SCHEMA)
        try:
            return statistics.median(_commit_ms(database, position) for position in range(1, commits + 1))
        finally:
            database.close()


def _commit_ms(database: Database, position: int) -> float:
    began = time.perf_counter()
    with database.transaction() as writer:
        writer.execute("INSERT INTO log VALUES (?, ?)", (position, ENTRY))
    return (time.perf_counter() - began) * 1_000
