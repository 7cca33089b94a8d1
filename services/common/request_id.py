"""Which request a line in the log, a call to another service and an error's answer belong to.

The id is what the caller sent as `X-Request-Id`, else the trace id of the `traceparent` that it sent (W3C Trace
Context), else made here, when somebody asks for it: most requests need none. Calls to other services carry it, and the
`traceparent` as it came. A call that many requests share carries those of the first one.
"""

import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import count

from starlette.types import Message, Scope

HEADER = b"x-request-id"

_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_REFUSED = 400

_request: ContextVar[Scope | None] = ContextVar("request", default=None)
_process = os.urandom(4).hex()
_made = count(1)


def begin(scope: Scope) -> None:
    """From here on, in this task and those that it starts, `scope` is the request under way."""
    _request.set(scope)


def request_id() -> str | None:
    """The id of the request under way; None outside of one."""
    scope = _request.get()
    if scope is None:
        return None
    if "request_id" not in scope:
        scope["request_id"] = _sent(scope) or f"{_process}-{next(_made)}"
    return str(scope["request_id"])


def carried() -> Mapping[str, str]:
    """The headers that a call to another service carries on; none outside of a request."""
    scope = _request.get()
    if scope is None:
        return {}
    if "carried" not in scope:
        headers = {HEADER.decode(): str(request_id())}
        if (traceparent := _only(scope, b"traceparent", _TRACEPARENT)) is not None:
            headers["traceparent"] = traceparent[0].decode()
            states = [value for name, value in scope["headers"] if name == b"tracestate"]
            if states:
                headers["tracestate"] = b",".join(states).decode("latin-1")
        scope["carried"] = headers
    found: Mapping[str, str] = scope["carried"]
    return found


def tell(scope: Scope, message: Message) -> None:
    """Add the id to the answer that `message` begins: when the caller sent one, and to every error."""
    sent = _only(scope, HEADER, _ID)
    if sent is not None or message["status"] >= _REFUSED:
        told = sent[0] if sent is not None else str(request_id()).encode()
        message["headers"] = [*message.get("headers", ()), (HEADER, told)]


def _sent(scope: Scope) -> str | None:
    if (sent := _only(scope, HEADER, _ID)) is not None:
        return sent[0].decode()
    traceparent = _only(scope, b"traceparent", _TRACEPARENT)
    return traceparent[1].decode() if traceparent is not None else None


def _only(scope: Scope, header: bytes, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
    """A header that is there once and as it should be; anything else is as good as none."""
    found = [value for name, value in scope["headers"] if name == header]
    return pattern.fullmatch(found[0]) if len(found) == 1 else None
