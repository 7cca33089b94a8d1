"""Where in etcd the catalog's state lies, and in what words.

    PREFIX/root                       which data set counts, and its generation: {"data": ID, "generation": 3}
    PREFIX/claim, PREFIX/beat         who rebuilds the state while there is no root, and that it is still at it
    PREFIX/data/ID/head               the head of the sequence, and base
    PREFIX/data/ID/stocks/NAME        price, quantity, version, initial quantity
    PREFIX/data/ID/log/POSITION       the entries of one decision, by the position of the first
    PREFIX/data/ID/sessions/SESSION   where the front-end listens, and whether its session was revoked
    PREFIX/data/ID/fsynced/REPLICA    what this replica has on its disk, as it last told some catalog
    PREFIX/data/ID/rebuilt            the mark of a rebuilt state
    PREFIX/data/ID/probe              nothing: written to see whether etcd can be written to

Everything but `root` lies under an id that is made for one rebuild, so that two of them cannot mix; `root` says which
of them counts, and is written once.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from services.catalog.etcd import KeyValue, Part, end_of, get, is_at
from services.common.models import Entry, Head, Stock

ENTRIES = TypeAdapter(list[Entry])


class Top:
    """The keys that do not belong to one data set."""

    def __init__(self, prefix: str) -> None:
        self.root = f"{prefix}/root"
        self.claim = f"{prefix}/claim"
        self.beat = f"{prefix}/beat"
        self.data = f"{prefix}/data/"


class Keys:
    """The keys of the data set `data`."""

    def __init__(self, top: Top, data: str) -> None:
        self.all = f"{top.data}{data}/"
        self.head = f"{self.all}head"
        self.mark = f"{self.all}rebuilt"
        self.probe = f"{self.all}probe"
        self.stocks = f"{self.all}stocks/"
        self.log = f"{self.all}log/"
        self.sessions = f"{self.all}sessions/"
        self.fsynced = f"{self.all}fsynced/"

    def log_at(self, position: int) -> str:
        """The entries of a decision whose first one has this position."""
        return f"{self.log}{position:016d}"

    def session(self, session_id: str) -> str:
        """A session; its id may be any text."""
        return f"{self.sessions}{session_id.encode().hex()}"

    def log_between(self, first: int, last: int, revision: int) -> Part:
        """Read the decisions whose first entries lie between two positions, both included."""
        return get(self.log_at(first), self.log_at(last + 1), revision=revision)


@dataclass(frozen=True)
class Root:
    """Which data set counts; `key_value` as it was found: a data set whose root is another one is over."""

    data: str
    generation: int
    key_value: KeyValue

    @classmethod
    def of(cls, found: KeyValue) -> "Root":
        """Read it. Raises ValueError or KeyError."""
        fields = json.loads(found.value)
        return cls(fields["data"], fields["generation"], found)

    @property
    def stands(self) -> Part:
        """Whether it is still the one that was found."""
        return is_at(self.key_value.key, self.key_value.mod_revision)


def under(prefix: str) -> Part:
    """Read every key with this prefix."""
    return get(prefix, end_of(prefix))


def dump(value: Any) -> bytes:
    """A value as it is written."""
    return json.dumps(value, separators=(",", ":")).encode()


def dump_head(head: Head, base: Head) -> bytes:
    """The value of `head`."""
    return dump({"head": head.model_dump(), "base": base.model_dump()})


def load_head(value: bytes) -> tuple[Head, Head]:
    """Head and base. Raises ValueError or KeyError."""
    fields = json.loads(value)
    return Head.model_validate(fields["head"]), Head.model_validate(fields["base"])


def dump_stock(stock: Stock, initial: int) -> bytes:
    """The value of a stock, which began with the quantity `initial`."""
    return dump([stock.price, stock.quantity, stock.version, initial])


def load_stock(name: str, value: bytes) -> tuple[Stock, Stock]:
    """A stock as it is, and as it began. Raises ValueError."""
    price, quantity, version, initial = json.loads(value)
    stock = Stock(name=name, price=price, quantity=quantity, version=version)
    return stock, Stock(name=name, price=price, quantity=initial)


def load_entries(found: Iterable[KeyValue]) -> list[Entry]:
    """The entries of several decisions, in the order of their keys. Raises ValueError."""
    return [entry for each in found for entry in ENTRIES.validate_json(each.value)]
