"""The requests of one call that are under way. A front-end that is silent is left for the next one, but not hung up on.

It may be gone, or about to answer, and nobody can tell. To wait for it costs time if it is gone, and to hang up costs
time if the next one can do no better. So both are asked, and the first answer that decides the call counts.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import httpx

from client.attempts import LOST, Failure, failure_of_answer, failure_of_error
from services.common.silence import end_all


class Requests:
    """At most one to each address; those that are left in the end are given up.

    `on_failure` is told of a request that failed when another one was waited for.
    """

    def __init__(self, on_failure: Callable[[Failure], None]) -> None:
        self._on_failure = on_failure
        self._sent: dict[int, asyncio.Task[httpx.Response]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end_all(*self._sent.values())

    def __contains__(self, address: int) -> bool:
        return address in self._sent

    def __len__(self) -> int:
        return len(self._sent)

    def send(self, address: int, request: Coroutine[Any, Any, httpx.Response]) -> None:
        """Send one to an address that has none."""
        assert address not in self._sent, "at most one to each address"
        self._sent[address] = asyncio.create_task(request)

    def decided(self, but: int | None = None) -> int | None:
        """The address of a request that is over and decides the call. Others that are over are forgotten, `but` not."""
        for address, request in list(self._sent.items()):
            if request.done() and address != but:
                failure = _failure_of(request)
                if failure is None:
                    return address
                del self._sent[address]
                self._on_failure(failure)
        return None

    async def wait(self, address: int) -> int:
        """Return when the request to this address is over, or another one decides: whose it is."""
        while True:
            await asyncio.wait(self._sent.values(), return_when=asyncio.FIRST_COMPLETED)
            if (decided := self.decided(but=address)) is not None:
                return decided
            if self._sent[address].done():
                return address

    async def pause(self, seconds: float) -> bool:
        """Wait so long, or until one decides; whether one does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.decided() is None:
                    if self._sent:
                        await asyncio.wait(self._sent.values(), return_when=asyncio.FIRST_COMPLETED)
                    else:
                        await asyncio.sleep(seconds)
        return self.decided() is not None

    def take(self, address: int) -> httpx.Response:
        """The answer to a request that is over. Raises what `client.attempts.LOST` names."""
        return self._sent.pop(address).result()


def _failure_of(request: asyncio.Task[httpx.Response]) -> Failure | None:
    """What a request that is over means; None when it decides, or has met an error that is none of the network's."""
    error = request.exception()
    if error is None:
        return failure_of_answer(request.result())
    return failure_of_error(error) if isinstance(error, LOST) else None
