"""How long etcd itself takes no write: what everything that rests on it has to be compared with."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import httpx

from services.catalog.etcd import Etcd, EtcdUnavailable, EtcdUnknown, put

WRITE_EVERY_S = 0.05
WRITE_S = 0.15  # a write that was not answered by then is given up, and another one sent
WRITE = put("watch", b"")  # which is no key of a catalog


class EtcdWatch:
    """When etcd answered a write, in monotonic seconds."""

    def __init__(self) -> None:
        self._answered: list[float] = []

    def longest_s(self, began: float, ended: float) -> float:
        """The longest time between two moments in which no write was answered."""
        within = sorted(moment for moment in self._answered if began < moment < ended)
        return max(after - before for before, after in pairwise([began, *within, ended]))

    async def write(self, node: Etcd) -> None:
        """Write through one node, for ever."""
        while True:
            with suppress(TimeoutError, EtcdUnavailable, EtcdUnknown):
                async with asyncio.timeout(WRITE_S):
                    _ = await node.change([], [WRITE])
                self._answered.append(time.monotonic())
            await asyncio.sleep(WRITE_EVERY_S)


@asynccontextmanager
async def watching(client: httpx.AsyncClient, urls: Sequence[str]) -> AsyncIterator[EtcdWatch]:
    """Write through each of these nodes, as long as the body lasts."""
    watch = EtcdWatch()
    writing = [asyncio.create_task(watch.write(Etcd(client, [url]))) for url in urls]
    try:
        yield watch
    finally:
        for task in writing:
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
