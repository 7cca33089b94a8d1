"""The evidence of a run, read from the database files of a bazaar that has been stopped, and what it proves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from client.bazaar import PATIENCE_S
from eval.history import Evidence, Operation, check
from services.catalog.sqlite_store import SqliteStore
from services.cluster.topology import Cluster
from services.common.errors import IntegrityFailure
from services.common.models import Entry, Stock
from services.order.store import LogStore

ALL = 2**62


def read_evidence(
    data_dir: Path, cluster: Cluster, operations: Sequence[Operation], quiet_since: float = float("inf")
) -> Evidence:
    """What is on the disks. Raises IntegrityFailure when a file contradicts itself, or is not there."""
    initial, logs = read_logs({each.name: data_dir / f"{each.name}.db" for each in cluster.of("order")})
    catalog = SqliteStore(data_dir / "catalog.db")
    try:
        saved = catalog.load()
    finally:
        catalog.close()
    if saved is None:
        raise IntegrityFailure("the catalog's database is empty")
    stocks = list(saved.inventory.stocks.values())
    return Evidence(initial, logs, stocks, list(operations), {saved.inventory.generation: 0}, quiet_since)


def read_logs(files: Mapping[str, Path]) -> tuple[list[Stock], dict[str, list[Entry]]]:
    """The stocks that the bazaar began with, and the log in each replica's file. Raises IntegrityFailure."""
    logs: dict[str, list[Entry]] = {}
    initial: list[Stock] = []
    for name, file in files.items():
        store = LogStore(file)
        try:
            logs[name] = store.after(0, ALL)
            initial = initial or store.initial()
        finally:
            store.close()
    return initial, logs


def judge(evidence: Evidence, patience_s: float = PATIENCE_S) -> list[str]:
    """Every violation of K1 to K9, in words. What a client library repeats may take as long as its patience."""
    return check(evidence, patience_s=patience_s)


def problems_on_disk(
    data_dir: Path, cluster: Cluster, operations: Sequence[Operation], quiet_since: float = float("inf")
) -> list[str]:
    """Read the disks and judge them."""
    try:
        return judge(read_evidence(data_dir, cluster, operations, quiet_since))
    except IntegrityFailure as failure:
        return [f"K4: {failure}"]
