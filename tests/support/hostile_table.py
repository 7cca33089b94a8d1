"""Bad inputs by family, as bytes for a socket, with what each may be answered: examples, and what is next to them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

GOOD: dict[str, object] = {"name": "IBM", "type": "buy", "quantity": 1}
GOOD_BODY = json.dumps(GOOD).encode()
MOST_BODY = 65_536
EVERY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@dataclass(frozen=True)
class Bad:
    """One input. codes: what it may be answered. echo: what must not come back. allow: what a 405 names."""

    request: bytes
    codes: tuple[int, ...]
    echo: bytes = b""
    allow: frozenset[str] = frozenset()


def post(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A trade's request; its media type is JSON unless `headers` say otherwise."""
    lines = ["POST /orders HTTP/1.1", "Host: x", "Connection: close", *headers]
    if not any(header.startswith("Content-Type") for header in headers):
        lines.append("Content-Type: application/json")
    if not any(header.startswith(("Content-Length", "Transfer-Encoding")) for header in headers):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def request(method: str, path: str) -> bytes:
    """A request without a body."""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1")


# Members of a trade, as they stand in the body.

OUT_OF_RANGE = ("0", "-0", "-5", "1000001", str(2**63), str(2**64), "1" + "0" * 30, "9" * 5_000)
NOT_WHOLE = ("1.0", "1e3", "1E0", "1.5", '"5"', '""', "true", "false", "null", "[1]", "[]", '{"a":1}')
NO_NUMBER = ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "0x10", "01", "+1", ".5", "1_0", "\u0661", "")
NAMES = (
    "5", "null", "true", "[]", "{}", '["IBM"]', '""', '"  "', '"IBM "', '" IBM"', f'"{"a" * 65}"', f'"{"a" * 9_999}"',
    r'"a\u0000b"', r'"a\nb"', r'"IBM\n"', r'"a\u001bb"', r'"\ud800"', r'"\udc00\ud800"', r'"\u202eabc"', r'"IBM\u200b"',
    '"\'; DROP TABLE stocks"', '"../../secret"', '"a/b"', '"a%00"', '"\uff29BM"', '"\u00e9t\u00e9"', '"\U0001f4c8"',
)  # fmt: skip
TYPES = ('"BUY"', '"Sell"', '"hold"', '" buy"', '"buy\\n"', '""', "1", "0", "null", "true", '["buy"]', '{"buy":1}')
FIELDS = ("number", "price", "head", "key", "position", "Quantity", "__proto__", "surprise-surprise")


def _member(field: str, value: str) -> bytes:
    members = {name: json.dumps(good) for name, good in GOOD.items()} | {field: value}
    return ("{" + ",".join(f'"{name}":{written}' for name, written in members.items()) + "}").encode()


def _members(field: str, values: Iterable[str], *codes: int) -> Iterator[Bad]:
    for value in values:
        shown = value.strip('"').encode() if len(value) > 6 else b""
        yield Bad(post(_member(field, value)), codes, shown)


def _without(field: str) -> Bad:
    return Bad(post(json.dumps({name: good for name, good in GOOD.items() if name != field}).encode()), (422,))


# Bodies, media types and keys.

BODIES = (
    b"", b" ", b"hello-hello", b"{", b"}", b"[]", b"{}", b'"surprise"', b"1", b"null", b"true",
    GOOD_BODY[:-1] + b",}", GOOD_BODY + b"}", GOOD_BODY + b" {}", GOOD_BODY + b"\0", b"[" + GOOD_BODY + b"]",
    GOOD_BODY.replace(b'"', b"'"), GOOD_BODY[:-1] + b',"quantity":2}', GOOD_BODY[:-1] + b',"name":"AMD"}',
    GOOD_BODY.replace(b"IBM", b"\xff\xfe"), GOOD_BODY.replace(b"IBM", b"\xed\xa0\x80"), b"\xef\xbb\xbf" + GOOD_BODY,
    GOOD_BODY.decode().encode("utf-16"), GOOD_BODY.decode().encode("utf-16-be"), GOOD_BODY.decode().encode("utf-32"),
    b"[" * 60_000, b'{"name":' * 7_000, b'{"name":"IBM","type":"buy","quantity":1' + b" " * 60_000,
)  # fmt: skip
MEDIA = (
    "Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "Content-Type: ",
    "Content-Type: multipart/form-data; boundary=x", "Content-Type: application/jsonx", "Content-Type: application/xml",
    "Content-Type: application/json; charset=utf-16", "Content-Encoding: gzip", "Content-Encoding: br",
)  # fmt: skip
KEYS = (
    "k" * 1_000, "k" * 65, "", " ", "a surprise", "a\tsurprise", "surpris\xe9",
)  # fmt: skip
CONTROLS_IN_HEADERS = (
    "surprise\x01",
    "surprise\x7f",
    "surprise\x00",
    "surprise\x1b[31m",
    "surprise\nX-Other: 1\r",
    "surprise\r",
)


def _keys() -> Iterator[Bad]:
    for key in KEYS:
        echo = key.encode("latin-1") if len(key) > 5 else b""
        yield Bad(post(GOOD_BODY, f"Idempotency-Key: {key}"), (422,), echo)
    for key in CONTROLS_IN_HEADERS:
        yield Bad(post(GOOD_BODY, f"Idempotency-Key: {key}"), (400, 422), b"surprise")
    yield Bad(post(GOOD_BODY, "Idempotency-Key: surprise-1", "Idempotency-Key: surprise-2"), (422,), b"surprise")


