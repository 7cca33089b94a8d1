"""Every message that travels between clients, front-ends, catalog and order replicas.

Prices are integer cents; `at` is milliseconds since 1970, UTC; positions and numbers count from 1, and 0 stands for
"before the first". Sources of the rules: docs/design.md.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_QUANTITY = 1_000_000
MAX_STOCK = 10**15
MAX_NUMBER = 2**63 - 1
MAX_ENTRIES = 1_000
MAX_TRADES = 1_000
MAX_GRANTORS = 16

NAME_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
KEY_PATTERN = r"^[!-~]{1,64}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, examples=["GameStart"])]
Key = Annotated[str, Field(pattern=KEY_PATTERN, examples=["0198c9f0-7a4e-7cc0-8000-3c8b0a1f2d4e"])]
Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY, examples=[3])]
Type = Literal["buy", "sell"]


class Message(BaseModel):
    """A message of the bazaar: strict types, never changed after it was made.

    Members that this version does not know are ignored: while a bazaar is upgraded, one process after the other, a
    newer one may send them. So a new member has a default, and none is renamed, removed or given another meaning; one
    release's neighbours understand each other (tests/unit/test_messages.py). Entry is the exception: its members are
    what the digests cover, so they stay as they are. What comes from outside is an Input.
    """

    model_config = ConfigDict(strict=True, frozen=True)


class Input(Message):
    """A message from outside, a customer's say: what is unknown in it is refused."""

    model_config = ConfigDict(extra="forbid")


# What the bazaar is about.


class Stock(Message):
    """A stock as the catalog keeps it; `version` is the position of its last accepted entry, 0 for none."""

    name: Name
    price: int
    quantity: int
    version: int = 0

    @property
    def etag(self) -> str:
        """The part of an entity tag that changes with every trade of this stock."""
        return str(self.version)


class Trade(Message):
    """A trade that somebody wants; its key is made once and survives every retry."""

    key: Key
    name: Name
    type: Type
    quantity: Quantity


class Entry(Message):
    """One row of the order log: a trade that was decided. A refused one has no number and never gets one."""

    position: int
    number: int | None
    key: Key
    name: Name
    type: Type
    quantity: Quantity
    price: int
    at: int
    digest: str

    def is_of(self, trade: Trade) -> bool:
        """Whether this entry answers `trade`, by content: a key may be used again only for the same trade."""
        return (self.name, self.type, self.quantity) == (trade.name, trade.type, trade.quantity)


class Head(Message):
    """The last position of a log, the digest there, and the number of accepted orders up to there."""

    position: int
    number: int
    digest: str


# Catalog and order replicas. Every message and every answer carries the generation.


class GenerationAnswer(Message):
    """The generation of a catalog or replica, with the stocks the bazaar started from; None before there is one."""

    generation: int | None
    stocks: list[Stock]


class DecideRequest(Message):
    """A replica reports its head and asks for everything after it, `trades` decided."""

    generation: int
    replica_id: int
    head: Head
    fsynced: int
    trades: list[Trade]


DecideOutcome = Literal["decided", "behind", "fetch_base", "diverged", "other_generation"]


class DecideAnswer(Message):
    """The catalog's answer. Only `decided` means that the trades were looked at.

    decided: `entries` are all those after the replica's head. behind: the first 1,000 of more. fetch_base: entries up
    to `base` must come from other replicas. diverged: the replica's log is not a prefix of the catalog's sequence.
    """

    generation: int
    outcome: DecideOutcome
    base: int
    head: Head
    entries: list[Entry]


class AppendRequest(Message):
    """The leader sends `entries`, which follow `before` in its log."""

    generation: int
    before: Head
    entries: list[Entry]


AppendOutcome = Literal["taken", "behind", "diverged", "other_generation"]


class AppendAnswer(Message):
    """A follower's fsynced head. It covers what was sent only if its position says so."""

    generation: int | None
    outcome: AppendOutcome
    head: Head


class EntriesAnswer(Message):
    """Fsynced entries after a position, at most 1,000, and the fsynced head."""

    generation: int | None
    head: Head
    entries: list[Entry]


class AdoptRequest(Message):
    """A catalog that is being rebuilt gives every replica the new generation and the initial stocks."""

    generation: int
    stocks: list[Stock]


class AdoptAnswer(Message):
    """The replica's generation after the request, and its fsynced head."""

    generation: int
    outcome: Literal["adopted", "refused"]
    head: Head


class StockAnswer(Message):
    """One stock as committed, with the catalog's head position at the same moment."""

    generation: int
    head: int
    stock: Stock


class StocksAnswer(Message):
    """All stocks as committed, by name, with the catalog's head at the same moment."""

    generation: int
    head: Head
    stocks: list[Stock]


# Front-end and order replicas.


class TradesRequest(Message):
    """A front-end forwards trades; the answer must come within `time_left` seconds."""

    time_left: float
    trades: list[Trade]


TradeResult = Literal["accepted", "refused", "other_content", "unknown_stock", "unavailable", "unknown"]


class TradeOutcome(Message):
    """What became of one trade.

    accepted: order `number`. refused: not enough stock, final. other_content: the key belongs to another trade.
    unknown_stock: there is no such stock. unavailable: certainly not executed. unknown: may have been executed.
    """

    result: TradeResult
    number: int | None = None
    replayed: bool = False


