"""The benchmark's own generator of load: raw sockets, one process for each part of the connections.

`python -m eval.bench.sender JSON` sends one load and prints what came back. It parses no more of HTTP than the status
and the length of an answer, so that a server of the same language is the slower of the two.
"""

import asyncio
import itertools
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from eval.bench.load import HOST, Load, key
from services.common.lifeline import die_with_parent

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
LAST_ANSWERS_S = 15.0  # a trade is answered within ten


@dataclass(frozen=True)
class Part:
    """The share of one process in a load. prefix: of all keys."""

    load: Load
    connections: int
    seconds: float
    sender: int
    prefix: str

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Part":
        """From JSON."""
        members = json.loads(text)
        load = members.pop("load")
        return cls(load=Load(**load | {"names": tuple(load["names"])}), **members)


class Tally:
    """What came back so far: a latency in microseconds for each good answer, how many others, and when the last."""

    def __init__(self) -> None:
        self.latencies_us: list[int] = []
        self.errors = 0
        self.last = 0.0

    def count(self, sent: float, *, is_good: bool) -> None:
        """Take in one answer."""
        self.last = time.perf_counter()
        if is_good:
            self.latencies_us.append(round((self.last - sent) * 1_000_000))
        else:
            self.errors += 1


class Connection(asyncio.Protocol):
    """Sends a request, reads its answer, and goes on so until the deadline."""

    def __init__(self, requests: Iterator[bytes], deadline: float, tally: Tally) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._deadline = deadline
        self._tally = tally
        self._received = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not say so
        self._send()

    def data_received(self, data: bytes) -> None:
        """Count the answer when all of it is there."""
        self._received = self._received + data if self._received else data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = LENGTH.search(self._received, 0, end + 2)
        if length is None or len(self._received) < end + 4 + int(length[1]):
            return
        self._tally.count(self._sent, is_good=self._received[9:10] == b"2")
        self._received, self._sent = b"", 0.0
        if self._tally.last < self._deadline:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The end; one that comes while an answer is outstanding is an error."""
        if self._sent:
            self._tally.errors += 1
        self.over.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


def requests_of(part: Part) -> Iterator[bytes]:
    """The bytes of one request after the other, for all connections of a part."""
    load = part.load
    if load.kind == "trade":
        return _trades(part)
    if load.kind == "look_up":
        return itertools.cycle([_get(f"/stocks/{name}") for name in load.names])
    return (_get(f"/orders/{random.randint(1, load.highest)}") for _ in itertools.count())


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode("ascii")


def _trades(part: Part) -> Iterator[bytes]:
    bodies = [
        json.dumps({"name": name, "type": kind, "quantity": 1}) for name in part.load.names for kind in ("buy", "sell")
    ]
    for count, body in enumerate(itertools.cycle(bodies)):
        yield (
            f"POST /orders HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nidempotency-key: {key(part.prefix, count, part.sender)}\r\n\r\n{body}"
        ).encode("ascii")


async def send(part: Part) -> dict[str, object]:
    """Send one part of a load, which is over with the answer to what was sent last.

    Gives the latencies, the errors, the seconds, and which part of the processor this process used.
    """
    tally, requests = Tally(), requests_of(part)
    began, used = time.perf_counter(), time.process_time()
    deadline = began + part.seconds
    opened = await asyncio.gather(*(_open(part, requests, deadline, tally) for _ in range(part.connections)))
    ends = [connection.over for connection in opened if connection is not None]
    tally.errors += len(opened) - len(ends)
    if ends:
        _, unanswered = await asyncio.wait(ends, timeout=part.seconds + LAST_ANSWERS_S)
        tally.errors += len(unanswered)
    seconds = max(tally.last, deadline) - began
    share = (time.process_time() - used) / seconds
    return {"latencies_us": tally.latencies_us, "errors": tally.errors, "seconds": seconds, "share": share}


async def _open(part: Part, requests: Iterator[bytes], deadline: float, tally: Tally) -> Connection | None:
    """A connection that has begun; None when it was refused."""
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_connection(
            lambda: Connection(requests, deadline, tally), HOST, part.load.port
        )
    except OSError:
        return None
    return connection


def main() -> None:
    """Send the part that the argument describes."""
    die_with_parent()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(json.dumps(runner.run(send(Part.parse(sys.argv[1])))))


if __name__ == "__main__":
    main()
