"""A long way to the bazaar, without a network that is long."""

import asyncio

import httpx


class DelayedTransport(httpx.AsyncBaseTransport):
    """Half a round trip before a request arrives, and half of one before its answer does.

    Bandwidth, loss and jitter are not pretended, nor are the round trips of a new connection. The event loop's timers
    are a millisecond coarse.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, round_trip_s: float) -> None:
        assert round_trip_s > 0
        self._transport = transport
        self._one_way_s = round_trip_s / 2

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, a way off."""
        await asyncio.sleep(self._one_way_s)
        response = await self._transport.handle_async_request(request)
        await asyncio.sleep(self._one_way_s)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()
