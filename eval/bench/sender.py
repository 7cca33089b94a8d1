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
    """What came back so far: a latency in microseconds for each good answer, and how many others."""

    def __init__(self) -> None:
        self.latencies_us: list[int] = []
        self.errors = 0


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
        self._count(self._received[9:10] == b"2")
        if time.perf_counter() < self._deadline:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """The end; one that comes while an answer is outstanding is an error."""
        if self._sent:
            self._tally.errors += 1
        if not self.over.done():
            self.over.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))

    def _count(self, is_good: bool) -> None:
        now = time.perf_counter()
        if not is_good:
            self._tally.errors += 1
        elif now <= self._deadline:
            self._tally.latencies_us.append(round((now - self._sent) * 1_000_000))
        self._received, self._sent = b"", 0.0


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
    """Send one part of a load; gives the latencies, the errors, and what this process used of the processor."""
    loop = asyncio.get_running_loop()
    tally, requests = Tally(), requests_of(part)
    began, used = time.perf_counter(), time.process_time()
    connections: list[Connection] = []
    for _ in range(part.connections):
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(requests, began + part.seconds, tally), HOST, part.load.port
            )
            connections.append(connection)
        except OSError:
            tally.errors += 1
    if connections:
        ends = [connection.over for connection in connections]
        _, unanswered = await asyncio.wait(ends, timeout=part.seconds + LAST_ANSWERS_S)
        tally.errors += len(unanswered)
    share = (time.process_time() - used) / max(time.perf_counter() - began, part.seconds)
    return {"latencies_us": tally.latencies_us, "errors": tally.errors, "share": share}


def main() -> None:
    """Send the part that the argument describes."""
    die_with_parent()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(json.dumps(runner.run(send(Part.parse(sys.argv[1])))))


if __name__ == "__main__":
    main()
