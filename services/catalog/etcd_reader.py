"""Reading the catalog's state from etcd: the whole of it as of one revision, or the decisions between two positions."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.catalog.etcd import Etcd, KeyValue, end_of, get
from services.catalog.etcd_layout import Keys, Root, Top, load_entries, load_head, load_stock, under
from services.catalog.inventory import Inventory
from services.catalog.store import check_state
from services.common.errors import IntegrityFailure
from services.common.models import MAX_TRADES, Entry, Head, Stock

STOCKS_AT_ONCE = 2_000
ENTRIES_AT_ONCE = 4_000  # of up to 450 bytes each


@dataclass(frozen=True)
class Loaded:
    """A data set as of `revision`. log: the positions of the first entries of all decisions that were read."""

    root: Root
    keys: Keys
    inventory: Inventory
    head: KeyValue
    log: list[int]
    sessions: list[KeyValue]
    is_rebuilt: bool
    revision: int


async def load_state(etcd: Etcd, top: Top) -> Loaded | None:
    """The data set that counts; None when there is none.

    Raises EtcdUnavailable; EtcdCompacted when it has to be begun again; IntegrityFailure when it contradicts itself.
    """
    while True:
        found = (await etcd.read(get(top.root))).reads[0]
        if not found:
            return None
        root = _root_of(found[0], top)
        keys = Keys(top, root.data)
        result = await etcd.read(get(top.root), get(keys.head), get(keys.mark), under(keys.sessions))
        roots, heads, marks, sessions = result.reads
        if roots == found:
            break
    try:
        head, base = load_head(heads[0].value)
        stocks, initial = await _read_stocks(etcd, keys, result.revision)
        first = max(base.position + 1 - MAX_TRADES, 0)
        decisions = await read_log(etcd, keys, first, head.position, result.revision)
        entries = [entry for entry in load_entries(decisions) if entry.position > base.position]
        inventory = _inventory_of(root, top, stocks, initial, base, entries)
        check_state(inventory, head)
    except (AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
        raise IntegrityFailure(f"what is in etcd contradicts itself: {remedy_of(top)}") from error
    log = [position_of(each) for each in decisions]
    return Loaded(root, keys, inventory, heads[0], log, sessions, bool(marks), result.revision)


async def read_log(etcd: Etcd, keys: Keys, first: int, last: int, revision: int) -> list[KeyValue]:
    """The decisions whose first entries lie between two positions, both included."""
    found: list[KeyValue] = []
    while first <= last:
        until = min(first + ENTRIES_AT_ONCE - 1, last)
        found += (await etcd.read(keys.log_between(first, until, revision))).reads[0]
        first = until + 1
    return found


def position_of(decision: KeyValue) -> int:
    """The position of a decision's first entry."""
    return int(decision.key.rpartition("/")[2])


def remedy_of(top: Top) -> str:
    """What to do when the replicas know more than etcd."""
    prefix = top.root.removesuffix("root")
    return (
        "etcd lost something, or a snapshot of it was put back; stop all catalogs and delete every key that begins "
        f"with {prefix}, they are rebuilt from all replicas"
    )


def _root_of(found: KeyValue, top: Top) -> Root:
    try:
        return Root.of(found)
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityFailure(f"{top.root} in etcd is none of ours") from error


async def _read_stocks(etcd: Etcd, keys: Keys, revision: int) -> tuple[list[Stock], list[Stock]]:
    """All stocks, as they are and as they began."""
    stocks: list[Stock] = []
    initial: list[Stock] = []
    begin, end = keys.stocks, end_of(keys.stocks)
    while True:
        found = (await etcd.read(get(begin, end, revision=revision, limit=STOCKS_AT_ONCE))).reads[0]
        for each in found:
            now, then = load_stock(each.key.removeprefix(keys.stocks), each.value)
            stocks.append(now)
            initial.append(then)
        if len(found) < STOCKS_AT_ONCE:
            return stocks, initial
        begin = found[-1].key + "\0"


def _inventory_of(
    root: Root, top: Top, stocks: Sequence[Stock], initial: list[Stock], base: Head, entries: list[Entry]
) -> Inventory:
    return Inventory(root.generation, initial, stocks, base, entries, remedy=remedy_of(top))
