"""HTTP over aiohttp: for the services' own calls as it is, and under httpx for everybody else.

What went wrong is told apart here, in httpx's own words: ConnectError means that no connection came about, so nothing
was sent; every other TransportError may have come after the request was executed. Only one kind of ConnectError says
something about the other side: a connection can also fail to come about because this process has no file descriptor or
no port left, or because a name is unknown.
"""

import errno
import ssl
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import aiohttp
import httpx
from yarl import URL

MAX_CONNECTIONS = 1_000
KEEP_ALIVE_S = 30.0


class NotConnected(httpx.ConnectError):
    """No connection came about, but nobody refused it: whether somebody listens there is not known."""


class Reply(NamedTuple):
    """An answer, read to its end."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    content: bytes


class Transport(httpx.AsyncBaseTransport):
    """aiohttp's connections with errors that can be relied on. No proxy is taken from the environment."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without one, no https:// address is believed
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> Reply:
        """Send one request and read the answer. Raises httpx.ConnectError (NotConnected), or another TransportError."""
        session = self._session or self._open()
        try:
            response = await session.request(method, _parsed(url), headers=headers, data=content, allow_redirects=False)
            body = await response.read()  # which gives the connection back, or closes it when it fails
            return Reply(response.status, response.raw_headers, body)
        except aiohttp.ClientConnectorError as error:
            is_refused = error.errno == errno.ECONNREFUSED
            raise (httpx.ConnectError if is_refused else NotConnected)(str(error)) from error
        except aiohttp.ClientConnectionError as error:
            raise httpx.ReadError(str(error)) from error
        except aiohttp.ClientError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        except ValueError as error:  # yarl's word for an address that makes no sense
            raise httpx.UnsupportedProtocol(str(error)) from error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The same for httpx."""
        content = await request.aread()
        reply = await self.exchange(request.method, str(request.url), request.headers, content or None)
        return httpx.Response(reply.status, headers=list(reply.headers), content=reply.content, request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        """Made with the first request, within the event loop."""
        connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S, ssl=self._tls)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),  # none: every caller has its own
            auto_decompress=False,
            request_class=_Request,
        )
        return self._session


class _Request(aiohttp.ClientRequest):
    """A request with the headers that it is given: what aiohttp would add says nothing, and costs time."""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Add none."""


@lru_cache(maxsize=4_096)
def _parsed(url: str) -> URL:
    """Addresses are few and parsing them is slow."""
    return URL(url)


def make_transport(tls: ssl.SSLContext | None = None) -> httpx.AsyncBaseTransport:
    """A transport of the real world. tls: for https:// addresses; without it they are not believed."""
    return Transport(tls)
