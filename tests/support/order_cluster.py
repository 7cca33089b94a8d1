"""A real catalog and real replicas in one process, under simulated time, without front-ends."""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI
from pydantic import BaseModel

import services.catalog.app
import services.order.app
from services.catalog.catalog import Catalog
from services.common.http import SECRET_HEADER, Peer, PeerError, make_client
from services.common.models import CatalogStatus, Entry, Stock, StocksAnswer, Trade, TradeOutcome, TradesAnswer
from services.common.models import TradesRequest as Trades
from services.common.runtime import Disk, Runtime
from services.common.settings import CatalogSettings, OrderSettings
from services.order.replica import Replica
from tests.support.fake_network import FakeNetwork, address_of
from tests.support.fake_time import FakeClock, until
from tests.support.order_world import CATALOG, HeldDisk, replica_url

AnswerT = TypeVar("AnswerT", bound=BaseModel)

SECRET = "a-secret-of-the-tests"


class Service:
    """One process. `ended_with`: the statuses it wanted to end with. `at`: what to await at a named point.

    `unreachable`: addresses that get nothing of what it sends, and never answer it.
    """

    def __init__(self, url: str, cluster: "Cluster", create: Callable[[Runtime], FastAPI]) -> None:
        self.url = url
        self.unreachable: set[str] = set()
        self.ended_with: list[int] = []
        self.at: dict[str, Callable[[], Awaitable[object]]] = {}
        self.disk: Disk | None = None
        self.app: FastAPI | None = None
        self._cluster = cluster
        self._create = create
        self._life: AbstractAsyncContextManager[Any] | None = None
        self._serving: set[asyncio.Task[httpx.Response]] = set()

    async def start(self) -> None:
        assert self._life is None, "it runs already"
        self.app = self._create(self._runtime())
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self._life = self.app.router.lifespan_context(self.app)
        await self._life.__aenter__()
        self._cluster.network.serve(self.url, functools.partial(self._serve, transport))
        self._cluster.network.fault(self.url, None)

    async def kill(self) -> None:
        """As SIGKILL: connections break, and nothing more reaches the disk."""
        await self._disconnect()
        assert isinstance(self.disk, HeldDisk)
        self.disk.is_dead = True
        self.disk.release()
        if self is self._cluster.catalog:
            for task in list(self._cluster.catalog_state()._decides):
                task.cancel()
        await self._end()

    async def stop(self) -> None:
        """As SIGTERM, without the patience for requests under way."""
        await self._disconnect()
        await self._end()

    async def _disconnect(self) -> None:
        self._cluster.network.fault(self.url, "refuses")
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _end(self) -> None:
        assert self._life is not None, "it does not run"
        life, self._life = self._life, None
        await life.__aexit__(None, None, None)

    @property
    def is_running(self) -> bool:
        return self._life is not None

    def _runtime(self) -> Runtime:
        cluster = self._cluster

        def make_disk() -> Disk:
            self.disk = cluster.make_disk()
            return self.disk

        return Runtime(
            monotonic=cluster.clock,
            wall_ms=lambda: 1_760_000_000_000,
            random=random.Random(7),
            transport=lambda: _Line(cluster.network, self.unreachable),
            disk=make_disk,
            end_process=self.ended_with.append,
            point=self._point,
        )

    async def _point(self, point: str) -> None:
        if point in self.at:
            await self.at[point]()

    async def _serve(self, transport: httpx.ASGITransport, request: httpx.Request) -> httpx.Response:
        """As over a socket: a request is served to its end, whatever becomes of whoever sent it."""
        task = asyncio.create_task(_respond(transport, request))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise httpx.ReadError("the process is gone") from None
            raise


class _Line(httpx.AsyncBaseTransport):
    """What one process sends goes through here on its way into the network."""

    def __init__(self, network: FakeNetwork, unreachable: Collection[str]) -> None:
        self._network = network
        self._unreachable = unreachable

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if address_of(request) in self._unreachable:
            await asyncio.Event().wait()
        return await self._network.handle_async_request(request)


async def _respond(transport: httpx.ASGITransport, request: httpx.Request) -> httpx.Response:
    response = await transport.handle_async_request(request)
    await response.aread()
    return response


