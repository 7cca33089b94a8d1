"""Sending bad inputs to a running bazaar, and what every answer to one must be like."""

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.hostile_table import FAMILIES, Bad

WAIT_S = 60.0
INSIDE = (b"Traceback", b"pydantic", b"services", b".py", b"sqlite", b"starlette", b"fastapi", b"uvicorn", b"/home/")
UNFINISHED = (b"", b"GET /stocks/IBM HT", b"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 when the connection was just closed."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes


async def send(url: str, request: bytes) -> Answer:
    """Send bytes to a front-end and read its answer until it closes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    raw = b""
    try:
        async with asyncio.timeout(WAIT_S):
            writer.write(request)
            while data := await reader.read(65_536):
                raw += data
    except ConnectionError:
        pass  # closed before all was read: what had come until then counts
    finally:
        writer.close()
    return _parse(raw)


def _parse(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    if not head:
        return Answer(0, {}, b"", raw)
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(first.split()[1]), headers, body, raw)


def fault(bad: Bad, answer: Answer) -> str | None:
    """What is wrong with the answer to a bad input; None when nothing is."""
    if answer.status not in bad.codes:
        return f"{answer.status} instead of {bad.codes}"
    if not bad.request.startswith(b"HEAD") and not _has_the_shape(answer):
        return "not the one shape of errors"
    if "location" in answer.headers:
        return "a redirect"
    if answer.status == 405 and set(answer.headers.get("allow", "").split(", ")) != bad.allow:
        return "another Allow"
    if any(word in answer.raw for word in INSIDE):
        return "a trace of the inside"
    return "an echo" if bad.echo and bad.echo in answer.raw else None


def _has_the_shape(answer: Answer) -> bool:
    try:
        content = json.loads(answer.body)
    except ValueError:
        return False
    message = content.get("error", {}).get("message") if isinstance(content, dict) else None
    is_text = isinstance(message, str) and message.isprintable() and message.isascii() and len(message) > 0
    is_json = answer.headers.get("content-type") == "application/json"
    return is_json and is_text and content == {"error": {"code": answer.status, "message": message}}


def every_bad_input() -> list[Bad]:
    """Those of all families."""
    return [bad for family in FAMILIES.values() for bad in family]
