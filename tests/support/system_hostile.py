"""A hundred requests that no well-behaved client sends, as bytes for a socket."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

WAIT_S = 60.0
DEEP = 20_000

QUANTITIES = (
    "0",
    "-5",
    "1000001",
    str(2**63),
    "9" * 5_000,
    "1.0",
    "1e3",
    '"5"',
    "true",
    "null",
    "[1]",
    '{"a":1}',
    "NaN",
)
NAMES = (
    "5",
    "null",
    "[]",
    '""',
    '"  "',
    f'"{"a" * 65}"',
    '"a\\u0000b"',
    '"\\ud800"',
    '"\\u202eabc"',
    '"\'; DROP TABLE"',
)
TYPES = ('"BUY"', '"hold"', "1", "null")
BODIES = (
    b"", b"hello", b"{", b"[]", b'"x"', b"[" * DEEP, b'{"name":"IBM","type":"buy","quantity":1,}', b"\xff\xfe{}",
    b'{"name":"IBM","type":"buy","quantity":1}}', b'{"name":"IBM","type":"buy","quantity":1,"price":1}',
    b'{"name":"IBM","type":"buy","quantity":1,"quantity":2}', b'{"name":"IBM","type":"buy"}', b"\xef\xbb\xbf{}",
)  # fmt: skip
HEADERS = (
    "Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "Content-Encoding: gzip",
    f"Idempotency-Key: {'k' * 1_000}", "Idempotency-Key: ", "Idempotency-Key: a b", "Idempotency-Key: \x01",
    "Idempotency-Key: one\r\nIdempotency-Key: two", "Content-Length: abc", "Content-Length: 99999999999999999999",
)  # fmt: skip
PATHS = (
    "/orders/0", "/orders/-1", "/orders/abc", "/orders/1.0", "/orders/1_0", f"/orders/{2**63}", "/orders/1/",
    "//orders/1", "/stocks/%00", "/stocks/%2e%2e%2fsecret", "/../secret", "/docs/assets/../../../secret",
    "/docs/assets/%2e%2e/%2e%2e/secret", f"/{'x' * 70_000}", "/orders?after=-1", "/orders?limit=0", "/orders?limit=x",
    "/orders?limit=1001", "/stocks?after=%00", "/secret", "/catalog.db",
    "/orders/%31%00", "/stocks/IBM/", "/stocks//IBM", "/%ff", "/decide", "/append", "/status", "/entries",
)  # fmt: skip
METHODS = ("TRACE", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")
UNFINISHED = (b"", b"GET /stocks/IBM HT", b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")


def hostile_requests() -> Iterator[bytes]:
    """Each must be refused with a 4xx; none may change anything."""
    for quantity in QUANTITIES:
        yield _post(f'{{"name":"IBM","type":"buy","quantity":{quantity}}}'.encode())
    for name in NAMES:
        yield _post(f'{{"name":{name},"type":"sell","quantity":1}}'.encode())
    for kind in TYPES:
        yield _post(f'{{"name":"IBM","type":{kind},"quantity":1}}'.encode())
    for body in (*BODIES, b"[" + b" " * 65_536 + b"]"):
        yield _post(body)
    for header in HEADERS:
        yield _post(b'{"name":"IBM","type":"buy","quantity":1}', header)
    for path in PATHS:
        yield f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    for method in METHODS:
        for path in ("/orders", "/stocks/IBM", "/leader"):
            yield f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    yield b"GET /stocks/IBM HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)
    yield b"hello\r\n\r\n"


def _post(body: bytes, header: str = "") -> bytes:
    lines = ["POST /orders HTTP/1.1", "Host: x", "Connection: close"]
    lines += [header] if header else []
    lines += [] if header.startswith("Content-Type") else ["Content-Type: application/json"]
    lines += [] if header.startswith("Content-Length") else [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def send(url: str, request: bytes) -> tuple[int, Any]:
    """The answer's status and its JSON, as far as there is any; (0, None) when the connection was just closed."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(WAIT_S):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            return int(head.split()[1]), json.loads(await reader.read() or b"null")
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0, None
    finally:
        writer.close()
