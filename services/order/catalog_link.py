"""A replica's link to the catalog: it reports its head and takes everything after it.

One message, `decide`, is catch-up, report and health in one. It may carry trades; then this replica acts as the leader.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from services.common.background import ends_process
from services.common.batching import Batcher
from services.common.distribution import SIZES, Distribution
from services.common.errors import IntegrityFailure, Unavailable
from services.common.http import Peer, PeerAnswered, PeerError, PeerRefused
from services.common.logs import get_log
from services.common.models import DecideAnswer, DecideRequest, GenerationAnswer, Trade
from services.common.runtime import Runtime
from services.common.timing import DECIDE_S, LEVEL_S, REPORT_ANSWER_S
from services.order.log import Contradiction, OrderLog, OtherGeneration

log = get_log(__name__)

Fetch = Callable[[int], Awaitable[bool]]
"""Fetches missed entries up to a position from the other replicas; False when nobody has them."""

Result = Literal["decided", "not_decided", "unknown"]
"""decided: the entries are in the log. not_decided: definite, the catalog decided nothing. unknown: it may have."""


class CatalogLink:
    """The catalog as one replica sees it.

    caught_up: entries that came with a report, because they had been missed. is_base_missing: nobody who answered had
    the entries that the catalog has forgotten and this log lacks. decide_seconds, decide_trades: of the decisions asked
    for.
    """

    def __init__(self, runtime: Runtime, replica_id: int, log_: OrderLog, catalog: Peer, fetch: Fetch) -> None:
        self.caught_up = 0
        self.is_base_missing = False
        self.decide_seconds = Distribution()
        self.decide_trades = Distribution(SIZES)
        self._runtime = runtime
        self._replica_id = replica_id
        self._log = log_
        self._catalog = catalog
        self._fetch = fetch
        self._level_at: float | None = None
        self._confirmed_at = -math.inf  # before the last question that the catalog answered in our generation
        self._refresh: Batcher[None, bool] = Batcher(self._reach_head, max_batch=10_000)

    @property
    def level_age(self) -> float | None:
        """Seconds since this replica had the catalog's head on its disk; None when it never had."""
        return None if self._level_at is None else self._runtime.monotonic() - self._level_at

    @property
    def is_level(self) -> bool:
        """Whether that was recently enough to serve."""
        age = self.level_age
        return age is not None and age <= LEVEL_S

    def is_confirmed_since(self, moment: float) -> bool:
        """Whether the catalog has answered, in the generation of this log, a question of that moment or later."""
        return self._confirmed_at >= moment

    async def refresh(self) -> bool:
        """Bring this log to the catalog's head as of now or later; False when that did not work."""
        return await self._refresh.submit(None)

    async def decide(self, choose: Callable[[], list[Trade]]) -> Result:
        """Have trades decided and take the entries. `choose` picks trades whose keys are not in the log.

        Head and trades are taken in one step: a key up to our head is one that we have looked for, a later one is
        looked for by the catalog. So no key is decided twice, whoever else believes to be the leader.
        """
        if self._log.generation is None:
            return "not_decided"
        trades = choose()
        request = self._request(trades)
        if not trades:
            return "decided"
        began = self._runtime.monotonic()
        answer = await self._ask(request, DECIDE_S)
        self.decide_seconds.add(self._runtime.monotonic() - began)
        self.decide_trades.add(len(trades))
        if not isinstance(answer, DecideAnswer):
            return answer
        await self._runtime.point("order.decide.answered")
        if await self._take(request, answer):
            return "decided"
        # Decided, but we have adopted a rebuilt catalog meanwhile: another replica may have brought the entries to it.
        return "unknown" if answer.outcome == "decided" else "not_decided"

    # Catch-up.

    async def _reach_head(self, callers: Sequence[None]) -> list[bool]:
        return [await self._catch_up()] * len(callers)

    async def _catch_up(self) -> bool:
        """Ask without trades until the catalog's head is on our disk."""
        if self._log.generation is None and not await self._begin():
            return False
        while self._log.generation is not None:
            began = self._runtime.monotonic()
            request = self._request([])
            answer = await self._ask(request, REPORT_ANSWER_S)
            if not isinstance(answer, DecideAnswer):
                return False
            await self._runtime.point("order.report.answered")
            if await self._take(request, answer):
                assert self._log.head.position >= answer.head.position, "everything up to the catalog's head is taken"
                await self._log.fsynced.reach(answer.head.position)
                self._level_at = max(began, self._level_at or began)
                return True
            if answer.outcome not in {"behind", "fetch_base"} or self._log.head == request.head:
                return False
        return False  # an adoption began while base was fetched

    async def _begin(self) -> bool:
        """A replica without a generation takes the catalog's, before it takes anything else."""
        try:
            answer = await self._catalog.call("/generation", GenerationAnswer, timeout_s=REPORT_ANSWER_S)
        except PeerError:
            return False
        if answer.generation is None:
            return False
        # Only an empty log may follow a catalog that was rebuilt without it; it may have grown while we asked.
        return await self._log.adopt(answer.generation, answer.stocks, only_empty=True)

    def _request(self, trades: list[Trade]) -> DecideRequest:
        generation = self._log.generation
        assert generation is not None, "a replica without a generation asks for nothing else"
        return DecideRequest(
            generation=generation,
            replica_id=self._replica_id,
            head=self._log.head,
            fsynced=self._log.fsynced.position,
            trades=trades,
        )

    async def _ask(self, request: DecideRequest, timeout_s: float) -> DecideAnswer | Literal["not_decided", "unknown"]:
        began = self._runtime.monotonic()
        send = self._catalog.call if request.trades else self._catalog.ask
        try:
            answer = await send("/decide", DecideAnswer, request, timeout_s=timeout_s)
        except PeerRefused:
            return "not_decided"
        except PeerAnswered as error:
            return "not_decided" if error.status == Unavailable.code else "unknown"
        except PeerError:
            return "unknown"
        if answer.generation == request.generation:
            self._confirmed_at = max(began, self._confirmed_at)
        return answer

    async def _take(self, request: DecideRequest, answer: DecideAnswer) -> bool:
        """Take what the catalog answered; True when the log now holds everything that it held then."""
        if answer.generation != request.generation:
            await self._on_other_generation(answer)
            return False
        with ends_process(self._runtime):
            if answer.outcome == "diverged":
                raise IntegrityFailure(
                    f"the catalog holds another digest at position {request.head.position} than this log; look at both "
                    "before you delete this replica's file and start it again"
                )
            try:
                taken = self._log.take(answer.generation, answer.entries)
                if not request.trades:
                    self.caught_up += len(taken)
            except OtherGeneration:
                return False  # a rebuilt catalog was adopted while this answer was under way
            except Contradiction as error:
                raise IntegrityFailure(f"the catalog's answer contradicts this log: {error}") from error
        self.is_base_missing = answer.outcome == "fetch_base" and not await self._fetch(answer.base)
        return answer.outcome == "decided"

    async def _on_other_generation(self, answer: DecideAnswer) -> None:
        """The catalog was rebuilt, and not with us, or we would have its generation: so we were declared lost."""
        own = self._log.generation
        if own is None or answer.generation <= own:
            return  # adopted, or being adopted, while this answer was under way
        if self._log.head.position == 0:
            await self._begin()
            return
        with ends_process(self._runtime):
            raise IntegrityFailure(
                f"the catalog was rebuilt without this replica (generation {answer.generation}, here {own}): "
                "delete this replica's file and start it again"
            )
