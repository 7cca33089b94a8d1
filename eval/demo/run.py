"""The story as it happens: a bazaar of its own, the lab's clients, and a kill."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from client.bazaar import PATIENCE_S, BazaarClient
from client.errors import BazaarClientError
from client.load import LoadSettings
from eval.chaos.judge import problems_on_disk
from eval.chaos.report import first_trade_ms
from eval.chaos.scenarios import LEADER
from eval.crash.files import compare_files
from eval.crash.session import MANY, Session
from eval.crash.strike import Killed, Striker
from eval.demo import show
from eval.demo.stage import Stage
from eval.demo.story import Customer, FailOver, LookUp, Opening, Return, Story, Verdict, conclude, trading
from eval.processes import Failed, Processes, free_block, running
from eval.witness import History, Witness
from services.cluster.audit import verify_cluster
from services.cluster.topology import Settings
from services.common.http import PeerError
from services.common.models import Order

CLIENTS = 5
TRADE_PROBABILITY = 0.4
SEED = 1
STOCK = "GameStart"
BOUGHT = 3
LIVE_EVERY_S = 0.25
REST_S = 30.0  # for the heads to be equal in the end


class Demo:
    """One telling of the story. seconds: of load; a third before the kill, one while the replica is dead, one after."""

    def __init__(self, seconds: float, stage: Stage, data_dir: Path) -> None:
        self._third_s = seconds / 3
        self._data_dir = data_dir
        # What dies stays down: the story brings it back.
        self._settings = Settings(port=free_block(), restart="never")
        self._stage = stage
        self._history = History()
        self._problems: list[str] = []
        self.story = Story(started_at=datetime.now(UTC), clients=CLIENTS)

    async def run(self) -> Verdict:
        """Tell it from the start to the verdict. Raises CannotDo when there is no bazaar."""
        started = time.monotonic()
        self._stage.act(show.OPENING)
        async with self._bazaar(self._settings, show.STARTING) as processes:
            try:
                await self._acts(processes, time.monotonic() - started)
            except (Failed, BazaarClientError, PeerError) as failure:
                self._problems.append(str(failure))
        verdict = self.story.verdict = self._conclude(processes)
        self.story.duration_s = round(time.monotonic() - started, 1)
        self._stage.say(*show.ending_lines(verdict))
        self._stage.verdict(verdict.text, passed=verdict.passed)
        return verdict

    async def stay(self) -> None:
        """Start the bazaar again, on the databases that the story left, until a signal ends it."""
        settings = self._settings.model_copy(update={"restart": "always"})
        async with self._bazaar(settings, show.STARTING_AGAIN) as processes:
            cluster = processes.cluster
            self._stage.after(*show.staying_lines(cluster.control, cluster.of("front-end")[0].url, self._data_dir))
            await asyncio.Event().wait()

    @asynccontextmanager
    async def _bazaar(self, settings: Settings, text: str) -> AsyncIterator[Processes]:
        async with AsyncExitStack() as stack:
            with self._stage.moving(text):
                processes = await stack.enter_async_context(running(settings, self._data_dir))
            yield processes

    def _conclude(self, processes: Processes) -> Verdict:
        """The services have ended: what their files hold now is what is left."""
        cluster, data_dir, operations = processes.cluster, self._data_dir, self._history.operations
        self._problems += problems_on_disk(data_dir, cluster, operations)
        files = compare_files(data_dir, [each.name for each in cluster.of("order")])
        return conclude(operations, files, self._problems, self._history.errors)

    async def _acts(self, processes: Processes, ready_s: float) -> None:
        url = processes.cluster.of("front-end")[0].url
        async with Witness("customer", self._history, url) as client:
            await self._open(processes, client, ready_s)
            await self._shop(client)
            await self._clients_at_work(processes, client, url)
            if self.story.customer is not None and self.story.customer.number is not None:
                await client.order(self.story.customer.number)
        verified = await verify_cluster(processes.cluster, processes.client, REST_S)
        self._problems += [f"verify: {problem}" for problem in verified.problems]

    async def _clients_at_work(self, processes: Processes, client: BazaarClient, url: str) -> None:
        load = LoadSettings(
            urls=(url,), clients=CLIENTS, trade_probability=TRADE_PROBABILITY, iterations=MANY, seed=SEED
        )
        session, striker = Session(load, self._history), Striker(processes)
        async with session.at_work():
            self._stage.act(show.trading_title(CLIENTS, TRADE_PROBABILITY))
            async with self._watched(client):
                await self._trade(session, client)
                killed = await self._kill(striker, session, client)
                await self._bring_back(striker, killed, session)
            self._stage.act(show.ENDING)
            with self._stage.moving(show.ASKING):
                await session.end()

    async def _open(self, processes: Processes, client: BazaarClient, ready_s: float) -> None:
        cluster = processes.cluster
        opening = self.story.opening = Opening(
            services=len(cluster.services),
            replicas=len(cluster.of("order")),
            ready_s=round(ready_s, 1),
            leader=await _leader(client),
            room=f"{cluster.control}/",
        )
        self._stage.say(*show.opening_lines(opening))

    async def _shop(self, client: BazaarClient) -> None:
        """One customer alone: what the cache does."""
        self._stage.act(show.CUSTOMER)
        before = [await _look_up(client), await _look_up(client)]
        result = await client.buy(STOCK, BOUGHT)
        number = result.number if isinstance(result, Order) else None
        customer = self.story.customer = Customer(
            stock=STOCK, before=before, bought=BOUGHT, number=number, after=await _look_up(client)
        )
        self._stage.say(*show.customer_lines(customer))

    async def _trade(self, session: Session, client: BazaarClient) -> None:
        began = time.monotonic()
        await session.work(self._third_s)
        found = self.story.trading = trading(session.operations, began, time.monotonic())
        self._stage.say(*show.trading_lines(found, await _leader(client)))

    async def _kill(self, striker: Striker, session: Session, client: BazaarClient) -> Killed:
        killed = await striker.kill(LEADER)
        self._stage.act(show.kill_title(killed.victim, killed.pid))
        first_ms = await self._first_trade(session, killed)
        noticed_ms, selected_ms = await striker.noticed(killed)
        fail_over = self.story.fail_over = FailOver(
            victim=killed.victim,
            pid=killed.pid,
            noticed_ms=noticed_ms,
            selected=await _leader(client),
            selected_ms=selected_ms,
            first_ms=first_ms,
        )
        self._stage.say(*show.fail_over_lines(fail_over))
        await session.work(self._third_s)
        fail_over.meanwhile = trading(session.operations, killed.at, time.monotonic())
        self._stage.say(*show.trading_lines(fail_over.meanwhile, fail_over.selected))
        return killed

    async def _first_trade(self, session: Session, killed: Killed) -> float | None:
        """After how many ms a trade was answered that was sent after the kill."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._history.wait_until(lambda: first_trade_ms(session.operations, killed.at) is not None)
        return first_trade_ms(session.operations, killed.at)

    async def _bring_back(self, striker: Striker, killed: Killed, session: Session) -> None:
        self._stage.act(show.return_title(killed.victim))
        returned = await striker.bring_back(killed.victim)
        back = self.story.back = Return(replica=killed.victim, **returned.back.model_dump())
        self._stage.say(*show.return_lines(back))
        await session.work(self._third_s)

    @asynccontextmanager
    async def _watched(self, client: BazaarClient) -> AsyncIterator[None]:
        """Show during the body how fast the clients trade, and who leads; only where a line can move."""
        if not self._stage.is_live:
            yield
            return
        with self._stage.moving(show.BEGINNING):
            watching = asyncio.create_task(self._watch(client))
            try:
                yield
            finally:
                watching.cancel()
                await asyncio.wait((watching,))

    async def _watch(self, client: BazaarClient) -> None:
        while True:
            leader = await _leader(client)
            now = time.monotonic()
            last = trading(self._history.operations, now - 1.0, now)
            self._stage.move(show.moving_text(self._history.trades, last, leader))
            await asyncio.sleep(LIVE_EVERY_S)


async def _look_up(client: BazaarClient) -> LookUp:
    stock = await client.look_up(STOCK)
    return LookUp(cache=stock.cache, quantity=stock.quantity)


async def _leader(client: BazaarClient) -> str:
    leader = (await client.leader()).leader
    return "nobody" if leader is None else f"order-{leader}"
