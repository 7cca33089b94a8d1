"""Makes the databases of a bazaar that has traded a lot: millions of orders in a minute, as if they had been placed.

Catalog and replicas come out as they are at rest: every replica holds the same log with its real digest chain, and the
catalog its head, nothing before it, and the quantities that add up. The rows go to the disk by the stores' own schema;
`bazaar verify` accepts them, and the services go on from there.

`python -m eval.bench.logs DIR STOCKS ORDERS` does it in a process of its own, which can be killed.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw

from eval.bench.load import key, key_prefix
from services.catalog.inventory import Inventory
from services.catalog.sqlite_store import SqliteStore
from services.cluster.errors import CannotDo
from services.common.digest import entry_digest, initial_digest
from services.common.lifeline import die_with_parent
from services.common.models import Entry, Head, Stock
from services.order.store import COLUMNS, LogStore

FIRST_AT = 1_700_000_000_000  # milliseconds; one order a millisecond from then on
BYTES_A_ROW = 240
QUANTITY = 1_000_000  # of each stock: no load runs out of it
ROOM = 1.2

Row = tuple[int, int, str, str, str, int, int, int, str]


def make_stocks(count: int) -> list[Stock]:
    """So many stocks, by name."""
    return [Stock(name=f"Stock{i:06d}", price=1_000 + i % 9_000, quantity=QUANTITY) for i in range(count)]


def write_databases(data_dir: Path, stocks: list[Stock], orders: int, replicas: int = 3) -> None:
    """The databases of a bazaar in which the `stocks` were bought and sold in turn, one at a time, `orders` times.

    Raises CannotDo when there is no room on the disk.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    check_room(data_dir, orders * replicas)
    first = data_dir / "order-1.db"
    head = _write_log(first, stocks, orders)
    for i in range(2, replicas + 1):
        shutil.copyfile(first, data_dir / f"order-{i}.db")
    _write_catalog(data_dir / "catalog.db", stocks, head)


def check_room(folder: Path, rows_: int) -> None:
    """Raise CannotDo when the disk has no room for logs with so many rows in all."""
    needed = int(rows_ * BYTES_A_ROW * ROOM)
    if (free := shutil.disk_usage(folder).free) < needed:
        raise CannotDo(
            f"logs with {rows_:,} rows need {needed / 2**30:.1f} GiB, and {folder} has {free / 2**30:.1f} GiB left: "
            "name a folder on another disk with TMPDIR, or fewer orders"
        )


def _write_log(path: Path, stocks: list[Stock], orders: int) -> Head:
    store = LogStore(path)
    store.adopt(1, stocks)
    store.close()
    last = initial_digest(stocks)
    connection = apsw.Connection(str(path))
    try:
        # A file that is not whole is thrown away, so nothing needs to be durable meanwhile.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        marks = ", ".join("?" * len(COLUMNS.split(",")))
        connection.executemany(f"INSERT INTO log ({COLUMNS}) VALUES ({marks})", rows(stocks, orders))  # noqa: S608
        connection.execute("COMMIT")
        for (digest,) in connection.execute("SELECT digest FROM log ORDER BY position DESC LIMIT 1"):
            last = digest
    finally:
        connection.close()
    return Head(position=orders, number=orders, digest=last)


def rows(stocks: list[Stock], orders: int) -> Iterator[Row]:
    """The rows of the log."""
    digest = initial_digest(stocks)
    prefix = key_prefix(FIRST_AT)
    for position in range(1, orders + 1):
        stock = stocks[(position - 1) // 2 % len(stocks)]
        entry = Entry.model_construct(
            position=position,
            number=position,
            key=key(prefix, position, 0),
            name=stock.name,
            type="buy" if position % 2 else "sell",
            quantity=1,
            price=stock.price,
            at=FIRST_AT + position,
            digest="",
        )
        digest = entry_digest(digest, entry)
        yield position, position, entry.key, entry.name, entry.type, 1, entry.price, entry.at, digest


def _write_catalog(path: Path, stocks: list[Stock], head: Head) -> None:
    store = SqliteStore(path)
    try:
        store.create(Inventory(generation=1, initial=stocks, stocks=_stocks_after(stocks, head), base=head, entries=[]))
        store.clear_mark()
    finally:
        store.close()


def _stocks_after(stocks: list[Stock], head: Head) -> Iterator[Stock]:
    """The stocks as `rows` leaves them: each was last traded in the last pair of orders that was its own."""
    pairs = (head.position + 1) // 2
    for place, stock in enumerate(stocks):
        times = (pairs - place + len(stocks) - 1) // len(stocks)
        if times <= 0:
            yield stock
            continue
        version = min(2 * (place + (times - 1) * len(stocks)) + 2, head.position)
        bought = version % 2
        yield stock.model_copy(update={"version": version, "quantity": stock.quantity - bought})


def main() -> None:
    """Write the databases that the arguments describe; what is wrong is one line on stderr."""
    die_with_parent()
    folder, stocks, orders = sys.argv[1:]
    try:
        write_databases(Path(folder), make_stocks(int(stocks)), int(orders))
    except CannotDo as error:
        raise SystemExit(error.message) from None
    os.sync()  # the kernel would do it later, while something is measured


if __name__ == "__main__":
    main()
