"""One running front-end, asked through its public API, one request after the other."""

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from client.bazaar import BazaarClient
from client.errors import BazaarClientError
from eval.cache_replacement.model import ModelCache
from eval.cache_replacement.requests import Request
from eval.cache_replacement.results import Counts, Step, observe
from eval.processes import Failed, Processes, free_block, running
from services.cluster.errors import CannotDo
from services.cluster.topology import Settings

NEW_SESSION = b"the cache has a session"

How = Literal["hit", "miss", "off"]


class Visit:
    """A bazaar whose cache holds `capacity` stocks. `names`: all that there are."""

    def __init__(self, capacity: int, names: Sequence[str], client: BazaarClient, processes: Processes) -> None:
        self.capacity = capacity
        self.names = list(names)
        self._client = client
        self._processes = processes

    async def watch(self, requests: Sequence[Request]) -> list[Step]:
        """Begin with an empty cache, and ask what it holds after each request."""
        await self._empty()
        steps = []
        before = await self._client.cache()
        for request in requests:
            how = await self._send(request)
            after = await self._client.cache()
            steps.append(observe(request, how, before, after))
            before = after
        return steps

    async def count(self, warm_up: Sequence[Request], counted: Sequence[Request]) -> Counts:
        """Begin with an empty cache and warm it up; then count."""
        await self._empty()
        model = ModelCache(self.capacity)
        sessions = self._sessions()
        for request in warm_up:
            await self._send(request)
            model.take(request)
        before = await self._client.cache()
        look_ups = hits = model_hits = different = 0
        for request in counted:
            is_hit, would_hit = await self._send(request) == "hit", model.take(request)
            look_ups += request.trade is None
            hits += is_hit
            model_hits += would_hit
            different += is_hit != would_hit
        after = await self._client.cache()
        return Counts(
            look_ups=look_ups,
            trades=len(counted) - look_ups,
            header_hits=hits,
            hits=after.hits - before.hits,
            misses=after.misses - before.misses,
            evictions=after.evictions - before.evictions,
            invalidations=after.invalidations - before.invalidations,
            model_hits=model_hits,
            differences=different,
            sessions_lost=self._sessions() - sessions,
        )

    async def _send(self, request: Request) -> How | None:
        """Send one request; how the cache answered, for a look-up."""
        if request.trade is not None:
            await self._client.trade(request.trade, request.name, 1)
            return None
        return (await self._client.look_up(request.name)).cache

    async def _empty(self) -> None:
        url = self._processes.cluster.of("front-end")[0].url
        for name in self.names:
            (await self._processes.client.delete(f"{url}/cache/{name}")).raise_for_status()

    def _sessions(self) -> int:
        """How many sessions the cache has had so far, by the front-end's log."""
        return (self._processes.data_dir / "logs" / "front-end-1.log").read_bytes().count(NEW_SESSION)


@asynccontextmanager
async def visiting(capacity: int) -> AsyncIterator[Visit]:
    """A bazaar of its own with such a cache. Raises CannotDo when something in it does not work."""
    with tempfile.TemporaryDirectory(prefix="bazaar-cache-", ignore_cleanup_errors=True) as folder:
        settings = Settings(port=free_block(), cache_size=capacity)
        try:
            async with (
                running(settings, Path(folder)) as processes,
                BazaarClient(processes.cluster.of("front-end")[0].url) as client,
            ):
                names = [stock.name async for stock in client.stocks()]
                yield Visit(capacity, names, client, processes)
        except (Failed, BazaarClientError) as error:
            raise CannotDo(str(error)) from error
