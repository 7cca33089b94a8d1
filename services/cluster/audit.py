"""Reads what `bazaar verify` judges from a running bazaar: the whole log of every replica, and the catalog's stocks.

A bazaar at rest has equal heads. Under load the catalog's answer says up to where the logs are read, so orders that
come meanwhile disturb nothing.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import BaseModel

from services.cluster.topology import Cluster
from services.cluster.verify import Verdict, Verification
from services.common.http import Peer, PeerError
from services.common.models import (
    MAX_ENTRIES,
    EntriesAnswer,
    Entry,
    GenerationAnswer,
    Head,
    ReplicaStatus,
    Stock,
    StocksAnswer,
)
from services.common.several import service_at

PATIENCE_S = 10.0  # for equal heads
POLL_EVERY_S = 0.1
STATUS_S = 1.0
READ_S = 10.0  # for one page of a log
TRIES = 3  # for one page: a replica may be restarted meanwhile

AnswerT = TypeVar("AnswerT", bound=BaseModel)


@dataclass(frozen=True)
class _Rest:
    """The catalog's stocks, and which replicas answered, when the heads were equal or patience ran out."""

    catalog: StocksAnswer | None
    heads: Mapping[str, Head]


async def verify_cluster(cluster: Cluster, client: httpx.AsyncClient, patience_s: float = PATIENCE_S) -> Verdict:
    """Read everything and judge it."""
    return await _Audit(cluster, client).run(patience_s)


class _Audit:
    def __init__(self, cluster: Cluster, client: httpx.AsyncClient) -> None:
        self._replicas = {each.name: Peer(client, each.internal_url) for each in cluster.of("order")}
        self._catalog = service_at(client, [each.internal_url for each in cluster.of("catalog")], time.monotonic)

    async def run(self, patience_s: float) -> Verdict:
        rest = await self._wait_for_rest(patience_s)
        initial = await self._initial_stocks(rest.heads)
        verification = Verification(initial)
        for name in self._replicas:
            if name not in initial:
                verification.complain(f"{name} is missing: it does not answer; see bazaar status")
        if rest.catalog is None:
            verification.complain("the catalog does not answer; see bazaar status")
        if initial:
            end = rest.catalog.head.position if rest.catalog else max(rest.heads[name].position for name in initial)
            await self._read(verification, set(initial), end)
        return verification.conclude(rest.catalog)

    async def _wait_for_rest(self, patience_s: float) -> _Rest:
        deadline = time.monotonic() + patience_s
        while True:
            # The replicas after the catalog: heads only grow, so equal ones were equal at the moment between.
            catalog = await _ask(self._catalog, "/stocks", StocksAnswer)
            answers = await asyncio.gather(*(_ask(peer, "/status", ReplicaStatus) for peer in self._replicas.values()))
            heads = {name: each.head for name, each in zip(self._replicas, answers, strict=True) if each is not None}
            is_equal = catalog is not None and all(head.position >= catalog.head.position for head in heads.values())
            if (is_equal and len(heads) == len(self._replicas)) or time.monotonic() >= deadline:
                return _Rest(catalog, heads)
            await asyncio.sleep(POLL_EVERY_S)

    async def _initial_stocks(self, heads: Mapping[str, Head]) -> dict[str, list[Stock]]:
        names = list(heads)
        answers = await asyncio.gather(*(_ask(self._replicas[name], "/generation", GenerationAnswer) for name in names))
        return {name: each.stocks for name, each in zip(names, answers, strict=True) if each is not None}

    async def _read(self, verification: Verification, names: set[str], end: int) -> None:
        """Hand every log to `verification`, page by page, up to position `end`."""
        reading = [name for name in self._replicas if name in names]
        after = 0
        while reading and after < end:
            limit = min(MAX_ENTRIES, end - after)
            pages = dict(
                zip(reading, await asyncio.gather(*(self._page(n, after, limit) for n in reading)), strict=True)
            )
            for name in [name for name, page in pages.items() if page is None]:
                verification.complain(f"{name} is missing: it stopped answering at position {after}")
            verification.take({name: page for name, page in pages.items() if page is not None})
            after += limit
            # A log that ended early stays behind; `conclude` says so.
            reading = [
                name for name in reading if not verification.is_over(name) and verification.head(name).position == after
            ]

    async def _page(self, name: str, after: int, limit: int) -> list[Entry] | None:
        for _ in range(TRIES):
            path = f"/entries?after={after}&limit={limit}"
            answer = await _ask(self._replicas[name], path, EntriesAnswer, READ_S)
            if answer is not None:
                return answer.entries[:limit]
            await asyncio.sleep(POLL_EVERY_S)
        return None


async def _ask(peer: Peer, path: str, kind: type[AnswerT], timeout_s: float = STATUS_S) -> AnswerT | None:
    try:
        return await peer.call(path, kind, timeout_s=timeout_s)
    except PeerError:
        return None
