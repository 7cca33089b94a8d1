"""An order replica's side of what the catalog relies on: it keeps a log, adopts generations and hands out entries."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpx

from services.common.digest import follows, head_at
from services.common.models import (
    MAX_ENTRIES,
    AdoptAnswer,
    AdoptRequest,
    DecideAnswer,
    DecideRequest,
    EntriesAnswer,
    Entry,
    GenerationAnswer,
    Head,
    Stock,
    Trade,
)
from tests.support.catalog_entries import STOCKS, head_of, request
from tests.support.fake_network import answer, failure


class LogReplica:
    """One replica, honest; everything it has is on its disk.

    before: awaited before a path is answered. asked: every path that was asked for. adoptions: every request to adopt.
    """

    def __init__(
        self,
        replica_id: int,
        generation: int | None = None,
        entries: Iterable[Entry] = (),
        initial: Sequence[Stock] = STOCKS,
    ) -> None:
        self.id = replica_id
        self.generation = generation
        self.entries = list(entries)
        self.initial = [] if generation is None else list(initial)
        self.before: dict[str, Callable[[], Awaitable[object]]] = {}
        self.asked: list[str] = []
        self.adoptions: list[AdoptRequest] = []
        self.page = MAX_ENTRIES

    @property
    def url(self) -> str:
        return f"http://replica:{self.id}"

    @property
    def head(self) -> Head:
        return head_of(self.entries, self.initial)

    def wipe(self) -> None:
        """Lose the disk."""
        self.generation, self.entries, self.initial = None, [], []

    async def handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(path)
        if path in self.before:
            await self.before[path]()
        if path == "/generation":
            return answer(GenerationAnswer(generation=self.generation, stocks=self.initial))
        if path == "/adopt":
            return answer(self._adopt(AdoptRequest.model_validate_json(request.content)))
        if self.generation is None:
            return failure(503)
        assert path == "/entries"
        after, limit = int(request.url.params["after"]), int(request.url.params["limit"])
        page = self.entries[after : after + min(limit, self.page)]
        return answer(EntriesAnswer(generation=self.generation, head=self.head, entries=page))

    def _adopt(self, message: AdoptRequest) -> AdoptAnswer:
        self.adoptions.append(message)
        begins_alike = not self.entries or head_of([], message.stocks) == head_of([], self.initial)
        is_adopted = begins_alike and message.generation >= (self.generation or 0)
        if is_adopted:
            self.generation, self.initial = message.generation, message.stocks
        outcome = {"outcome": "adopted" if is_adopted else "refused"}
        return AdoptAnswer.model_validate({"generation": self.generation or 0, "head": self.head, **outcome})

    # As the leader.

    def ask(self, *trades: Trade) -> DecideRequest:
        """What it asks now. A leader sends no key that is in its log."""
        known = {entry.key for entry in self.entries}
        wanted = [trade for trade in trades if trade.key not in known]
        return request(*wanted, head=self.head, replica_id=self.id, generation=self.generation or 0)

    def take(self, told: DecideAnswer) -> None:
        """Append what is new, which must continue this log."""
        assert told.generation == self.generation
        head = self.head
        for entry in told.entries:
            if entry.position <= len(self.entries):
                assert entry == self.entries[entry.position - 1]
                continue
            assert follows(entry, head), f"position {entry.position} does not follow"
            self.entries.append(entry)
            head = head_at(entry, head)
