"""Several catalogs on one modelled etcd, with fakes for all else that they speak to, under simulated time."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from services.catalog.app import create_app
from services.catalog.etcd import Etcd
from services.catalog.etcd_layout import Top
from services.catalog.etcd_reader import Loaded, load_state
from services.common.http import SECRET_HEADER, make_client
from services.common.models import Stock
from services.common.runtime import Runtime
from services.common.settings import CatalogSettings
from tests.support.catalog_entries import AT, STOCKS
from tests.support.catalog_front_end import CacheHolder
from tests.support.catalog_replica import LogReplica
from tests.support.catalog_world import SECRET, InlineDisk, Points, Process
from tests.support.etcd_model import EtcdNode
from tests.support.etcd_requests import Range
from tests.support.etcd_state import EtcdState
from tests.support.fake_network import FakeNetwork, Fault
from tests.support.fake_time import FakeClock, until

ETCD = [f"http://etcd-{i}:2379" for i in (1, 2, 3)]
PREFIX = "bazaar"


class Place:
    """Where one catalog runs: its own view of the network, its clock, and its named steps."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.clock = FakeClock()
        self.points = Points()
        self.ended_with: list[int] = []

    def etcd(self, fault: Fault | None) -> None:
        """Let every call of the modelled etcd from here fail in this way."""
        for url in ETCD:
            self.network.fault(url, fault)

    @property
    def transactions(self) -> int:
        """How many calls of the modelled etcd were made from here."""
        return sum(self.network.count(url, "/v3/kv/txn") for url in ETCD)


class SharedWorld:
    """What outlives every catalog: etcd, the replicas, the front-ends. `places`: by name, made when first named.

    etcd: the addresses of a real one, reached over `real`; by default it is a modelled one.
    """

    def __init__(
        self,
        folder: Path,
        *replicas: LogReplica,
        stocks: Sequence[Stock] = STOCKS,
        etcd: Sequence[str] = (),
        real: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.folder = folder
        self.state = EtcdState()
        self.nodes = [EtcdNode(self.state, member_id) for member_id in (1, 2, 3)]
        self.places: dict[str, Place] = {}
        self.replicas = {replica.id: replica for replica in replicas or [LogReplica(i) for i in (1, 2, 3)]}
        self._services: dict[str, Callable[[httpx.Request], Awaitable[httpx.Response]]] = {}
        self.etcd = list(etcd) or ETCD
        if real is not None:
            self._services |= dict.fromkeys(self.etcd, real.handle_async_request)
        else:
            for url, node in zip(ETCD, self.nodes, strict=True):
                self._services[url] = httpx.ASGITransport(node.app).handle_async_request
        for replica in self.replicas.values():
            self._services[replica.url] = replica.handle
        rows = [f"{stock.name},{stock.price // 100}.{stock.price % 100:02},{stock.quantity}\n" for stock in stocks]
        self.stocks_file = folder / "stocks.csv"
        self.stocks_file.write_text("name,price,quantity\n" + "".join(rows))

    @property
    def leader(self) -> LogReplica:
        return self.replicas[max(self.replicas)]

    @property
    def ended(self) -> list[int]:
        """The statuses with which catalogs ended themselves."""
        return [status for place in self.places.values() for status in place.ended_with]

    def place(self, name: str) -> Place:
        if name not in self.places:
            place = self.places[name] = Place()
            for address, handler in self._services.items():
                place.network.serve(address, handler)
        return self.places[name]

    def front_end(self, port: int = 8021, host: str = "10.0.0.7", session: str = "session-1") -> CacheHolder:
        holder = CacheHolder(f"http://{host}:{port}", session)
        self._services[holder.url] = holder.handle
        for place in self.places.values():
            place.network.serve(holder.url, holder.handle)
        return holder

    def read_etcd(self) -> Etcd:
        """A client that nothing cuts off."""
        network = FakeNetwork()
        for url in self.etcd:
            network.serve(url, self._services[url])
        return Etcd(make_client(Runtime(transport=lambda: network)), self.etcd)

    async def saved(self) -> Loaded:
        """What a new catalog would find."""
        loaded = await load_state(self.read_etcd(), Top(PREFIX))
        assert loaded is not None
        return loaded

    @asynccontextmanager
    async def running(self, name: str = "a", *, ready: bool = True, seed: int = 7) -> AsyncIterator[Process]:
        """One life of a catalog; unless told otherwise, from when it decides."""
        place, disk = self.place(name), InlineDisk()
        runtime = Runtime(
            monotonic=place.clock,
            wall_ms=lambda: AT,
            random=random.Random(f"{name}/{seed}"),
            transport=lambda: place.network,
            disk=lambda: disk,
            end_process=place.ended_with.append,
            point=place.points,
        )
        known: dict[str, Any] = {
            "data_dir": self.folder / name,
            "replicas": {replica_id: replica.url for replica_id, replica in self.replicas.items()},
            "stocks": self.stocks_file,
            "store": "etcd://" + ",".join(url.removeprefix("http://") for url in self.etcd),
        }
        app = create_app(CatalogSettings(**known), runtime, SECRET)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url=f"http://catalog-{name}",
            headers={SECRET_HEADER: SECRET},
        )
        process = Process(app, client, disk)
        async with client, app.router.lifespan_context(app):
            if ready:
                await until(process.catalog._may_decide.is_set)
            yield process


def keys(world: SharedWorld, part: str) -> list[str]:
    """The keys in etcd that hold `part`."""
    found = world.state.range(Range(PREFIX.encode(), b"\0", keys_only=True)).found
    return [each.key.decode() for each in found if part in each.key.decode()]


async def one_sequence(world: SharedWorld) -> None:
    """What is in etcd is the leader's log, and adds up."""
    saved = await world.saved()
    assert saved.inventory.head == world.leader.head
    expected = {stock.name: stock.quantity for stock in saved.inventory.initial}
    for entry in world.leader.entries:
        if entry.number is not None:
            expected[entry.name] += entry.quantity if entry.type == "sell" else -entry.quantity
    assert {stock.name: stock.quantity for stock in saved.inventory.stocks.values()} == expected
    assert not world.ended
