"""A transport that sends what is written together as one: a response's head with its body.

uvicorn writes the two separately, and asyncio sends each at once: two system calls, two packets, and a reader that is
woken twice. Here a write waits for the next one, but not longer than this turn of the event loop.
"""

import asyncio
from typing import Any


class CorkedTransport:
    """`transport` with its writes held back for a moment. What is not named here is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold `data`, or send it with what is held."""
        if self._held:
            self._held += data
            self.flush()
        else:
            self._held = data
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what is held, if anything is."""
        held, self._held = self._held, b""
        if held:
            self._transport.write(held)

    def write_eof(self) -> None:
        """Send what is held, and no more. TLS cannot close one direction alone: there the close tells the reader."""
        self.flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """Send what is held, then close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is held is lost."""
        self._held = b""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()
