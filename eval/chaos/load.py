"""The clients of a chaos run: they trade, look up, query orders and ask again, and write down all they were told.

Each speaks through the client library, as a user's program would, and must never see an error.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from client.bazaar import PATIENCE_S
from client.errors import BazaarClientError
from eval.witness import History, Witness
from services.common.models import Order, Trade

THINK_S = 0.01  # on average, between two operations of one client
MOST_PIECES = 5
RECENT = 20  # of the own trades and orders, those that are asked for again
TWICE = 0.1  # of the trades: sent through two front-ends at once
OTHER_CONTENT = 0.1  # of the repeated keys: with another quantity


class Customer:
    """One client. It begins with one front-end; for trades that it sends twice, it begins with another one as well."""

    think_s = THINK_S

    def __init__(self, witnesses: Sequence[Witness], stocks: Sequence[str], source: random.Random) -> None:
        self.done_since = 0.0  # when the last operation began that has ended
        self.traded_since = 0.0  # when the last trade began that was new and has been decided
        self._witnesses = witnesses
        self._stocks = stocks
        self._random = source
        self._trades: list[Trade] = []
        self._numbers: list[int] = [1]

    async def live(self, stop: asyncio.Event) -> None:
        """Do something, think, and again."""
        while not stop.is_set():
            began = time.monotonic()
            await self.act()
            self.done_since = began
            await asyncio.sleep(self._random.expovariate(1 / self.think_s))

    async def act(self) -> None:
        """One random operation. What comes of it, an error too, is in the history."""
        what = self._random.random()
        if what < 0.35:
            await self._look_up(self._random.choice(self._stocks))
        elif what < 0.75:
            await self._new_trade()
        elif what < 0.87 and self._trades:
            await self._ask_again(self._random.choice(self._trades[-RECENT:]))
        else:
            await self._query(self._random.choice([*self._numbers[-RECENT:], self._numbers[-1] + 1]))

    async def _look_up(self, name: str) -> None:
        with suppress(BazaarClientError):
            await self._witnesses[0].look_up(name)

    async def _query(self, number: int) -> None:
        with suppress(BazaarClientError):
            await self._witnesses[0].order(number)

    async def _new_trade(self) -> None:
        trade = Trade(
            key=self._witnesses[0].new_key(),
            name=self._random.choice(self._stocks),
            type=self._random.choice(("buy", "sell")),
            quantity=self._random.randint(1, MOST_PIECES),
        )
        self._trades.append(trade)
        began = time.monotonic()
        is_twice = self._random.random() < TWICE
        witnesses = (self._witnesses[0], self._witnesses[-1]) if is_twice else (self._witnesses[0],)
        if any(await asyncio.gather(*(self._trade(trade, witness) for witness in witnesses))):
            self.traded_since = began

    async def _ask_again(self, trade: Trade) -> None:
        """The same key again, by any front-end, now and then with other content, which must be rejected."""
        more = 1 if self._random.random() < OTHER_CONTENT else 0
        witness = self._random.choice(self._witnesses)
        await self._trade(trade.model_copy(update={"quantity": trade.quantity + more}), witness)

    async def _trade(self, trade: Trade, witness: Witness) -> bool:
        """Whether it was decided."""
        try:
            result = await witness.trade(trade.type, trade.name, trade.quantity, trade.key)
        except BazaarClientError:
            return False
        if isinstance(result, Order):
            self._numbers.append(result.number)
        return True


class Reader(Customer):
    """A client that only looks up, and knows one front-end alone: it sees what that one's cache holds, come what may.

    A client that trades waits while nobody can trade, and one that is answered 503 goes elsewhere. So whoever is to see
    that a front-end that is cut off answers with what was before looks up few stocks, which are in the cache.
    """

    think_s = 5 * THINK_S

    def __init__(self, witness: Witness, stock: str, source: random.Random) -> None:
        super().__init__([witness], [stock], source)
        self.traded_since = float("inf")  # nobody waits for that

    async def act(self) -> None:
        """Look up the stock."""
        await self._look_up(self._stocks[0])


class Crowd:
    """All clients together."""

    def __init__(self, customers: Sequence[Customer], history: History) -> None:
        self._customers = customers
        self._history = history

    async def everybody_done(self, times: int = 1) -> None:
        """Return when each client has begun and ended so many operations from now on."""
        for _ in range(times):
            now = time.monotonic()
            while any(customer.done_since < now for customer in self._customers):
                await self._history.news()

    async def everybody_traded(self, since: float) -> None:
        """Return when each client has begun a new trade since then, and had it decided."""
        while any(customer.traded_since < since for customer in self._customers):
            await self._history.news()


@asynccontextmanager
async def trading(
    urls: Sequence[str], count: int, history: History, seed: int, patience_s: float = PATIENCE_S, readers: int = 0
) -> AsyncIterator[Crowd]:
    """So many clients, and readers of each front-end, act during the body; in the end each ends what it has begun."""
    stop = asyncio.Event()
    turned = [[*urls[first:], *urls[:first]] for first in range(len(urls))]
    async with AsyncExitStack() as stack:
        customers: list[Customer] = []
        stocks: list[str] = []
        for number in range(count):
            witnesses = [
                await stack.enter_async_context(
                    Witness(
                        f"client-{number + 1}", history, *turned[(number + more) % len(urls)], patience_s=patience_s
                    )
                )
                for more in (0, 1)
            ]
            stocks = stocks or [stock.name async for stock in witnesses[0].stocks()]
            customers.append(Customer(witnesses, stocks, random.Random(f"{seed}/{number}")))
        for number, url in enumerate(url for url in urls for _ in range(readers)):
            reader = Witness(f"reader-{number + 1}", history, url, patience_s=patience_s)
            source = random.Random(f"{seed}/reader/{number}")
            customers.append(Reader(await stack.enter_async_context(reader), stocks[number % readers], source))
        async with asyncio.TaskGroup() as group:
            for customer in customers:
                group.create_task(customer.live(stop))
            try:
                yield Crowd(customers, history)
            finally:
                stop.set()
