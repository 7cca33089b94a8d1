"""HTTP/1.1 on one connection, with a bound on everything a client can make the server wait for or keep.

uvicorn's protocol parses and answers; this one adds limits. At any moment a connection waits for exactly one thing:

    HEAD    a request's head: head_timeout_s from the connect, from its first byte, or from the answer before it
    IDLE    the next request: keep_alive_s
    BODY    the rest of a request's body: body_timeout_s from the head, also when it was answered early
    ANSWER  the application: no limit here, it has its own deadlines
    READER  the client, which does not read its answer: write_timeout_s
    CLOSE   the client, which was refused, to read why and hang up: a second

One timer for a connection is set when it is made. It is moved only when a deadline comes before it, and looks again
when it fires too early, so an ordinary request sets a number and no timer. uvicorn's own timer, set and cancelled for
every request, is not used.
"""

import asyncio
import enum
import math
from dataclasses import dataclass
from typing import Any, cast

from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from services.common.corked import CorkedTransport
from services.common.errors import Unavailable, error_body
from services.common.limits import CLOSE, MAX_DISCARDED_BYTES, RETRY_AFTER, send_error

LINGER_S = 1.0
SECOND_LOOK_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one connection may take. Nothing is promised to stay open for 10 s, so the time limits are a second less."""

    head_timeout_s: float = 9.0
    body_timeout_s: float = 9.0
    keep_alive_s: float = 75.0
    write_timeout_s: float = 30.0
    max_head_bytes: int = 16_384
    max_connections: int = 1_000


class Wait(enum.Enum):
    """What a connection waits for; see the module."""

    HEAD = enum.auto()
    IDLE = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()
    READER = enum.auto()
    CLOSE = enum.auto()


class GuardedProtocol(HttpToolsProtocol):
    """One connection within `limits`."""

    def __init__(self, limits: Limits, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state, asyncio.get_running_loop())
        self._limits = limits
        self._waiting_for = Wait.ANSWER
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._has_looked_again = False
        # Bytes since the last chunk in which a request was complete: those of the head and body being received.
        self._received = 0
        self._is_in_body = False
        self._refusal: tuple[int, str] | None = None
        self.url = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request; too many connections are told so, far too many are not even told."""
        super().connection_made(cast("asyncio.Transport", CorkedTransport(transport, self.loop)))
        self._wait_for(Wait.HEAD, self._limits.head_timeout_s)
        if len(self.connections) > self._limits.max_connections:
            self.app = _overloaded
            if len(self.connections) > 2 * self._limits.max_connections:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and its timer."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, then see what is still missing."""
        if self._waiting_for is not Wait.CLOSE:
            self._received += len(data)
            super().data_received(data)
            self._await_rest()

    def on_headers_complete(self) -> None:
        """Start the request unless its head is too large."""
        # Most requests come in one small chunk and need no sum.
        if self._received > self._limits.max_head_bytes and self._head_bytes() > self._limits.max_head_bytes:
            self._refusal = self._head_too_large()
            raise ValueError(self._refusal[1])  # ends the parser's work; see send_400_response
        super().on_headers_complete()
        self._is_in_body = True

    def on_message_complete(self) -> None:
        """Note that the request is here."""
        super().on_message_complete()
        self._is_in_body = False
        self._received = 0

    def on_response_complete(self) -> None:
        """Turn to the next request."""
        if self.transport.is_closing():
            super().on_response_complete()
            self._wait_for(Wait.READER, self._limits.write_timeout_s)
        elif self.pipeline:
            super().on_response_complete()
            if self._is_in_body:
                self._await_body()
        else:
            self.server_state.total_requests += 1
            self.flow.resume_reading()
            self._await_request()

    def pause_writing(self) -> None:
        """Give the client a while to read what was sent."""
        super().pause_writing()
        self._await_answer()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        if self._waiting_for is Wait.READER and not self.transport.is_closing():
            if self.cycle.response_complete:
                self._await_request()
            else:
                self._await_answer()

    def send_400_response(self, msg: str) -> None:
        """Called when the parser gave up: refuse, in the one shape."""
        self._refuse(*(self._refusal or (400, "this is not valid HTTP/1.1")))

    def abandon(self) -> None:
        """Drop the connection now; its request sees a client that hung up."""
        _hang_up(self._cycle())
        self.transport.abort()

    def _cycle(self) -> RequestResponseCycle | None:
        return self.cycle  # none before the first request, whatever uvicorn's annotation says

    def _await_rest(self) -> None:
        """Something was received: what is missing now?"""
        if self._waiting_for is Wait.CLOSE:
            return
        if self._is_in_body:
            self._await_body()
        elif not self._received:
            # A request is complete; when it was answered before its end, its turn is over as well.
            if self.cycle.response_complete:
                self._await_request()
            else:
                self._await_answer()
        elif self._received > self._limits.max_head_bytes:
            self._refuse(*self._head_too_large())
        elif self._waiting_for is Wait.IDLE:
            self._wait_for(Wait.HEAD, self._limits.head_timeout_s)

    def _await_request(self) -> None:
        """The last answer is complete: what comes next may have begun to arrive already."""
        if self._is_in_body:
            self._await_body()
        elif self.flow.write_paused:
            self._await_answer()
        elif self.scope is not self.cycle.scope:
            self._wait_for(Wait.HEAD, self._limits.head_timeout_s)
        else:
            self._wait_for(Wait.IDLE, self._limits.keep_alive_s)

    def _await_body(self) -> None:
        if self.pipeline:
            self._await_answer()  # nothing is read until the requests before this one are answered
        elif self.cycle.response_complete and self._received > MAX_DISCARDED_BYTES:
            self._close()
        else:
            self._wait_for(Wait.BODY, self._limits.body_timeout_s)

    def _await_answer(self) -> None:
        if self.flow.write_paused:
            self._wait_for(Wait.READER, self._limits.write_timeout_s)
        else:
            self._wait_for(Wait.ANSWER, math.inf)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _head_too_large(self) -> tuple[int, str]:
        if len(self.url) > self._limits.max_head_bytes // 2:
            return 414, "the URL is too long"
        return 431, "the request's head is too large"

    def _refuse(self, code: int, message: str) -> None:
        """Answer an error for the request being received, and close."""
        cycle = self._cycle()
        if cycle is not None and not cycle.response_complete:
            if self.pipeline or not self._is_in_body or cycle.response_started:
                # An answer is owed to an earlier request, or half given: an error now would be taken for a part of it.
                self._close()
                return
            _hang_up(cycle)
        body = error_body(code, message)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[code] + head + body)
        # To close with bytes unread would reset the connection, and the client might never see the answer.
        self.transport.write_eof()
        self._wait_for(Wait.CLOSE, LINGER_S)

    def _close(self) -> None:
        self._wait_for(Wait.CLOSE, LINGER_S)
        self.transport.close()

    def _wait_for(self, what: Wait, seconds: float) -> None:
        """Begin to wait for something else, at most `seconds`; does nothing while that is waited for already."""
        if what is self._waiting_for:
            return
        self._waiting_for = what
        self._deadline = self.loop.time() + seconds
        if self._deadline < self._timer_at:
            self._set_timer(self._deadline)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.loop.call_at(at, self._look)

    def _look(self) -> None:
        """Called by the timer: is it time?"""
        self._timer, self._timer_at = None, math.inf
        now = self.loop.time()
        if now < self._deadline:
            self._has_looked_again = False
            if self._deadline < math.inf:
                self._set_timer(self._deadline)
        elif not self._has_looked_again:
            # Timers come before sockets: after a SIGSTOP of this process, what was sent in time is still to be read.
            self._has_looked_again = True
            self._set_timer(now + SECOND_LOOK_S)
        else:
            self._give_up()

    def _give_up(self) -> None:
        if self._waiting_for is Wait.HEAD and (self._received or self.url):
            self._refuse(408, "the request's head did not come in time")
        elif self._waiting_for is Wait.BODY and not self.cycle.response_complete:
            self._refuse(408, "the request's body did not come in time")
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()


def _hang_up(cycle: RequestResponseCycle | None) -> None:
    """To the application, the client is gone."""
    if cycle is not None:
        cycle.disconnected = True
        cycle.message_event.set()


async def _overloaded(_: Scope, receive: Receive, send: Send) -> None:
    """The application of a connection beyond the limit: read the request, so that the answer is seen, and refuse it."""
    while (await receive()).get("more_body", False):
        pass
    await send_error(send, Unavailable.code, "too many connections; try again", RETRY_AFTER, CLOSE)
