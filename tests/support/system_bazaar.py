"""A bazaar of real processes with everything its customers were told, and the check that holds one to the other."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx

from client import BazaarClient
from tests.support.cluster import Cluster
from tests.support.patience import PATIENCE_S
from tests.support.system_evidence import History, Row, contradictions, initial_stocks, read_catalog, read_log
from tests.support.system_ledger import Customer, Ledger, Traders

REPEATED = 3  # of the first and of the last trades
PAGE = 1_000


class Bazaar:
    """A running bazaar and its customers' ledger. `http` speaks to it without the client library."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient) -> None:
        self.cluster = cluster
        self.http = http
        self.ledger = Ledger()

    @property
    def url(self) -> str:
        """The first front-end's public address."""
        return self.cluster.urls[0]

    @asynccontextmanager
    async def trading(self, count: int = 3) -> AsyncIterator[Traders]:
        """So many customers trade during the body; before and after it, some of their trades are answered."""
        traders = Traders(self.ledger)
        async with traders.trading(self.cluster.urls, count):
            await traders.more(5)
            yield traders
            await traders.more(5)

    @asynccontextmanager
    async def customer(self, *urls: str) -> AsyncIterator[Customer]:
        """One customer whose answers go into the ledger; `urls` are all front-ends' unless given."""
        async with BazaarClient(*(urls or self.cluster.urls), patience_s=PATIENCE_S) as client:
            yield Customer(client, self.ledger)

    async def check(self) -> None:
        """Fail unless nothing acknowledged is lost, doubled or contradicted. Every service must be up."""
        snapshot = await self.cluster.wait_level()
        logs = {each.name: read_log(self.cluster.database(each.name)) for each in self.cluster.topology.of("order")}
        log = next(iter(logs.values()))
        different = [name for name, other in logs.items() if other != log]
        assert not different, f"the logs of {different} are not that of {next(iter(logs))}"
        history = History(initial_stocks(), log)
        problems = history.problems + contradictions(history, self.ledger)
        assert not problems, problems[:10]
        heads = {
            each.name: each.head and each.head.model_dump() for each in snapshot.services if each.role != "front-end"
        }
        assert heads == dict.fromkeys(heads, history.head), "what the services say is not what their files hold"
        catalog = read_catalog(self.cluster.database("catalog"))
        assert (catalog.stocks, catalog.head) == (history.stocks, history.head), "the quantities do not add up"
        for url in self.cluster.urls:
            await self._check_front_end(url, history)
        self._check_logs()
        verdict = await self.cluster.verify()
        assert verdict.passed, verdict.problems
        self.ledger.seen.clear()  # judged; what was told goes on being held against every later log

    async def log(self) -> list[Row]:
        """The order log at rest."""
        await self.cluster.wait_level()
        return read_log(self.cluster.database("order-1"))

    def _check_logs(self) -> None:
        """No log, and nothing that the supervisor says, may hold the secret."""
        folder = self.cluster.data_dir
        secret = (folder / "secret").read_bytes().strip()
        for path in (*(folder / "logs").iterdir(), self.cluster.output, folder / "cluster.json"):
            assert secret not in path.read_bytes(), f"{path} holds the secret"

    async def _check_front_end(self, url: str, history: History) -> None:
        """What a front-end shows, and how it answers trades that are sent again, must be what is in the log."""
        async with BazaarClient(url, patience_s=PATIENCE_S) as client:
            stocks = {each.name: (int(each.price * 100), each.quantity) async for each in client.stocks()}
            assert stocks == {name: (stock.price, stock.quantity) for name, stock in history.stocks.items()}
            page = await client.orders(limit=PAGE)
            orders = page.data
            while page.next is not None:
                page = await client.orders(page.next, PAGE)
                orders += page.data
            assert [tuple(order.model_dump().values()) for order in orders] == [
                (row.number, row.name, row.type, row.quantity) for row in history.orders.values()
            ]
            assert await client.order(len(orders) + 1) is None
            customer = Customer(client, self.ledger)
            for told in self.ledger.told[:REPEATED] + self.ledger.told[-REPEATED:]:
                await customer.ask_again(told)
        assert not self.ledger.problems, self.ledger.problems


@asynccontextmanager
async def open_bazaar(make: Callable[[], Cluster]) -> AsyncIterator[Bazaar]:
    """A bazaar for one test; after the body it must pass the check."""
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http, make() as cluster:
        bazaar = Bazaar(cluster, http)
        yield bazaar
        await bazaar.check()


class Stage:
    """Room for one bazaar at a time that tests share: it stays until a test needs another one, or has failed.

    Two at a time would take the processor from each other, also while they only stand there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = AsyncExitStack()
        self._bazaar: Bazaar | None = None
        self._name: str | None = None
        self._started = 0

    async def clear(self) -> None:
        """Stop what stands here; no process may be left."""
        self._bazaar = self._name = None
        await self._stack.aclose()

    @asynccontextmanager
    async def lend(self, name: str, *flags: str, has_failed: Callable[[], bool], **sizes: int) -> AsyncIterator[Bazaar]:
        """The bazaar of this name for one test, running. Afterwards it must pass the check."""
        if self._bazaar is None or self._name != name:
            await self.clear()
            self._bazaar = await self._start(name, *flags, **sizes)
            self._name = name
        is_sound = False
        try:
            yield self._bazaar
            if not has_failed():
                await self._bazaar.cluster.wait_ready()
                await self._bazaar.check()
                is_sound = True
        finally:
            if not is_sound:
                sys.stdout.write(self._bazaar.cluster.logs())
                await self.clear()

    async def _start(self, name: str, *flags: str, **sizes: int) -> Bazaar:
        self._started += 1
        cluster = Cluster(self._folder / f"{name}-{self._started}", *flags, **sizes)
        http = await self._stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE_S))
        return Bazaar(await self._stack.enter_async_context(cluster), http)