class Cluster:
    """`catalog`, and `orders` by replica id."""

    def __init__(
        self,
        folder: Path,
        *,
        replicas: int = 3,
        stocks: str = "name,price,quantity\nBoarCo,35.75,100\nGameStart,15.99,100\n",
        clock: Callable[[], float] | None = None,
        make_disk: Callable[[], Disk] = HeldDisk,
    ) -> None:
        self.folder = folder
        self.clock = clock or FakeClock()
        self.make_disk = make_disk
        self.network = FakeNetwork()
        self.lost: list[int] = []
        self._stocks = folder / "stocks.csv"
        self._stocks.write_text(stocks)
        self._addresses = {i: replica_url(i) for i in range(1, replicas + 1)}
        self.catalog = Service(CATALOG, self, self._create_catalog)
        self.orders = {
            i: Service(url, self, functools.partial(self._create_order, i)) for i, url in self._addresses.items()
        }
        self._client = make_client(Runtime(transport=lambda: self.network), {SECRET_HEADER: SECRET})

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Cluster"]:
        """Start everything, wait until it is ready, and stop at the end what runs then."""
        try:
            await asyncio.gather(*(service.start() for service in self.services))
            await self.ready()
            yield self
        finally:
            for service in self.services:
                if service.is_running:
                    await service.stop()

    @property
    def services(self) -> list[Service]:
        return [self.catalog, *self.orders.values()]

    @property
    def ended_with(self) -> list[int]:
        return [status for service in self.services for status in service.ended_with]

    def replica(self, replica_id: int) -> Replica:
        app = self.orders[replica_id].app
        assert app is not None
        replica: Replica = app.state.replica
        return replica

    def catalog_state(self) -> Catalog:
        assert self.catalog.app is not None
        catalog: Catalog = self.catalog.app.state.catalog
        return catalog

    async def ready(self, *replica_ids: int) -> None:
        """Until the catalog is up and these replicas (else all) are level."""
        wanted = replica_ids or tuple(self.orders)
        await until(lambda: self.catalog_state().missing() is None)
        await until(lambda: all(self.replica(i).missing() is None for i in wanted))

    async def call(
        self, service: Service, path: str, answer: type[AnswerT], message: BaseModel | None = None, seconds: float = 30
    ) -> AnswerT:
        return await Peer(self._client, service.url).call(path, answer, message, timeout_s=seconds)

    async def status(self) -> CatalogStatus:
        return await self.call(self.catalog, "/status", CatalogStatus)

    async def stocks(self) -> dict[str, Stock]:
        answer = await self.call(self.catalog, "/stocks", StocksAnswer)
        return {stock.name: stock for stock in answer.stocks}

    async def trade(self, replica_id: int, *trades: Trade, seconds: float = 10.0) -> list[TradeOutcome]:
        """As a front-end does, once."""
        request = Trades(time_left=seconds, trades=list(trades))
        return (await self.call(self.orders[replica_id], "/trades", TradesAnswer, request)).outcomes

    async def insist(self, trade: Trade, *replica_ids: int) -> TradeOutcome:
        """Ask one replica after the other until one says what became of the trade."""
        while True:
            for replica_id in replica_ids:
                try:
                    outcome = (await self.trade(replica_id, trade, seconds=1.0))[0]
                except PeerError:
                    outcome = TradeOutcome(result="unknown")
                if outcome.result not in {"unknown", "unavailable"}:
                    return outcome
                await asyncio.sleep(0.05)

    def log(self, replica_id: int) -> list[Entry]:
        """Everything that is on the disk of a replica."""
        log, entries = self.replica(replica_id).log, list[Entry]()
        while part := log.after(len(entries), 1_000):
            entries += part
        return entries

    async def check(self) -> list[Entry]:
        """At rest: one log everywhere, positions and numbers without gap, keys once, quantities that fit (K1 to K5)."""
        await self.ready()
        head = (await self.status()).head
        assert head is not None
        await until(lambda: all(self.replica(i).log.fsynced_head == head for i in self.orders))
        logs = [self.log(i) for i in self.orders]
        assert all(log == logs[0] for log in logs)
        entries = logs[0]
        assert [entry.position for entry in entries] == list(range(1, head.position + 1))
        numbers = [entry.number for entry in entries if entry.number is not None]
        assert numbers == list(range(1, head.number + 1))
        assert len({entry.key for entry in entries}) == len(entries)
        for name, stock in (await self.stocks()).items():
            accepted = [entry for entry in entries if entry.name == name and entry.number is not None]
            change = sum(entry.quantity if entry.type == "sell" else -entry.quantity for entry in accepted)
            assert stock.quantity == 100 + change >= 0
        assert self.ended_with == []
        return entries

    def wipe(self, service: Service) -> None:
        """Lose the disk of a service that is stopped."""
        assert not service.is_running
        name = "catalog" if service is self.catalog else service.url.replace("http://replica:", "order-")
        for file in self.folder.glob(f"{name}.db*"):
            file.unlink()

    def _create_catalog(self, runtime: Runtime) -> FastAPI:
        settings = CatalogSettings(
            data_dir=self.folder, replicas=self._addresses, stocks=self._stocks, lost=list(self.lost)
        )
        return services.catalog.app.create_app(settings, runtime, SECRET)

    def _create_order(self, replica_id: int, runtime: Runtime) -> FastAPI:
        settings = OrderSettings(
            data_dir=self.folder, replica_id=replica_id, catalog=[CATALOG], replicas=self._addresses
        )
        return services.order.app.create_app(settings, runtime, SECRET)
