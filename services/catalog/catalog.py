"""The catalog as a whole: it comes up, decides one batch at a time, and answers reads from what is committed."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from services.catalog.invalidation import Sessions
from services.catalog.inventory import Inventory
from services.catalog.rebuild import Rebuild
from services.catalog.stocks_file import MAX_STOCKS
from services.catalog.store import Saved, Store
from services.common.background import ends_process
from services.common.distribution import SIZES, Distribution
from services.common.errors import InvalidRequest, NotFound, Unavailable
from services.common.http import Peer
from services.common.logs import get_log
from services.common.models import CatalogStatus, DecideAnswer, DecideRequest, GenerationAnswer, Stock, StockAnswer
from services.common.models import StocksAnswer as Stocks
from services.common.runtime import Runtime
from services.common.timing import LEASE_AT_CATALOG_S

log = get_log(__name__)

T = TypeVar("T")

MAX_DECIDES = 100


class Catalog:
    """One catalog process. `replica_ids`: whose heads count for `base`, those declared lost included.

    decide_trades, invalidation_seconds, commit_seconds: of each decision that has trades, changes stocks, has entries.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        replicas: Mapping[int, Peer],
        lost: Iterable[int],
        initial: Callable[[], list[Stock]],
        connect: Callable[[str], Peer],
    ) -> None:
        self.decide_trades = Distribution(SIZES)
        self.invalidation_seconds = Distribution()
        self.commit_seconds = Distribution()
        self._runtime = runtime
        self._disk = runtime.disk()
        self._store = store
        self._connect = connect
        self._replica_ids = frozenset(replicas)
        self._began = runtime.monotonic()
        there = {i: peer for i, peer in replicas.items() if i not in set(lost)}
        self._rebuild = Rebuild(runtime, there, initial, without_some=len(there) < len(replicas))
        self._state: tuple[Inventory, Sessions] | None = None
        self._may_decide = asyncio.Event()
        self._turn = asyncio.Lock()
        self._decides: set[asyncio.Task[DecideAnswer]] = set()

    async def run(self) -> None:
        """In the background: come up, then keep the sessions' records in order."""
        saved = await self._disk.run(self._store.load)
        if saved is None:
            inventory = await self._rebuild.run()
            await self._runtime.point("catalog.rebuild.before_create")
            await self._disk.run(self._store.create, inventory)
            await self._runtime.point("catalog.rebuild.created")
            saved = Saved(inventory, sessions={}, is_rebuilt=True)
        sessions = self._open_for_business(saved)
        await self._wait_for_old_sessions(saved, sessions)
        self._may_decide.set()
        await sessions.sweep()

    async def close(self) -> None:
        """Finish what is being decided, then let go of the store."""
        if not self._may_decide.is_set():
            for task in self._decides:  # none of them has begun, and nobody will let them any more
                task.cancel()
        await asyncio.gather(*self._decides, return_exceptions=True)
        self._disk.close()
        self._store.close()

    def missing(self) -> str | None:
        """What is missing before this catalog can do its job, in words."""
        if self._state is not None:
            return None
        if self._rebuild.waiting_for:
            names = ", ".join(f"order-{replica_id}" for replica_id in sorted(self._rebuild.waiting_for))
            return f"no generation yet: waiting for {names}"
        return "no generation yet"

    # What is asked of it.

    async def decide(self, request: DecideRequest) -> DecideAnswer:
        """Everything after the replica's head, its trades decided. An empty request waits for nobody."""
        if not request.trades:
            inventory, _ = self._ready()
            with ends_process(self._runtime):
                early = inventory.examine(request)
            answer = early or inventory.answer(inventory.after(request.head.position))
            self._note(inventory, request, answer)
            return answer
        if len(self._decides) >= MAX_DECIDES:
            raise Unavailable("too many decisions wait")
        # In a task of its own: a decision that was begun is finished, whatever becomes of the caller.
        task = asyncio.create_task(self._decide_in_turn(request))
        self._decides.add(task)
        task.add_done_callback(self._decides.discard)
        return await asyncio.shield(task)

    async def _decide_in_turn(self, request: DecideRequest) -> DecideAnswer:
        async with self._turn:
            inventory, sessions = self._ready()
            if any(trade.name not in inventory.stocks for trade in request.trades):
                raise InvalidRequest("there is no such stock")
            await self._may_decide.wait()
            with ends_process(self._runtime):
                if (early := inventory.examine(request)) is not None:
                    self._note(inventory, request, early)
                    return early
                plan = inventory.plan(request, self._runtime.wall_ms())
                await self._runtime.point("catalog.decide.planned")
                self.decide_trades.add(len(request.trades))
                planned = self._runtime.monotonic()
                if plan.stocks:
                    await sessions.announce(plan.head.position, plan.stocks)
                    self.invalidation_seconds.add(self._runtime.monotonic() - planned)
                await self._runtime.point("catalog.decide.announced")
                announced = self._runtime.monotonic()
                if plan.entries:
                    await self._disk.run(self._store.commit, plan, inventory.base)
                    self.commit_seconds.add(self._runtime.monotonic() - announced)
                    await self._runtime.point("catalog.decide.committed")
                    inventory.apply(plan)
            answer = inventory.answer(plan.since + plan.entries)
            self._note(inventory, request, answer)
            await self._runtime.point("catalog.decide.noted")
            return answer

    def _note(self, inventory: Inventory, request: DecideRequest, answer: DecideAnswer) -> None:
        """Only heads that belong to our sequence count."""
        if answer.outcome in {"decided", "behind", "fetch_base"}:
            inventory.report(request.replica_id, request.fsynced, self._replica_ids)

    def generation(self) -> GenerationAnswer:
        """The generation, and the stocks that the bazaar began with."""
        inventory, _ = self._ready()
        return GenerationAnswer(generation=inventory.generation, stocks=inventory.initial)

    def stock(self, name: str) -> StockAnswer:
        """One stock as committed, with the head at the same moment."""
        inventory, _ = self._ready()
        if name not in inventory.stocks:
            raise NotFound("there is no such stock")
        return StockAnswer(generation=inventory.generation, head=inventory.head.position, stock=inventory.stocks[name])

    def stocks(self, after: str = "", limit: int = MAX_STOCKS) -> Stocks:
        """Stocks as committed, by name: at most `limit` of those after `after`."""
        inventory, _ = self._ready()
        return Stocks(generation=inventory.generation, head=inventory.head, stocks=inventory.page(after, limit))

    def sessions(self) -> tuple[int, Sessions]:
        """The generation and its sessions."""
        inventory, sessions = self._ready()
        return inventory.generation, sessions

    @property
    def waiting(self) -> int:
        """How many decisions wait or are under way."""
        return len(self._decides)

    @property
    def expired_sessions(self) -> int:
        """How many front-ends did not answer an announcement until their lease was over."""
        return self._state[1].expired if self._state else 0

    def status(self) -> CatalogStatus:
        """What this catalog says of itself, at any time."""
        if self._state is None:
            return CatalogStatus(generation=None, base=0, head=None, sessions=0)
        inventory, sessions = self._state
        return CatalogStatus(
            generation=inventory.generation, base=inventory.base.position, head=inventory.head, sessions=len(sessions)
        )

    # How it comes up.

    def _open_for_business(self, saved: Saved) -> Sessions:
        inventory = saved.inventory
        sessions = Sessions(
            self._runtime,
            self._connect,
            inventory.generation,
            announced=inventory.head.position,
            record=lambda session_id, url: self._write(self._store.record_session, session_id, url),
            remove=lambda session_ids: self._write(self._store.remove_sessions, session_ids),
        )
        self._state = (inventory, sessions)
        log.info("the catalog is up", generation=inventory.generation, position=inventory.head.position)
        return sessions

    async def _wait_for_old_sessions(self, saved: Saved, sessions: Sessions) -> None:
        """Before the first decision: no front-end may still answer from a cache that this process knows nothing of."""
        if saved.is_rebuilt:
            await asyncio.sleep(self._began + LEASE_AT_CATALOG_S - self._runtime.monotonic())
            await self._runtime.point("catalog.start.waited")
            await self._disk.run(self._store.clear_mark)
        if saved.sessions:
            await sessions.recall(saved.sessions)

    async def _write(self, work: Callable[..., T], *args: object) -> T:
        with ends_process(self._runtime):
            return await self._disk.run(work, *args)

    def _ready(self) -> tuple[Inventory, Sessions]:
        if self._state is None:
            raise Unavailable(self.missing())
        return self._state
