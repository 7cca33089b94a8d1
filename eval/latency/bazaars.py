"""The bazaar that the clients visit: one of the experiment's own, fresh and with the cache as wanted, or a remote one.

With the cache off its own bazaar has no front-end with a cache at all, so trades do not wait for invalidations either.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from client.bazaar import BazaarClient
from client.errors import BazaarClientError
from eval.bench.children import output_of
from eval.bench.usage import cpu_s
from eval.latency.results import CacheMode, LatencySettings, Usage
from eval.processes import Failed, Processes, free_block, running
from services.cluster.audit import verify_cluster
from services.cluster.errors import CannotDo
from services.cluster.topology import Settings
from services.cluster.verify import Verdict

LOOK_UP_ROUTE = "/stocks/{name}"  # of the catalog's own, internal API


@dataclass(frozen=True)
class Bazaar:
    """Where the clients go. processes, pids: None and empty for one that is remote."""

    urls: tuple[str, ...]
    processes: Processes | None = None
    pids: Mapping[str, int] = field(default_factory=dict)

    async def meter(self) -> Usage | None:
        """What was used so far, since anything began; None when that is out of sight."""
        if self.processes is None:
            return None
        catalog = self.processes.cluster.catalog
        metrics = (await self.processes.client.get(f"{catalog.internal_url}/metrics")).text
        return Usage(seconds=time.monotonic(), catalog_look_ups=look_ups_in(metrics), cpu_s=cpu_s(self.pids))

    async def verify(self) -> Verdict | None:
        """What `bazaar verify` says of it; None when it is remote."""
        if self.processes is None:
            return None
        return await verify_cluster(self.processes.cluster, self.processes.client)


def used(before: Usage | None, after: Usage | None) -> Usage | None:
    """The difference of two meters."""
    if before is None or after is None:
        return None
    return Usage(
        seconds=round(after.seconds - before.seconds, 4),
        catalog_look_ups=after.catalog_look_ups - before.catalog_look_ups,
        cpu_s={name: round(after.cpu_s[name] - before.cpu_s[name], 3) for name in after.cpu_s},
    )


def look_ups_in(metrics: str) -> int:
    """How many stocks the catalog has been asked for, one at a time, from the text of its metrics."""
    samples = (sample for family in text_string_to_metric_families(metrics) for sample in family.samples)
    counts = (
        each.value
        for each in samples
        if each.name == "bazaar_request_seconds_count" and each.labels["route"] == LOOK_UP_ROUTE
    )
    return round(sum(counts))


def bazaar(settings: LatencySettings, cache: CacheMode) -> AbstractAsyncContextManager[Bazaar]:
    """The bazaar of one block, with its cache on or off. Raises CannotDo."""
    return _remote(settings, cache) if settings.urls else _own(settings.cache_size if cache == "on" else 0)


@asynccontextmanager
async def _own(cache_size: int) -> AsyncIterator[Bazaar]:
    with tempfile.TemporaryDirectory(prefix="bazaar-latency-", ignore_cleanup_errors=True) as folder:
        try:
            async with running(Settings(port=free_block(), cache_size=cache_size), Path(folder)) as processes:
                services = (await processes.wait_level()).services
                pids = {each.name: each.pid for each in services if each.pid is not None}
                yield Bazaar((processes.cluster.of("front-end")[0].url,), processes, pids)
        except Failed as error:
            raise CannotDo(str(error)) from error


@asynccontextmanager
async def _remote(settings: LatencySettings, cache: CacheMode) -> AsyncIterator[Bazaar]:
    if settings.switch_cache:
        await switch(settings.switch_cache, cache)
    yield Bazaar(settings.urls)


async def switch(command: Sequence[str], cache: CacheMode) -> None:
    """Have the command turn a remote bazaar's cache on or off. Raises CannotDo when it fails."""
    await output_of(*command, cache)


async def mode_of(urls: Sequence[str]) -> CacheMode:
    """Whether a bazaar that runs already has its cache on, as its front-ends' answers say. Raises CannotDo."""
    try:
        async with asyncio.timeout(60), BazaarClient(*urls) as client:
            names = [stock.name async for stock in client.stocks()]
            return "off" if (await client.look_up(names[0])).cache == "off" else "on"
    except (BazaarClientError, httpx.HTTPError, TimeoutError, IndexError) as error:
        raise CannotDo(f"{', '.join(urls)}: {str(error) or 'no answer'}") from error
