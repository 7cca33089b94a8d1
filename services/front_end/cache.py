"""The cache of stocks: least recently used, and never stale.

A hit is allowed only while the front-end holds a *lease* of the catalog's: until then the catalog tells it of every
change before the change is committed, so what is cached is what is committed. The rules, each of which was once broken:

- A lease counts from before it was asked for, and is looked at in the same step in which an entry is taken. A process
  that was stopped in between cannot serve what it took for valid before.
- A *session* is opened once, under an id that is never used again, and belongs to the generation of its opening. An
  answer of another generation ends it. Only its opening makes a session: a renewal that is handled after the lease has
  lapsed is worth nothing, because the catalog may have stopped telling us in between.
- The session object exists before the request to open it is sent. The catalog counts a session as live before we have
  its answer, so invalidations may come first: they raise the floors of a session that is not open yet.
- An answer of the catalog may always be returned to the reader who asked. It is *stored*, or shared with readers who
  came later, only if the lease is valid, the fetch began in this session, and the answer's head is below no *floor*:
  neither the session's (the head announced when it opened) nor the name's (the last change we were told of). The head
  counts and not the stock's version: a version says when the stock changed last, the head how much the answer has seen.
- An invalidation takes a fetch under way out of the list that readers may join: it may have read before the change.

Nothing here waits, so each method is one step. Callers hold `lock` around it all the same; it is free by construction,
since nobody awaits anything while holding it, and would matter on the day a method begins to wait.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum, auto

from services.common.timing import LEASE_S
from services.front_end.shapes import StockPage


class Session:
    """What the catalog knows this front-end by, for as long as the lease lasts.

    generation: None until the catalog was heard of. lease_until: by the monotonic clock; in the past until it is open.
    """

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self.ended = asyncio.Event()
        self.generation: int | None = None
        self.lease_until = -math.inf
        self.floor = 0
        self.floors: dict[str, int] = {}  # of names; a bazaar's names are fixed, so it cannot grow without end

    @property
    def is_open(self) -> bool:
        """Whether the catalog has answered the opening."""
        return self.lease_until > -math.inf


class Fetch:
    """A question to the catalog that is under way. session: the one it began in; None when no lease was valid."""

    def __init__(self, name: str, session: Session | None) -> None:
        self.name = name
        self.session = session


class Fetched(Enum):
    """What an answer of the catalog is good for."""

    STORED = auto()  # it is in the cache now, and readers who joined the fetch may have it too
    RETURN_ONLY = auto()  # only the reader who began the fetch may have it
    OUTDATED = auto()  # it came from a catalog that has been replaced: nobody may have it


class Cache:
    """Entries, the session they are valid under, and the fetches under way. Of capacity 0 it never holds anything."""

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        self.lock = asyncio.Lock()
        self.capacity = capacity
        self.is_on = capacity > 0  # switched by the session keeper
        self.hits = self.misses = self.evictions = self.invalidations = 0
        self._clock = clock
        self._session: Session | None = None
        self._newest_generation = 0
        self._entries: OrderedDict[str, StockPage] = OrderedDict()
        self._fetches: dict[str, Fetch] = {}  # those that may be joined; all of them began in the present session

    @property
    def newest_generation(self) -> int:
        """The highest generation that the catalog was heard of with; 0 before the first."""
        return self._newest_generation

    # Reading.

    def take(self, name: str) -> StockPage | None:
        """The entry of `name`, if a hit is allowed at this moment."""
        if not self.is_live():
            return None
        page = self._entries.get(name)
        if page is not None:
            self._entries.move_to_end(name)
        return page

    def pages(self) -> list[StockPage]:
        """The entries that could be hit now, least recently used first."""
        return list(self._entries.values()) if self.is_live() else []

    def drop(self, name: str) -> bool:
        """Forget one entry; whether there was one."""
        return self._entries.pop(name, None) is not None

    # Fetching.

    def joinable(self, name: str) -> Fetch | None:
        """A fetch under way that a reader may wait for, provided its answer is then stored."""
        return self._fetches.get(name) if self.is_live() else None

    def begin_fetch(self, name: str) -> Fetch:
        """A reader asks the catalog now."""
        fetch = Fetch(name, self._session if self.is_live() else None)
        if fetch.session is not None:
            self._fetches[name] = fetch
        return fetch

    def abandon_fetch(self, fetch: Fetch) -> None:
        """It brought no answer."""
        if self._fetches.get(fetch.name) is fetch:
            del self._fetches[fetch.name]

    def finish_fetch(self, fetch: Fetch, page: StockPage) -> Fetched:
        """The catalog has answered; store it if it may be stored."""
        self.abandon_fetch(fetch)
        if page.generation < self._newest_generation:
            return Fetched.OUTDATED
        self._newest_generation = page.generation
        session = self._session
        if session is not None and session.generation not in {None, page.generation}:
            self._end()
            return Fetched.RETURN_ONLY
        if session is None or fetch.session is not session or not self.is_live():
            return Fetched.RETURN_ONLY
        if page.head < max(session.floor, session.floors.get(fetch.name, 0)):
            return Fetched.RETURN_ONLY
        self._store(page)
        return Fetched.STORED

    def _store(self, page: StockPage) -> None:
        name = page.stock.name
        present = self._entries.get(name)
        if present is None or present.head <= page.head:  # answers may overtake each other
            self._entries[name] = page
        self._entries.move_to_end(name)
        while len(self._entries) > self.capacity:
            self._entries.popitem(last=False)
            self.evictions += 1

    # The session.

    def is_live(self) -> bool:
        """Whether a lease is valid at this moment."""
        return self._session is not None and self._clock() < self._session.lease_until

    def is_opening(self, session_id: str) -> bool:
        """Whether a request to open this very session is unanswered."""
        session = self._session
        return session is not None and session.id == session_id and not session.is_open

    def begin_opening(self, session_id: str) -> Session:
        """A request to open a session is about to be sent; whatever there was is gone."""
        self._end()
        self._session = Session(session_id)
        return self._session

    def opened(self, session: Session, generation: int, floor: int, asked_at: float) -> bool:
        """The catalog has opened `session`; False when that is worth nothing any more."""
        if session is not self._session or not self._is_of(session, generation):
            return False
        session.floor = floor
        session.lease_until = asked_at + LEASE_S
        return self._end_if_lapsed(session)

    def renewed(self, session: Session, generation: int, asked_at: float) -> bool:
        """The catalog has renewed the lease; False when that came too late or from another generation."""
        if not self.kept(session, generation):
            return False
        session.lease_until = max(session.lease_until, asked_at + LEASE_S)
        return True

    def kept(self, session: Session, generation: int | None = None) -> bool:
        """Whether `session` still stands, also by an answer of this generation; a lapsed lease is its end."""
        if session is not self._session or (generation is not None and not self._is_of(session, generation)):
            return False
        return self._end_if_lapsed(session)

    def end(self, session: Session | None = None) -> str | None:
        """End `session` if it is the present one; whatever is the present one, if none is named. Gives its id."""
        present = self._session
        if present is None or session not in {None, present}:
            return None
        self._end()
        return present.id

    def recall(self, session_id: str) -> bool:
        """The catalog ends this id for ever, also if its opening is unanswered; whether it was ours."""
        session = self._session
        if session is None or session.id != session_id:
            return False
        self._end()
        return True

    def invalidate(self, session_id: str, generation: int, floors: Mapping[str, int]) -> bool:
        """These stocks are about to change at these positions. False: that session is not ours (any more)."""
        session = self._session
        if session is None or session.id != session_id or not self._is_of(session, generation):
            return False
        for name, position in floors.items():
            session.floors[name] = max(position, session.floors.get(name, 0))
            self._fetches.pop(name, None)
            page = self._entries.get(name)
            if page is not None and page.head < position:
                del self._entries[name]
                self.invalidations += 1
        return True

    def _is_of(self, session: Session, generation: int) -> bool:
        """Whether the present session is of this generation; it ends when it is not."""
        if session.generation is None and generation >= self._newest_generation:
            session.generation = generation
        self._newest_generation = max(self._newest_generation, generation)
        if session.generation == generation:
            return True
        self._end()
        return False

    def _end_if_lapsed(self, session: Session) -> bool:
        if self._clock() < session.lease_until:
            return True
        self._end()
        return False

    def _end(self) -> None:
        if self._session is not None:
            self._session.ended.set()
        self._session = None
        self._entries.clear()
        self._fetches.clear()
