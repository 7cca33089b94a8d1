"""What customers of a bazaar were told, and when: the evidence against which its data are held.

Times are seconds of this process's monotonic clock: `sent` is before a request, `answered` after its answer.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from client import BazaarClient, BazaarClientError, TradeRefused, TradeResult
from services.common.models import Order, Type
from tests.support.patience import PATIENCE_S

THINK_S = 0.02  # a customer's pause: it leaves processor time to the services that are coming back
MOST_PIECES = 30  # so much that some trades are refused for lack of stock
NAMES = ("AMD", "Adobe", "Alphabet", "Amazon", "Apple", "BoarCo", "Boeing", "CocaCola", "Disney", "FishCo", "GameStart")
"""One more than the cache of a bazaar holds."""


@dataclass(frozen=True)
class Trade:
    """A trade that somebody asked for under a key of its own."""

    key: str
    name: str
    type: Type
    quantity: int

    def order(self, number: int) -> Order:
        """The order that it becomes with this number."""
        return Order(number=number, name=self.name, type=self.type, quantity=self.quantity)


@dataclass(frozen=True)
class Told:
    """The answer to a trade: an order's number, or None for a final refusal."""

    trade: Trade
    number: int | None
    sent: float
    answered: float


@dataclass(frozen=True)
class Seen:
    """The answer to a look-up."""

    name: str
    quantity: int
    sent: float
    answered: float


@dataclass
class Ledger:
    """Everything customers saw. `problems`: errors, and answers that contradict earlier ones, in words."""

    told: list[Told] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Customer:
    """One customer: every call goes into the ledger, and so does every error."""

    def __init__(self, client: BazaarClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger

    async def trade(self, type: Type, name: str, quantity: int) -> Told | None:  # noqa: A002
        """Trade once."""
        trade = Trade(self._client.new_key(), name, type, quantity)
        sent = time.monotonic()
        try:
            result = await self._client.trade(type, name, quantity, trade.key)
        except BazaarClientError as error:
            self._complain(f"{trade}: {error!r}")
            return None
        told = Told(trade, _number(result), sent, time.monotonic())
        self._ledger.told.append(told)
        self._compare(told, result)
        return told

    async def ask_again(self, told: Told) -> None:
        """Send a trade again under its key: the answer must be the one of before."""
        trade = told.trade
        try:
            result = await self._client.trade(trade.type, trade.name, trade.quantity, trade.key)
        except BazaarClientError as error:
            self._complain(f"{trade} again: {error!r}")
        else:
            self._compare(told, result)

    async def read(self, told: Told) -> None:
        """Read an acknowledged order: it must be there, with its content."""
        assert told.number is not None
        try:
            order = await self._client.order(told.number)
        except BazaarClientError as error:
            self._complain(f"order {told.number}: {error!r}")
        else:
            if order != told.trade.order(told.number):
                self._complain(f"order {told.number} was {told.trade} and is read as {order!r}")

    async def look_up(self, name: str) -> None:
        """Look up a stock."""
        sent = time.monotonic()
        try:
            stock = await self._client.look_up(name)
        except BazaarClientError as error:
            self._complain(f"look-up of {name}: {error!r}")
        else:
            self._ledger.seen.append(Seen(name, stock.quantity, sent, time.monotonic()))

    def _compare(self, told: Told, result: TradeResult) -> None:
        expected = None if told.number is None else told.trade.order(told.number)
        if (None if isinstance(result, TradeRefused) else result) != expected:
            self._complain(f"{told.trade} was answered {expected!r}, and {result!r}")

    def _complain(self, problem: str) -> None:
        self._ledger.problems.append(problem)


def _number(result: TradeResult) -> int | None:
    return None if isinstance(result, TradeRefused) else result.number


class Traders:
    """Customers who trade, look up, read their orders and repeat themselves, all at the same time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._changed = asyncio.Condition()
        self._is_over = False

    @asynccontextmanager
    async def trading(self, urls: Sequence[str], count: int) -> AsyncIterator[None]:
        """They do so during the body; each begins with another front-end than the one before."""
        seed = random.SystemRandom().getrandbits(32)
        sys.stdout.write(f"traders' seed: {seed}\n")
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                first = number % len(urls)
                source = random.Random(f"{seed}/{number}")
                group.create_task(self._live([*urls[first:], *urls[:first]], source))
            try:
                yield
            finally:
                self._is_over = True

    async def more(self, count: int) -> None:
        """Wait until so many trades have been answered that were asked for from now on."""
        now = time.monotonic()
        before = len(self._ledger.told)

        def are_answered() -> bool:
            new = sum(told.sent >= now for told in self._ledger.told[before:])
            assert not self._ledger.problems, self._ledger.problems
            return new >= count

        try:
            async with asyncio.timeout(PATIENCE_S), self._changed:
                await self._changed.wait_for(are_answered)
        except TimeoutError:
            raise AssertionError(f"no {count} trades were answered within {PATIENCE_S} s") from None

    async def _live(self, urls: Sequence[str], source: random.Random) -> None:
        own: list[Told] = []
        async with BazaarClient(*urls, patience_s=PATIENCE_S) as client:
            customer = Customer(client, self._ledger)
            while not self._is_over:
                await self._visit(customer, source, own)
                async with self._changed:
                    self._changed.notify_all()
                await asyncio.sleep(THINK_S)

    async def _visit(self, customer: Customer, source: random.Random, own: list[Told]) -> None:
        """One of the things that a customer does; `own` are the trades that were answered."""
        accepted = [told for told in own if told.number is not None]
        match source.choices(("trade", "look up", "read", "repeat"), (6, 3, 2, 1))[0]:
            case "read" if accepted:
                await customer.read(source.choice(accepted))
            case "repeat" if own:
                await customer.ask_again(source.choice(own))
            case "look up":
                await customer.look_up(source.choice(NAMES))
            case _:
                kind: Type = source.choice(("buy", "sell"))
                told = await customer.trade(kind, source.choice(NAMES), source.randint(1, MOST_PIECES))
                if told is not None:
                    own.append(told)
