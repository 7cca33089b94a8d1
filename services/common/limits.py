"""What a request may cost: middlewares that bound its body and how many are served at once."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.errors import BodyTooLarge, Unavailable, error_body

ALWAYS_ANSWERED = frozenset({"/livez", "/metrics"})
"""Whoever watches a service must see it live, and see why it refuses, also when it refuses."""

RETRY_AFTER = (b"retry-after", b"1")
CLOSE = (b"connection", b"close")

MAX_DISCARDED_BYTES = 1_048_576
"""So much of a body that is refused is read and thrown away, so that the client sees why."""


async def send_error(send: Send, code: int, message: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer an ASGI request with an error in the one shape."""
    body = error_body(code, message)
    fixed = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": code, "headers": fixed + list(headers)})
    await send({"type": "http.response.body", "body": body})


class LimitBody:
    """Answers 413 to a body of more than `max_bytes`: before it is read when its length is told, else as it streams.

    The HTTP parser holds a body to its Content-Length, so only a body without one is counted.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = 65_536) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse its body."""
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"content-length" and self._is_too_long(value):
                    if _closes(scope) and value.isdigit() and int(value[:18]) <= MAX_DISCARDED_BYTES:
                        await _discard(receive)
                    await send_error(send, BodyTooLarge.code, BodyTooLarge.message)
                    return
                if name == b"transfer-encoding":
                    await _CountedBody(self._app, receive, send, self._max_bytes).serve(scope)
                    return
        await self._app(scope, receive, send)

    def _is_too_long(self, content_length: bytes) -> bool:
        # A number of so many digits is not worth reading; Python would not read one of 5,000 at all.
        return len(content_length) > 18 or not content_length.isdigit() or int(content_length) > self._max_bytes


def _closes(scope: Scope) -> bool:
    """Whether the connection is closed after the answer: then a body that was not read takes the answer with it."""
    headers = {name: value.lower() for name, value in scope["headers"]}
    if b"expect" in headers:
        return False  # it asks before it sends
    return headers.get(b"connection") == b"close" or scope.get("http_version") == "1.0"


async def _discard(receive: Receive) -> None:
    """Read a body, up to a limit, and forget it. How long that may take is the connection's business."""
    left = MAX_DISCARDED_BYTES
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if not message.get("more_body", False):
            return


class _CountedBody:
    """One request whose body has no length: when it grows too long it ends for the application and is answered 413."""

    def __init__(self, app: ASGIApp, receive: Receive, send: Send, max_bytes: int) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._bytes_left = max_bytes
        self._has_started = False
        self._is_refused = False
        self._closes = False

    async def serve(self, scope: Scope) -> None:
        """Serve the request."""
        self._closes = _closes(scope)
        try:
            await self._app(scope, self._count, self._pass_on)
        except Exception:
            # Once refused, the application sees a client that hung up, and whatever it makes of that is no news.
            if not self._is_refused:
                raise

    async def _count(self) -> Message:
        if self._is_refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        self._bytes_left -= len(message.get("body", b""))
        if self._bytes_left >= 0:
            return message
        self._is_refused = True
        if not self._has_started:
            if self._closes and message.get("more_body", False):
                await _discard(self._receive)
            await send_error(self._send, BodyTooLarge.code, BodyTooLarge.message)
        return {"type": "http.disconnect"}

    async def _pass_on(self, message: Message) -> None:
        if not self._is_refused:
            self._has_started = True
            await self._send(message)


class LimitConcurrency:
    """Answers 503 at once when `max_requests` are in flight: this request was certainly not executed."""

    def __init__(self, app: ASGIApp, max_requests: int) -> None:
        self._app = app
        self._max_requests = max_requests
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._in_flight >= self._max_requests and scope["path"] not in ALWAYS_ANSWERED:
            await send_error(send, Unavailable.code, "too many requests at once; try again", RETRY_AFTER)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1
