"""HTTP over aiohttp, under httpx: a third of the cost of httpx's own connection pool.

What went wrong is told apart here, in httpx's own words: ConnectError means that no connection came about, so nothing
was sent; every other TransportError may have come after the request was executed. (httpx-aiohttp 0.2 calls a refused
connection and one that broke later by the same name, ConnectTimeout, and lets some errors of aiohttp through.)
Only one kind of ConnectError says something about the other side: a connection can also fail to come about because this
process has no file descriptor or no port left, or because a name is unknown.
"""

import errno
import ssl

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport


class NotConnected(httpx.ConnectError):
    """No connection came about, but nobody refused it: whether somebody listens there is not known."""


class Transport(AiohttpTransport):
    """httpx-aiohttp's transport with errors that can be relied on."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises httpx.ConnectError (NotConnected), or another httpx.TransportError."""
        try:
            return await super().handle_async_request(request)
        except httpx.TransportError as error:
            if isinstance(error.__cause__, aiohttp.ClientConnectorError):
                is_refused = error.__cause__.errno == errno.ECONNREFUSED
                raise (httpx.ConnectError if is_refused else NotConnected)(str(error)) from error
            raise httpx.ReadError(str(error)) from error
        except aiohttp.ClientError as error:
            raise httpx.RemoteProtocolError(str(error)) from error


def make_transport() -> httpx.AsyncBaseTransport:
    """A transport of the real world. No proxy is taken from the environment; idle connections are kept for 30 s."""
    return Transport(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        trust_env=False,
        limits=httpx.Limits(max_connections=1_000, max_keepalive_connections=1_000, keepalive_expiry=30),
    )
