"""How long etcd itself takes no write: what everything that rests on it has to be compared with."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import httpx

from eval.chaos.report import longest_between
from services.catalog.etcd import Etcd, EtcdUnavailable, EtcdUnknown, put

WRITE_EVERY_S = 0.05  # whether the one before was answered or not: so precise is what is measured
WRITE = put("watch", b"")  # which is no key of a catalog


class EtcdWatch:
    """When etcd answered a write, in seconds of this clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answered: list[float] = []

    def longest_s(self, began: float, ended: float) -> float:
        """The longest time between two moments in which no write was answered."""
        return longest_between(self._answered, began, ended)

    async def watch(self, node: Etcd) -> None:
        """Write through one node, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._write(node))
                await asyncio.sleep(WRITE_EVERY_S)

    async def _write(self, node: Etcd) -> None:
        with suppress(EtcdUnavailable, EtcdUnknown):
            _ = await node.change([], [WRITE])
            self._answered.append(self._clock())


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient, urls: Sequence[str], clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[EtcdWatch]:
    """Write through each of these nodes, as long as the body lasts."""
    watch = EtcdWatch(clock)
    watches = [asyncio.create_task(watch.watch(Etcd(client, [url]))) for url in urls]
    try:
        yield watch
    finally:
        for task in watches:
            task.cancel()
        for ended_by in await asyncio.gather(*watches, return_exceptions=True):
            if isinstance(ended_by, Exception):
                raise ended_by  # nobody may think that etcd was silent
