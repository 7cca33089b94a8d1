"""The requests of one call that are under way. A front-end that is silent is left for the next one, but not hung up on.

It may be gone, or about to answer, and nobody can tell. To wait for it costs time if it is gone, and to hang up costs
time if the next one can do no better. So both are asked, and the first answer that decides the call counts.
"""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import httpx

from client.attempts import failure_of_answer
from services.common.silence import ended


class Requests:
    """At most one to each address; those that are left in the end are given up."""

    def __init__(self) -> None:
        self._sent: dict[int, asyncio.Task[httpx.Response]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await ended(*self._sent.values())

    def __contains__(self, address: int) -> bool:
        return address in self._sent

    def send(self, address: int, request: Coroutine[Any, Any, httpx.Response]) -> None:
        """Send one to an address that has none."""
        assert address not in self._sent, "at most one to each address"
        self._sent[address] = asyncio.create_task(request)

    async def over(self, address: int) -> int:
        """Return when the request to this address is over, or another one has an answer that decides; which of them."""
        while True:
            await asyncio.wait(self._sent.values(), return_when=asyncio.FIRST_COMPLETED)
            for each in [each for each, request in self._sent.items() if request.done()]:
                if each == address or _decides(self._sent[each]):
                    return each
                del self._sent[each]

    def take(self, address: int) -> httpx.Response:
        """The answer to a request that is over. Raises what `client.attempts.LOST` names."""
        return self._sent.pop(address).result()


def _decides(request: asyncio.Task[httpx.Response]) -> bool:
    return request.exception() is None and failure_of_answer(request.result()) is None