# Paths.

NUMBERS = (
    "0", "-1", "-0", "abc", "1.0", "1_0", "1e1", "01", "%2B1", "0x1", "null", "%201", "1%20", "1%00", "1%0A", "%31%00",
    "%D9%A1", str(2**63), str(2**64), "9" * 5_000,
)  # fmt: skip
NOWHERE = (
    "/", "/orders/", "/orders/1/", "//orders/1", "/orders//1", "/orders/1/2", "/orders/%2F", "/stocks/", "/stocks/IBM/",
    "/stocks//IBM", "/stocks/%00", "/stocks/IBM%00", "/stocks/IBM%0A", "/stocks/%2e%2e%2f", "/stocks/%2e%2e%2fsecret",
    "/stocks/ibm", f"/stocks/{'a' * 65}", f"/stocks/{'a' * 7_000}", "/stocks/%FF", "/stocks/%C3%A9", "/stocks/%zz",
    "/%ff", "/../secret", "/secret", "/catalog.db", "/.env", "/docs/", "/docs/assets/../../../secret", "/redoc",
    "/docs/assets/%2e%2e/%2e%2e/__init__.py", "/docs/assets/nothing.js", "/docs/assets/", "/cache/", "/admin",
)  # fmt: skip
QUERIES = (
    *(f"/orders?after={after}" for after in ("-1", "1.0", "a", "", "01", "1_0", str(2**63), "%D9%A1", "9" * 5_000)),
    *(f"{path}?limit={limit}" for path in ("/orders", "/stocks") for limit in ("0", "1001", "-1", "1e2", "", "%2B1")),
    *(f"/stocks?after={after}" for after in ("", "%00", "A%20B", "a" * 65, "%E2%80%AE", "IBM%0A")),
)


def _paths() -> Iterator[Bad]:
    for number in NUMBERS:
        yield Bad(request("GET", f"/orders/{number}"), (422,), number.encode() if len(number) > 6 else b"")
    for path in NOWHERE:
        yield Bad(request("GET", path), (404,), b"secret" if "secret" in path else b"")
    for path in QUERIES:
        yield Bad(request("GET", path), (422,))
    for path in (f"/{'x' * 70_000}", f"/stocks/{'x' * 70_000}", f"/orders?after={'1' * 70_000}"):
        yield Bad(request("GET", path), (414,), b"xxxx")
    for path in ("/stocks/\xe9", "/stocks/a b", "/stocks/\x00", "stocks/IBM", "*"):
        yield Bad(request("GET", path), (400, 404))
    for path in ("/stocks/surprise", "/cache/surprise", "/cache/%00", "/cache/surprise%20"):
        yield Bad(request("DELETE" if "cache" in path else "GET", path), (404,), b"surprise")


# Connections.

NO_HTTP = (
    b"hello surprise\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # the beginning of TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /stocks/IBM HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /stocks/IBM HTTP/1.1\r\nX-Surprise : 1\r\n\r\n",
    b"BREW /stocks/IBM HTTP/1.1\r\nHost: x\r\n\r\n",
    post(GOOD_BODY, "Content-Length: abc"),
    post(GOOD_BODY, "Content-Length: -1"),
    post(GOOD_BODY, "Content-Length: 99999999999999999999"),
    post(GOOD_BODY, "Content-Length: 39", "Content-Length: 40"),
    post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
    post(b"zz\r\n", "Transfer-Encoding: chunked"),
)
ONE_LONG_HEADER = b"GET /stocks/IBM HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n"
MANY_HEADERS = b"GET /stocks/IBM HTTP/1.1\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(5_000)) + b"\r\n"

FAMILIES: dict[str, list[Bad]] = {
    "quantity out of range": list(_members("quantity", OUT_OF_RANGE, 400, 422)),
    "quantity not whole": [*_members("quantity", NOT_WHOLE, 422), _without("quantity")],
    "quantity no number": list(_members("quantity", NO_NUMBER, 400, 422)),
    "name": [*_members("name", NAMES, 400, 422), _without("name")],
    "type": [*_members("type", TYPES, 422), _without("type")],
    "fields": [Bad(post(_member(field, "1")), (422,), b"surprise") for field in FIELDS],
    "body": [Bad(post(body), (400, 422), b"surprise") for body in BODIES],
    "body too large": [
        Bad(post(GOOD_BODY + b" " * (MOST_BODY + 1 - len(GOOD_BODY))), (413,)),
        Bad(post(b"[" * 200_000), (413,)),
        Bad(post(b"", length=10**12), (413,)),
        Bad(post(b"11000\r\n" + b" " * 0x11000 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), (413,)),
    ],
    "media type": [Bad(post(GOOD_BODY, header), (415,)) for header in MEDIA],
    "path": list(_paths()),
    "key": list(_keys()),
    "no HTTP": [Bad(each, (400,), b"urprise") for each in NO_HTTP],
    "head too large": [Bad(each, (431,), b"xxxx") for each in (ONE_LONG_HEADER, MANY_HEADERS)],
}


def other_methods(path: str, allowed: Iterable[str]) -> Iterator[Bad]:
    """Every method that a path does not have."""
    has = frozenset(allowed)
    for method in EVERY_METHOD:
        if method not in has:
            yield Bad(request(method, path), (405,), allow=has)
