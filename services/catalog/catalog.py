"""The catalog as a whole: it comes up, decides one batch at a time, and answers reads from what is committed."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping

from services.catalog.attempt import Attempt
from services.catalog.inventory import Inventory, Plan
from services.catalog.rebuild import Rebuild
from services.catalog.stocks_file import MAX_STOCKS
from services.catalog.store import Overtaken, Saved, SessionBook, Store
from services.common.background import ends_process
from services.common.distribution import SIZES, Distribution
from services.common.errors import BazaarError, InvalidRequest, NotFound, OutcomeUnknown, Unavailable
from services.common.http import Peer
from services.common.logs import get_log
from services.common.models import CatalogStatus, DecideAnswer, DecideRequest, GenerationAnswer, Stock, StockAnswer
from services.common.models import StocksAnswer as Stocks
from services.common.runtime import Runtime
from services.common.timing import CONFLICT_PAUSE_S, DECIDE_ANSWER_S, LEASE_AT_CATALOG_S

log = get_log(__name__)

MAX_DECIDES = 100


class Catalog:
    """One catalog process. `replica_ids`: whose heads count for `base`, those declared lost included.

    decide_trades, invalidation_seconds, commit_seconds: of each decision that has trades, changes stocks, has entries.
    conflicts: how often another catalog, or a new session, came between a plan and its commit.
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
        self.conflicts = 0
        self._runtime = runtime
        self._store = store
        self._connect = connect
        self._replica_ids = frozenset(replicas)
        self._began = runtime.monotonic()
        there = {i: peer for i, peer in replicas.items() if i not in set(lost)}
        self._rebuild = Rebuild(runtime, there, initial, store.claim, without_some=len(there) < len(replicas))
        self._state: tuple[Inventory, SessionBook] | None = None
        self._may_decide = asyncio.Event()
        self._turn = asyncio.Lock()
        self._decides: set[asyncio.Task[DecideAnswer]] = set()

    async def run(self) -> None:
        """In the background: come up, then keep the sessions' records in order."""
        saved = await self._find_state()
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
        await self._store.close()

    def missing(self) -> str | None:
        """What is missing before this catalog can do its job, in words."""
        if self._store.trouble is not None:
            return self._store.trouble
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
            await self.refresh()
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
        deadline = self._runtime.monotonic() + DECIDE_ANSWER_S if self._store.is_shared else math.inf
        async with self._turn:
            inventory, sessions = self._ready()
            if any(trade.name not in inventory.stocks for trade in request.trades):
                raise InvalidRequest("there is no such stock")
            await self._may_decide.wait()
            with ends_process(self._runtime):
                try:
                    return await self._decide(request, inventory, sessions, deadline)
                except BazaarError as error:  # an answer of a shared store, and no reason to end
                    said = error
            raise said

    async def _decide(
        self, request: DecideRequest, inventory: Inventory, sessions: SessionBook, deadline: float
    ) -> DecideAnswer:
        """Steps 3a to 3f; again from 3a when another catalog or a new session came in between.

        Where the store is shared, the state in memory may be old. A plan may be made from it all the same: the commit
        finds out. An answer without a commit needs a look at the store first.
        """
        self.decide_trades.add(len(request.trades))
        attempt = Attempt(is_shared=self._store.is_shared)
        while True:
            if self._runtime.monotonic() >= deadline:
                raise attempt.failure()
            try:
                if attempt.is_outdated or not (attempt.is_fresh or inventory.may_decide_for(request)):
                    await self._store.refresh(deadline)
                    attempt.refreshed()
                if (early := inventory.examine(request)) is not None:
                    if not attempt.is_definite:
                        raise OutcomeUnknown  # these answers say that nothing was decided
                    self._note(inventory, request, early)
                    return early
                plan = inventory.plan(request, self._runtime.wall_ms(), self._store.max_stocks)
                if not (plan.entries or attempt.is_fresh):
                    attempt.is_outdated = True  # it may be of a generation that is over
                    continue
                await self._runtime.point("catalog.decide.planned")
                told = await self._announce(sessions, plan)
                await self._runtime.point("catalog.decide.announced")
                if plan.entries and not await self._commit(inventory, plan, told, attempt):
                    continue
            except Unavailable as error:
                raise attempt.failure(error) from error
            if plan.is_whole:
                break
        answer = inventory.answer(plan.since + plan.entries, plan.head)
        self._note(inventory, request, answer)
        await self._runtime.point("catalog.decide.noted")
        return answer

    async def _announce(self, sessions: SessionBook, plan: Plan) -> int:
        if not plan.stocks:
            return 0
        began = self._runtime.monotonic()
        told = await sessions.announce(plan.head.position, plan.stocks)
        self.invalidation_seconds.add(self._runtime.monotonic() - began)
        return told

    async def _commit(self, inventory: Inventory, plan: Plan, told: int, attempt: Attempt) -> bool:
        """Step 3d; False when it must be tried again from the start."""
        if self._store.is_silent:
            attempt.is_outdated = True
            await self._runtime.point("etcd.decide.silent")
            return False
        began = self._runtime.monotonic()
        outcome = await self._store.commit(plan, inventory.base, told)
        attempt.ended(outcome)
        if outcome != "committed":
            self.conflicts += 1
            await self._runtime.point("etcd.decide.conflict")
            await asyncio.sleep(self._runtime.random.uniform(0, CONFLICT_PAUSE_S * (attempt.conflicts - 1)))
            return False
        self.commit_seconds.add(self._runtime.monotonic() - began)
        await self._runtime.point("catalog.decide.committed")
        if inventory.head == plan.before:
            inventory.apply(plan)
        assert inventory.head.position >= plan.head.position, "what is committed is in memory"
        return True

    def _note(self, inventory: Inventory, request: DecideRequest, answer: DecideAnswer) -> None:
        """Only heads that belong to our sequence count."""
        if answer.outcome in {"decided", "behind", "fetch_base"}:
            inventory.report(request.replica_id, request.fsynced, self._replica_ids)

    async def refresh(self) -> None:
        """To be awaited before a read: what it then gives is committed, and was not outdated when it was asked for.

        Raises Unavailable when a shared store cannot be asked.
        """
        if self._store.is_shared:
            self._ready()
            await self._store.refresh()

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

    def sessions(self) -> tuple[int, SessionBook]:
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

    async def _find_state(self) -> Saved:
        """What was saved, or what the replicas know."""
        while True:
            saved = await self._store.load()
            if saved is not None:
                return saved
            try:
                inventory = await self._rebuild.run()
                await self._runtime.point("catalog.rebuild.before_create")
                saved = await self._store.create(inventory)
                await self._runtime.point("catalog.rebuild.created")
                return saved
            except Overtaken:
                log.info("another catalog has rebuilt the state, or is about to")

    def _open_for_business(self, saved: Saved) -> SessionBook:
        inventory = saved.inventory
        sessions = self._store.open_sessions(saved, self._connect)
        self._state = (inventory, sessions)
        log.info("the catalog is up", generation=inventory.generation, position=inventory.head.position)
        return sessions

    async def _wait_for_old_sessions(self, saved: Saved, sessions: SessionBook) -> None:
        """Before the first decision: no front-end may still answer from a cache that this process knows nothing of."""
        if saved.is_rebuilt:
            since = self._began if saved.since is None else saved.since
            await asyncio.sleep(since + LEASE_AT_CATALOG_S - self._runtime.monotonic())
            await self._runtime.point("catalog.start.waited")
            await self._store.clear_mark()
        if saved.sessions:
            await sessions.recall(saved.sessions)

    def _ready(self) -> tuple[Inventory, SessionBook]:
        if self._state is None:
            raise Unavailable(self.missing())
        return self._state
