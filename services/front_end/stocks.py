"""Reading stocks: from the cache when it may answer, else from the catalog, with one fetch for all who want it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from services.common.errors import NotFound, Unavailable
from services.common.http import Peer, PeerAnswered, PeerError
from services.common.logs import get_log
from services.common.models import Stock, StockAnswer, StocksAnswer
from services.common.runtime import Runtime
from services.common.timing import LOOK_UP_S
from services.front_end.cache import Cache, Fetch, Fetched
from services.front_end.pauses import pauses
from services.front_end.shapes import StockPage

log = get_log(__name__)

AnswerT = TypeVar("AnswerT")
How = Literal["hit", "miss", "off"]


class Stocks:
    """The stocks as this front-end reads them. names: all there are, None until the catalog has told us."""

    def __init__(self, cache: Cache, catalog: Peer, runtime: Runtime) -> None:
        self.names: frozenset[str] | None = None
        self._cache = cache
        self._catalog = catalog
        self._clock = runtime.monotonic
        self._random = runtime.random
        self._fetches: dict[Fetch, asyncio.Task[tuple[StockPage, Fetched]]] = {}

    async def load_names(self) -> None:
        """Ask the catalog which stocks there are until it answers. They are fixed for the life of a bazaar."""
        for pause in pauses(self._random):
            try:
                answer = await self._catalog.call("/stocks", StocksAnswer, timeout_s=LOOK_UP_S)
            except PeerError as error:
                log.debug("the catalog does not tell the stocks yet", reason=str(error))
                await asyncio.sleep(pause)
            else:
                self.names = frozenset(stock.name for stock in answer.stocks)
                return

    def check_name(self, name: str) -> None:
        """Raises NotFound when there is no such stock, Unavailable while we cannot know."""
        if self.names is None:
            raise Unavailable("the catalog has not told the stocks yet; this request was not executed, try again")
        if name not in self.names:
            raise NotFound("there is no such stock")

    async def look_up(self, name: str) -> tuple[StockPage, How]:
        """One stock, as it is at some moment between the call and the answer. Raises NotFound or Unavailable."""
        self.check_name(name)
        async with self._cache.lock:
            page = self._cache.take(name)
        if page is not None:
            self._cache.hits += 1
            return page, "hit"
        self._cache.misses += 1
        return await self._read_through(name), "miss" if self._cache.is_on else "off"

    async def page(self, after: str, limit: int) -> list[Stock]:
        """At most `limit` stocks after the name `after`, straight from the catalog. Raises Unavailable."""

        async def ask(left: float) -> StocksAnswer:
            return await self._catalog.call(f"/stocks?after={after}&limit={limit}", StocksAnswer, timeout_s=left)

        return (await self._within_deadline(ask)).stocks

    async def drop(self, name: str) -> bool:
        """Forget a stock's entry; whether there was one. Raises NotFound or Unavailable."""
        self.check_name(name)
        async with self._cache.lock:
            return self._cache.drop(name)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._fetches.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_through(self, name: str) -> StockPage:
        """The answer of a fetch; for a joiner only one that was stored, for the rest see the rules in `cache`.

        Who has joined one in vain begins its own: while a floor is above the catalog's head nothing is stored, and many
        readers would have to wait for each other.
        """
        may_join = True

        async def attempt(left: float) -> StockPage | None:
            nonlocal may_join
            async with self._cache.lock:
                page = self._cache.take(name)  # somebody else's fetch may have brought it
                if page is not None:
                    return page
                joined = self._cache.joinable(name) if may_join else None
                may_join = joined is None
                fetch = joined or self._cache.begin_fetch(name)
            task = self._fetches.get(fetch) or self._start(fetch, left)
            # Not `await task`: a reader who goes away must not take the fetch away from those who joined it.
            await asyncio.wait([task], timeout=left)
            if not task.done() or task.cancelled():
                return None
            page, fetched = task.result()
            may_have = fetched is Fetched.STORED or (joined is None and fetched is Fetched.RETURN_ONLY)
            return page if may_have else None

        return await self._within_deadline(attempt)

    def _start(self, fetch: Fetch, left: float) -> asyncio.Task[tuple[StockPage, Fetched]]:
        def ended(task: asyncio.Task[tuple[StockPage, Fetched]]) -> None:
            del self._fetches[fetch]
            if not task.cancelled():
                task.exception()  # looked at, also when every reader has gone

        task = self._fetches[fetch] = asyncio.create_task(self._fetch(fetch, left))
        task.add_done_callback(ended)
        return task

    async def _fetch(self, fetch: Fetch, left: float) -> tuple[StockPage, Fetched]:
        try:
            answer = await self._catalog.call(f"/stocks/{fetch.name}", StockAnswer, timeout_s=left)
        except BaseException:
            self._cache.abandon_fetch(fetch)
            raise
        page = StockPage.of(answer)
        async with self._cache.lock:
            return page, self._cache.finish_fetch(fetch, page)

    async def _within_deadline(self, attempt: Callable[[float], Awaitable[AnswerT | None]]) -> AnswerT:
        """Try again until there is an answer; a catalog that is being started again costs time and no error."""
        deadline = self._clock() + LOOK_UP_S
        waits = pauses(self._random)
        while (left := deadline - self._clock()) > 0:
            try:
                answer = await attempt(left)
            except PeerError as error:
                if isinstance(error, PeerAnswered) and error.status == NotFound.code:
                    raise NotFound("there is no such stock") from None
                await asyncio.sleep(min(next(waits), max(deadline - self._clock(), 0.0)))
            else:
                if answer is not None:
                    return answer
        raise Unavailable("the catalog does not answer; try again")
