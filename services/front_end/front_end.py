"""The parts of one front-end, and what it says of itself."""

from collections import Counter
from dataclasses import dataclass, field

from services.common.errors import (
    BazaarError,
    KeyReused,
    NotEnoughStock,
    NotFound,
    OutcomeUnknown,
    TooManyRefusals,
    Unavailable,
)
from services.common.keys import new_key
from services.common.models import CacheState, FrontEndStatus, Trade, TradeOutcome, TradeRequest
from services.common.runtime import Runtime
from services.front_end.cache import Cache
from services.front_end.forwarder import Forwarder
from services.front_end.health import Replicas
from services.front_end.refusals import RefusalLimit, payer_of
from services.front_end.session import SessionKeeper
from services.front_end.stocks import Stocks

SHOWN_ENTRIES = 50

OUTCOMES: dict[type[BazaarError], str] = {
    NotFound: "unknown_stock",
    NotEnoughStock: "refused",
    KeyReused: "other_content",
    TooManyRefusals: "turned_away",
    Unavailable: "unavailable",
    OutcomeUnknown: "unknown",
}


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """All that a front-end consists of; `app` puts it together. outcomes: of all trades, by type and outcome."""

    name: str
    runtime: Runtime
    cache: Cache
    keeper: SessionKeeper
    stocks: Stocks
    replicas: Replicas
    forwarder: Forwarder
    refusals: RefusalLimit
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def missing(self) -> str | None:
        """What is missing for this front-end to do its job, in words; None when it is ready."""
        if self.stocks.names is None:
            return "the catalog has not told the stocks yet"
        if self.replicas.leader is None:
            return "there is no leader"
        if self.cache.is_on and not (self.cache.is_live() or self.keeper.is_deferring):
            return "the cache has no session at the catalog"
        return None

    def status(self) -> FrontEndStatus:
        """What this front-end says of itself on its internal listener."""
        return FrontEndStatus(
            name=self.name,
            leader=self.replicas.leader,
            replicas=self.replicas.views(),
            session=self.cache.is_live(),
            changes=list(self.replicas.changes),
            cache=self.cache_state(),
        )

    def cache_state(self) -> CacheState:
        """The cache from inside, with no more entries than a person reads."""
        cache = self.cache
        pages = cache.pages()
        return CacheState(
            on=cache.is_on,
            live=cache.is_live(),
            entries=[page.stock for page in pages[-SHOWN_ENTRIES:]],
            size=len(pages),
            capacity=cache.capacity,
            hits=cache.hits,
            misses=cache.misses,
            evictions=cache.evictions,
            invalidations=cache.invalidations,
        )

    def make_trade(self, wanted: TradeRequest, key: str | None) -> Trade:
        """The trade with its key, made here if the customer gave none. It is made once and survives every retry."""
        key = key or new_key(self.runtime.wall_ms(), self.runtime.random)
        return Trade(key=key, name=wanted.name, type=wanted.type, quantity=wanted.quantity)

    async def trade(self, trade: Trade, host: str) -> TradeOutcome:
        """Have a trade of the client at `host` executed; the outcome is `accepted`.

        Raises NotFound, NotEnoughStock or KeyReused, TooManyRefusals or Unavailable, or OutcomeUnknown.
        """
        try:
            outcome = await self._trade(trade, host)
        except BazaarError as error:
            self.outcomes[trade.type, OUTCOMES.get(type(error), "failed")] += 1
            raise
        self.outcomes[trade.type, "replayed" if outcome.replayed else "accepted"] += 1
        self.replicas.note_trade()
        return outcome

    async def _trade(self, trade: Trade, host: str) -> TradeOutcome:
        payer = payer_of(host)
        self.stocks.check_name(trade.name)
        self.refusals.check(payer, self.runtime.monotonic())
        try:
            return await self.forwarder.trade(trade)
        except NotEnoughStock as refusal:
            if not refusal.is_replay:
                self.refusals.charge(payer, self.runtime.monotonic())
            raise