class TradesAnswer(Message):
    """One outcome for each trade, in the order of the request."""

    outcomes: list[TradeOutcome]


class Order(Message):
    """An accepted order as the customer sees it."""

    number: int = Field(examples=[17])
    name: Name
    type: Type
    quantity: Quantity


class OrderAnswer(Message):
    """An order, or None: certainly no such order at the time of the question. generation: that of the log."""

    generation: int
    order: Order | None


class OrdersAnswer(Message):
    """Orders in number order; `next` is the number to ask after for more, None at the end. generation: of the log."""

    generation: int
    orders: list[Order]
    next: int | None


class LeaderNotice(Message):
    """A front-end tells a replica whom it selected."""

    front_end: str
    leader: int


class ReplicaStatus(Message):
    """What a replica says of itself; `level_age` is seconds since it had the catalog's head, None if it never had."""

    replica_id: int
    generation: int | None
    role: Literal["leader", "follower"]
    level: bool
    level_age: float | None
    head: Head


class CatalogStatus(Message):
    """What the catalog says of itself; generation None while it is starting."""

    generation: int | None
    base: int
    head: Head | None
    sessions: int


# Front-end and catalog: the cache's sessions.


class SessionRequest(Message):
    """A front-end opens, renews or ends its session; `url` is where its internal listener is.

    grantors: when it opens one, the catalogs that it will ask for each renewal.
    """

    session: str
    url: str
    grantors: list[str] = Field(default=[], max_length=MAX_GRANTORS)


SessionOutcome = Literal["opened", "renewed", "busy", "no_session", "ended"]


class SessionAnswer(Message):
    """opened and renewed count from before the request was sent; busy: not renewed, ask again soon.

    grantor: what sessions call the catalog that says so, new with every start; empty where no other one decides.
    """

    generation: int
    outcome: SessionOutcome
    floor: int
    grantor: str = ""


class InvalidateRequest(Message):
    """The catalog is about to change these stocks: name to the position of the change."""

    session: str
    generation: int
    floors: dict[str, int]


class SessionNotice(Message):
    """The catalog asks whether this session is being opened, or recalls it for ever."""

    session: str


class SessionNoticeAnswer(Message):
    """mine: done as asked. not_mine: no such session here (any more)."""

    outcome: Literal["mine", "not_mine"]


class ReplicaView(Message):
    """A replica as one front-end sees it."""

    id: int
    state: Literal["level", "answering", "silent"]


class LeaderChange(Message):
    """A front-end selected another leader, None when nobody answers. Times are milliseconds since 1970.

    noticed_ms: when the one before was found to have failed. first_trade_ms: when a trade was first accepted after it.
    """

    before: int | None
    leader: int | None
    noticed_ms: int
    selected_ms: int
    first_trade_ms: int | None = None


class CacheSwitch(Message):
    """Turn the cache on or off while the front-end runs."""

    on: bool


class CacheCounts(Message):
    """How large a cache is, and what it has done so far."""

    size: int
    capacity: int
    hits: int
    misses: int
    evictions: int
    invalidations: int


class CacheState(CacheCounts):
    """The cache from inside: `entries` are the most recently used ones, the least recently used of them first."""

    on: bool
    live: bool
    entries: list[Stock]


class FrontEndStatus(Message):
    """What a front-end says of itself on its internal listener; `changes` are the last ones, oldest first."""

    name: str
    leader: int | None
    replicas: list[ReplicaView]
    session: bool
    changes: list[LeaderChange] = []
    cache: CacheState | None = None


# The public API.


class TradeRequest(Input):
    """A trade as a customer asks for it."""

    name: Name
    type: Type
    quantity: Quantity


class PublicStock(Message):
    """A stock as the customer sees it; the price has two decimals."""

    name: Name
    price: float = Field(examples=[152.25])
    quantity: int = Field(examples=[100])


class StockData(Message):
    """Answer of GET /stocks/{name}."""

    data: PublicStock


class StocksData(Message):
    """Answer of GET /stocks; `next` is the name to ask after for more, null at the end."""

    data: list[PublicStock]
    next: Name | None


class OrderData(Message):
    """Answer of POST /orders and GET /orders/{number}."""

    data: Order


class OrdersData(Message):
    """Answer of GET /orders; `next` is the number to ask after for more, null at the end."""

    data: list[Order]
    next: int | None


class LeaderView(Message):
    """The leader this front-end selected, null while there is none, and how it sees the replicas."""

    leader: int | None
    replicas: list[ReplicaView]


class LeaderData(Message):
    """Answer of GET /leader."""

    data: LeaderView


class CacheView(CacheCounts):
    """The cache as it is: `entries` least recently used first."""

    entries: list[PublicStock]


class CacheData(Message):
    """Answer of GET /cache."""

    data: CacheView


class ErrorDetail(Message):
    """`code` is the HTTP status; `message` says what is wrong and never repeats the input."""

    code: int = Field(examples=[404])
    message: str = Field(examples=["there is no such stock"])


class ErrorData(Message):
    """The one shape of every error."""

    error: ErrorDetail
