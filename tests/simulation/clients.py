"""Simulated customers: they look up, trade, ask again with the same key, and query orders, through every front-end."""

import asyncio
import json
import random
from typing import Any

import httpx

from eval.history import Operation
from tests.simulation.network import SimulatedTransport
from tests.simulation.world import STOCKS, World

NAMES = [line.split(",")[0] for line in STOCKS.splitlines()[1:]]
GIVE_UP_S = 12.0


class Customer:
    """One client; its operations go into the shared history."""

    def __init__(self, world: World, number: int, history: list[Operation], front_ends: int) -> None:
        self.name = f"client-{number}"
        self._world = world
        self._random = random.Random(world.random.getrandbits(64))
        self._history = history
        self._front_ends = front_ends
        self._http = httpx.AsyncClient(transport=SimulatedTransport(world, self.name), timeout=None)  # noqa: S113 - see GIVE_UP_S
        self._trades: list[Operation] = []
        self._numbers: list[int] = [1]
        self.highest = 0

    async def live(self, until: float) -> None:
        """Do something, wait a little, and again."""
        while self._world.loop.time() < until:
            await self.act()
            await asyncio.sleep(self._random.expovariate(1 / 0.15))

    async def act(self) -> None:
        """One random operation."""
        what = self._random.random()
        if what < 0.45:
            await self.look_up(self._random.choice(NAMES))
        elif what < 0.75:
            await self.trade()
        elif what < 0.88:
            await self.ask_again()
        else:
            await self.order(self._random.choice([*self._numbers[-4:], self._random.randint(1, self._numbers[-1] + 2)]))

    async def look_up(self, name: str) -> None:
        """Look a stock up."""
        await self._do(Operation(self.name, "look_up", 0, name=name), "GET", f"/stocks/{name}")

    async def trade(self) -> None:
        """Trade with a new key; now and then at two front-ends at once."""
        kind = "buy" if self._random.random() < 0.6 else "sell"
        key = f"{self.name}-{len(self._trades)}"
        trade = Operation(
            self.name,
            "trade",
            0,
            name=self._random.choice(NAMES),
            key=key,
            type=kind,
            quantity=self._random.randint(1, 5),
        )
        self._trades.append(trade)
        await self._send(trade, twice=self._random.random() < 0.15)

    async def ask_again(self) -> None:
        """Repeat an earlier trade of ours with its key; now and then with other content."""
        if not self._trades:
            return
        recent = self._trades[-5:]
        old = self._random.choice([t for t in recent if t.status in {0, 504, 503}] or recent)
        quantity = old.quantity + (1 if self._random.random() < 0.1 else 0)
        await self._send(
            Operation(self.name, "trade", 0, name=old.name, key=old.key, type=old.type, quantity=quantity), twice=False
        )

    async def order(self, number: int) -> None:
        """Query an order."""
        await self._do(Operation(self.name, "order", 0, number=number), "GET", f"/orders/{number}")

    async def _send(self, trade: Operation, *, twice: bool) -> None:
        body = {"name": trade.name, "type": trade.type, "quantity": trade.quantity}
        calls = [self._do(trade, "POST", "/orders", body)]
        if twice:
            copy = Operation(
                self.name, "trade", 0, name=trade.name, key=trade.key, type=trade.type, quantity=trade.quantity
            )
            calls.append(self._do(copy, "POST", "/orders", body))
        await asyncio.gather(*calls)

    async def _do(self, op: Operation, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        k = self._random.randint(1, self._front_ends)
        op.via = f"front-end-{k}"
        op.began = self._world.loop.time()
        self._history.append(op)
        headers = {"content-type": "application/json"} if body else {}
        if op.key:
            headers["idempotency-key"] = op.key
        content = json.dumps(body) if body else None
        try:
            async with asyncio.timeout(GIVE_UP_S):
                response = await self._http.request(
                    method, f"http://127.0.0.1:{8000 + k}{path}", content=content, headers=headers
                )
        except (httpx.TransportError, TimeoutError):
            self._world.note(f"{op}")
            return
        op.ended = self._world.loop.time()
        op.status = response.status_code
        if op.status in {200, 201}:
            op.seen = response.json()["data"]
            if op.kind == "look_up":
                op.seen["etag"] = response.headers["etag"]
            elif op.kind == "trade":
                self._numbers.append(op.seen["number"])
        self._world.note(f"{op}")
