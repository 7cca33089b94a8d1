"""What is asked of a server, and what came back: the same for every generator of load."""

from dataclasses import dataclass
from typing import Literal

HOST = "127.0.0.1"
BOTTLENECK = 0.85  # of the processor time that the generator could have had


@dataclass(frozen=True)
class Load:
    """Requests to one port, each connection sending one after the other.

    look_up: GET /stocks/{name}, the `names` in turn. trade: POST /orders with a fresh idempotency key, buying and
    selling in turn, so that no stock runs out. order_query: GET /orders/{number}, any number from 1 to `highest`.
    """

    port: int
    kind: Literal["look_up", "trade", "order_query"]
    names: tuple[str, ...] = ()
    highest: int = 0


@dataclass(frozen=True)
class Outcome:
    """What one run of a load gave. errors: answers that are not 2xx, and connections that broke.

    share: the part of the processor time of its threads or processes that the generator used; near 1 it was the
    bottleneck, and not the server. The latencies are 0 when no request was answered well.
    """

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    share: float


def key(prefix: str, count: int, sender: int) -> str:
    """An idempotency key in time order, as a UUID of version 7 is: a prefix of one run, a count, and who sends."""
    return f"{prefix[:8]}-{prefix[8:12]}-7{sender:03x}-8000-{count:012x}"


def key_prefix(wall_ms: int) -> str:
    """The first 12 digits of all keys of a run that begins at this moment."""
    return f"{wall_ms & 0xFFFF_FFFF_FFFF:012x}"
