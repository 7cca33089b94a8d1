"""The benchmark's own generator of load, against servers that answer as the test says."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice

import pytest

from eval.bench.generators import Generator, Senders, Wrk
from eval.bench.load import Load, key, key_prefix
from eval.bench.sender import Part, requests_of, send
from services.cluster.errors import CannotDo
from services.common.models import KEY_PATTERN, TradeRequest
from tests.support.ports import free_port

GOOD = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
BAD = b"HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n"
NAMES = ("A", "B")


@dataclass
class Server:
    """Answers every request with `pieces`, one after the other on the wire; hangs up when there are none."""

    pieces: Sequence[bytes]
    port: int = field(default_factory=free_port)
    requests: list[bytes] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", self.port):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                self.requests.append(head + await reader.readexactly(int(length[1]) if length else 0))
                if not self.pieces:
                    return
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def part(load: Load, connections: int = 2) -> Part:
    return Part(load, connections, 0.05, 1, key_prefix(1_800_000_000_000))


def first_requests(load: Load, count: int) -> list[bytes]:
    return list(islice(requests_of(part(load)), count))


def test_trades_buy_and_sell_in_turn_with_fresh_keys_when_they_are_sent() -> None:
    requests = first_requests(Load(1, "trade", NAMES), 6)
    bodies = [TradeRequest.model_validate_json(each.partition(b"\r\n\r\n")[2]) for each in requests]
    assert [(each.type, each.name) for each in bodies] == [
        ("buy", "A"), ("sell", "A"), ("buy", "B"), ("sell", "B"), ("buy", "A"), ("sell", "A"),
    ]  # fmt: skip
    keys = [re.findall(rb"idempotency-key: (\S+)", each)[0].decode() for each in requests]
    assert keys == sorted(set(keys))
    assert all(re.fullmatch(KEY_PATTERN, each) for each in keys)


def test_keys_of_two_senders_differ_when_they_send_at_the_same_time() -> None:
    assert key(key_prefix(5), 1, 0) != key(key_prefix(5), 1, 1)


def test_names_are_asked_for_in_turn_when_stocks_are_looked_up() -> None:
    lines = [each.partition(b" HTTP")[0] for each in first_requests(Load(1, "look_up", NAMES), 3)]
    assert lines == [b"GET /stocks/A", b"GET /stocks/B", b"GET /stocks/A"]


def test_every_order_may_be_asked_for_when_orders_are_queried() -> None:
    numbers = {
        re.findall(rb"/orders/(\d+)", each)[0] for each in first_requests(Load(1, "order_query", highest=3), 200)
    }
    assert numbers == {b"1", b"2", b"3"}


def test_part_is_the_same_when_it_was_handed_to_a_process() -> None:
    sent = part(Load(1, "trade", NAMES, 7))
    assert Part.parse(sent.dump()) == sent


@pytest.mark.parametrize("pieces", [[GOOD], [GOOD[:20], GOOD[20:-1], GOOD[-1:]]])
async def test_every_answer_counts_when_it_comes_whole_or_in_pieces(pieces: list[bytes]) -> None:
    server = Server(pieces)
    async with server.running():
        told = await send(part(Load(server.port, "trade", NAMES)))
    assert told["errors"] == 0
    latencies = told["latencies_us"]
    assert isinstance(latencies, list)
    assert len(latencies) == len(server.requests) >= 2


@pytest.mark.parametrize("pieces", [[BAD], []])
async def test_answers_count_as_errors_when_they_are_bad_or_the_server_hangs_up(pieces: list[bytes]) -> None:
    server = Server(pieces)
    async with server.running():
        told = await send(part(Load(server.port, "look_up", NAMES)))
    assert told["latencies_us"] == []
    assert told["errors"] == len(server.requests) >= 2


async def test_every_connection_is_an_error_when_nobody_listens() -> None:
    told = await send(part(Load(free_port(), "look_up", NAMES), connections=3))
    assert (told["latencies_us"], told["errors"]) == ([], 3)


def generators() -> list[Generator]:
    """All that this machine has."""
    program = shutil.which("wrk")
    return [Senders()] if program is None else [Senders(), Wrk(program)]


@pytest.mark.parametrize("generator", generators(), ids=lambda each: each.name)
async def test_trades_are_sent_side_by_side_when_a_server_answers(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # so that one process or thread sends everything
    server = Server([GOOD])
    async with server.running():
        outcome = await generator.run(Load(server.port, "trade", NAMES), 3, 0.05)
    assert outcome.errors == 0
    assert 3 <= outcome.requests <= len(server.requests)
    assert 0 < outcome.p50_ms <= outcome.p99_ms
    bodies = [json.loads(each.partition(b"\r\n\r\n")[2]) for each in server.requests]
    assert {(each["type"], each["name"]) for each in bodies} >= {("buy", "A"), ("sell", "A"), ("buy", "B")}
    keys = {re.findall(rb"idempotency-key: (\S+)", each, re.IGNORECASE)[0] for each in server.requests}
    assert len(keys) == len(server.requests)


async def test_what_is_wrong_is_said_in_one_line_when_a_generator_fails() -> None:
    with pytest.raises(CannotDo):
        await Wrk("/bin/false").run(Load(free_port(), "trade", NAMES), 1, 0.05)
