"""A front-end with fakes for all that it speaks to, in one process and under simulated time."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from services.common.http import SECRET_HEADER, Peer
from services.common.runtime import Runtime
from services.common.settings import FrontEndSettings
from services.front_end.app import create_app
from services.front_end.front_end import FrontEnd
from tests.support.fake_catalog import FakeCatalog
from tests.support.fake_network import FakeNetwork
from tests.support.fake_replica import FakeLog, FakeReplica
from tests.support.fake_time import FakeClock, until

SECRET = "a-secret-of-the-tests"
CATALOG = "http://catalog:1"  # the first, and most often the only one
STOCKS = {"BoarCo": 100, "FishCo": 100, "GameStart": 100, "MenhirCo": 100}


def catalog_url(number: int) -> str:
    return f"http://catalog:{number}"


def replica_url(replica_id: int) -> str:
    return f"http://replica:{replica_id}"


class FakeBazaar:
    """All the parts; `client` speaks to the public API, `internal` to the internal one, with the secret.

    catalogs: with more than one they share their sessions, and each is called a grantor of its own.
    """

    def __init__(self, *, replicas: int = 3, catalogs: int = 1, **settings: Any) -> None:
        self.clock = FakeClock()
        self.network = FakeNetwork()
        self.log = FakeLog()
        self.replicas = {number: FakeReplica(number, self.log) for number in range(1, replicas + 1)}
        self.ended_with: list[int] = []
        runtime = Runtime(
            monotonic=self.clock,
            wall_ms=lambda: 1_760_000_000_000,
            random=random.Random(7),
            transport=lambda: self.network,
            end_process=self.ended_with.append,
        )
        addresses = {number: replica_url(number) for number in self.replicas}
        places = [catalog_url(number) for number in range(1, catalogs + 1)]
        known: dict[str, Any] = {"catalog": ",".join(places), "replicas": addresses, "cache_size": 3, **settings}
        self.app: FastAPI = create_app(FrontEndSettings(**known), runtime, SECRET)
        self.front_end: FrontEnd = self.app.state.front_end
        self.client = _client(self.app)
        self.internal = _client(self.app.state.internal, {SECRET_HEADER: SECRET})
        self.catalogs = [FakeCatalog(Peer(self.internal, "http://front-end"), STOCKS) for _ in places]
        self.catalog = self.catalogs[0]
        for url, catalog in zip(places, self.catalogs, strict=True):
            self.network.serve(url, catalog.handle)
            if catalogs > 1:
                catalog.shares_with(self.catalog, f"at {url}")
        for number, replica in self.replicas.items():
            self.network.serve(replica_url(number), replica.handle)

    @asynccontextmanager
    async def running(self, *, ready: bool = True) -> AsyncIterator["FakeBazaar"]:
        """Start the front-end, wait until it is ready unless told otherwise, and stop it at the end."""
        async with self.client, self.internal, self.app.router.lifespan_context(self.app):
            if ready:
                await until(lambda: self.front_end.missing() is None)
            yield self
        assert not self.ended_with, "no background work failed"

    async def look_up(self, name: str) -> tuple[int, str]:
        """A stock's quantity, and the header X-Cache."""
        response = await self.client.get(f"/stocks/{name}")
        assert response.status_code == 200, response.text
        return response.json()["data"]["quantity"], response.headers["x-cache"]

    async def buy(self, quantity: int = 1, key: str | None = None, name: str = "GameStart") -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.client.post(
            "/orders", json={"name": name, "type": "buy", "quantity": quantity}, headers=headers
        )

    def fault(self, replica_id: int, fault: Any) -> None:
        """Have one replica fail in this way from now on."""
        self.network.fault(replica_url(replica_id), fault)


def _client(app: FastAPI, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://front-end", headers=headers)
