"""Turns the caches of a running bazaar on or off, through the front-ends' internal listeners."""

import asyncio
from pathlib import Path

from services.cluster.errors import CannotDo
from services.cluster.folder import read_cluster
from services.cluster.links import internal_client
from services.common.http import Peer, PeerError
from services.common.models import CacheState, CacheSwitch

SWITCH_S = 5.0
PATIENCE_S = 30.0  # until a cache that was turned on has its session
POLL_S = 0.05


async def switch_caches(data_dir: Path, *, on: bool) -> None:
    """Turn the cache of every front-end on, and wait until it caches, or off. Raises CannotDo."""
    front_ends = read_cluster(data_dir).of("front-end")
    async with internal_client(data_dir) as client:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(_switch(Peer(client, each.internal_url), on=on) for each in front_ends))
        except (PeerError, TimeoutError) as error:
            raise CannotDo(f"a front-end's cache was not turned {'on' if on else 'off'}: {error}") from error


async def _switch(front_end: Peer, *, on: bool) -> None:
    while (await front_end.call("/cache", CacheState, CacheSwitch(on=on), timeout_s=SWITCH_S)).live != on:  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)
