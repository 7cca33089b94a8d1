"""A network without sockets: services by address, which can refuse, break off, or hang as a stopped process does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import httpx
from pydantic import BaseModel

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]
Fault = Literal["refuses", "resets", "hangs", "does_then_resets"]


def address_of(request: httpx.Request) -> str:
    """Whom a request is for."""
    return f"{request.url.scheme}://{request.url.netloc.decode()}"


class FakeNetwork(httpx.AsyncBaseTransport):
    """The transport of everybody in a test. `requests` are all that were sent, by address, in order."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, httpx.Request]] = []
        self._services: dict[str, Handler] = {}
        self._faults: dict[str, Fault] = {}
        self._delays: dict[str, float] = {}
        self._going = asyncio.Event()  # replaced at every change, so that whoever hangs looks again

    def serve(self, address: str, handler: Handler) -> None:
        self._services[address] = handler

    def fault(self, address: str, fault: Fault | None) -> None:
        """Have every request to `address` fail in this way from now on; those that hang go on when it is lifted."""
        if fault is None:
            self._faults.pop(address, None)
        else:
            self._faults[address] = fault
        self._going.set()
        self._going = asyncio.Event()

    def delay(self, address: str, seconds: float) -> None:
        """Let every answer of `address` take so long."""
        self._delays[address] = seconds

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        address = address_of(request)
        self.requests.append((address, request))
        while self._faults.get(address) == "hangs":
            await self._going.wait()
        if address not in self._services or self._faults.get(address) == "refuses":
            raise httpx.ConnectError("refused")
        if self._faults.get(address) == "resets":
            raise httpx.ReadError("reset")
        if address in self._delays:
            await asyncio.sleep(self._delays[address])
        response = await self._services[address](request)
        while self._faults.get(address) == "hangs":
            await self._going.wait()
        if self._faults.get(address) == "does_then_resets":
            raise httpx.ReadError("reset")
        return response

    def count(self, address: str, path: str) -> int:
        """How many requests for `path` were sent to `address`."""
        return sum(1 for to, request in self.requests if to == address and request.url.path == path)


def answer(message: BaseModel) -> httpx.Response:
    """A 200 with this message."""
    return httpx.Response(200, content=message.model_dump_json(), headers={"content-type": "application/json"})


def failure(code: int) -> httpx.Response:
    """An error in the one shape."""
    body: dict[str, Any] = {"error": {"code": code, "message": "as the test wants it"}}
    return httpx.Response(code, json=body)
