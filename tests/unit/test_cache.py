"""The rules of the cache: when an entry may be hit, stored, joined, and when a session is over."""

import random

import pytest

from services.common.models import Stock, StockAnswer
from services.common.timing import LEASE_S
from services.front_end.cache import Cache, Fetch, Fetched, Session
from services.front_end.shapes import StockPage, is_matched, stock_json


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def page(name: str = "A", *, head: int, generation: int = 1, version: int = 0, quantity: int = 1) -> StockPage:
    stock = Stock(name=name, price=100, quantity=quantity, version=version)
    return StockPage.of(StockAnswer(generation=generation, head=head, stock=stock))


def open_session(cache: Cache, clock: Clock, session_id: str = "s1", *, floor: int = 0, generation: int = 1) -> Session:
    session = cache.begin_opening(session_id)
    assert cache.opened(session, generation, floor, clock())
    return session


def put(cache: Cache, name: str, *, head: int = 0) -> None:
    assert cache.finish_fetch(cache.begin_fetch(name), page(name, head=head)) is Fetched.STORED


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache:
    return Cache(3, clock)


@pytest.fixture
def session(cache: Cache, clock: Clock) -> Session:
    return open_session(cache, clock)


def names(cache: Cache) -> list[str]:
    return [page.stock.name for page in cache.pages()]


# Least recently used.


def test_least_recently_used_entry_makes_room_when_the_cache_is_full(cache: Cache, session: Session) -> None:
    for name in "ABC":
        put(cache, name)
    assert cache.take("A") is not None
    put(cache, "D")
    assert names(cache) == ["C", "A", "D"]
    assert cache.take("B") is None
    assert cache.evictions == 1


def test_nothing_is_evicted_when_an_entry_is_fetched_again(cache: Cache, session: Session) -> None:
    for name in "ABCA":
        put(cache, name)
    assert names(cache) == ["B", "C", "A"]
    assert cache.evictions == 0


def test_dropped_entry_is_gone_and_dropping_it_again_does_nothing(cache: Cache, session: Session) -> None:
    put(cache, "A")
    assert cache.drop("A")
    assert not cache.drop("A")
    assert cache.take("A") is None


# The lease.


def test_hit_is_allowed_until_the_lease_ends_and_not_at_its_end(cache: Cache, clock: Clock, session: Session) -> None:
    put(cache, "A")
    clock.now += LEASE_S - 0.001
    assert cache.take("A") is not None
    clock.now = session.lease_until
    assert cache.take("A") is None
    assert cache.pages() == []
    assert not cache.is_live()


def test_lease_counts_from_before_it_was_asked_for(cache: Cache, clock: Clock) -> None:
    session = cache.begin_opening("s1")
    asked_at = clock()
    clock.now += 0.4
    assert cache.opened(session, 1, 0, asked_at)
    assert session.lease_until == asked_at + LEASE_S


def test_renewal_extends_the_lease(cache: Cache, clock: Clock, session: Session) -> None:
    put(cache, "A")
    clock.now += 0.5
    assert cache.renewed(session, 1, clock())
    clock.now += 0.9
    assert cache.take("A") is not None


def test_lease_is_not_shortened_when_renewals_overtake_each_other(cache: Cache, clock: Clock, session: Session) -> None:
    asked_first = clock()
    clock.now += 0.3
    assert cache.renewed(session, 1, clock())
    lease_until = session.lease_until
    assert cache.renewed(session, 1, asked_first)
    assert session.lease_until == lease_until


def test_session_is_over_when_its_renewal_is_handled_after_the_lapse(
    cache: Cache, clock: Clock, session: Session
) -> None:
    """H8: in between, the catalog may have stopped telling us."""
    put(cache, "A")
    asked_at = clock.now + 0.9
    clock.now += LEASE_S
    assert not cache.renewed(session, 1, asked_at)
    assert session.ended.is_set()
    assert cache.take("A") is None
    assert not cache.invalidate("s1", 1, {"A": 1})


def test_session_is_over_when_its_opening_is_handled_after_the_lease(cache: Cache, clock: Clock) -> None:
    session = cache.begin_opening("s1")
    asked_at = clock()
    clock.now += LEASE_S
    assert not cache.opened(session, 1, 0, asked_at)
    assert session.ended.is_set()
    assert not cache.is_live()


def test_nothing_is_hit_or_stored_without_a_session(cache: Cache) -> None:
    fetch = cache.begin_fetch("A")
    assert cache.joinable("A") is None
    assert cache.finish_fetch(fetch, page(head=0)) is Fetched.RETURN_ONLY
    assert cache.take("A") is None


# Sessions and generations.


def test_new_session_begins_with_an_empty_cache(cache: Cache, clock: Clock, session: Session) -> None:
    put(cache, "A")
    open_session(cache, clock, "s2")
    assert cache.pages() == []
    assert session.ended.is_set()


def test_answers_to_a_session_that_was_replaced_are_ignored(cache: Cache, clock: Clock, session: Session) -> None:
    new = open_session(cache, clock, "s2")
    assert not cache.renewed(session, 1, clock())
    assert not cache.opened(session, 1, 0, clock())
    assert not cache.kept(session, 2)
    assert cache.end(session) is None
    assert cache.is_live()
    assert not new.ended.is_set()


@pytest.mark.parametrize("generation", [0, 2])
def test_session_is_over_when_a_renewal_comes_from_another_generation(
    cache: Cache, clock: Clock, session: Session, generation: int
) -> None:
    """H19: a renewal must not revive a session at a rebuilt catalog."""
    put(cache, "A")
    assert not cache.renewed(session, generation, clock())
    assert session.ended.is_set()
    assert cache.pages() == []


def test_session_is_over_when_a_busy_answer_comes_from_another_generation(cache: Cache, session: Session) -> None:
    assert cache.kept(session, 1)
    assert not cache.kept(session, 2)
    assert session.ended.is_set()


def test_session_is_over_when_a_fetch_is_answered_by_another_generation(cache: Cache, session: Session) -> None:
    put(cache, "B")
    fetched = cache.finish_fetch(cache.begin_fetch("A"), page(head=9, generation=2))
    assert fetched is Fetched.RETURN_ONLY
    assert session.ended.is_set()
    assert cache.pages() == []


def test_answer_of_a_replaced_catalog_is_used_by_nobody(cache: Cache, clock: Clock, session: Session) -> None:
    fetch = cache.begin_fetch("A")
    new = open_session(cache, clock, "s2", generation=2)
    assert cache.finish_fetch(fetch, page(head=50, generation=1)) is Fetched.OUTDATED
    assert not new.ended.is_set()


def test_session_is_not_opened_by_a_generation_that_is_known_to_be_over(cache: Cache, clock: Clock) -> None:
    assert cache.finish_fetch(cache.begin_fetch("A"), page(head=0, generation=2)) is Fetched.RETURN_ONLY
    session = cache.begin_opening("s1")
    assert not cache.opened(session, 1, 0, clock())
    assert session.ended.is_set()


def test_session_is_over_when_an_invalidation_comes_from_another_generation(cache: Cache, session: Session) -> None:
    put(cache, "A")
    assert not cache.invalidate("s1", 2, {"A": 1})
    assert session.ended.is_set()
    assert cache.pages() == []


def test_only_the_session_being_opened_is_confirmed(cache: Cache, clock: Clock) -> None:
    assert not cache.is_opening("s1")
    session = cache.begin_opening("s1")
    assert cache.is_opening("s1")
    assert not cache.is_opening("s2")
    assert cache.opened(session, 1, 0, clock())
    assert not cache.is_opening("s1")


def test_recalled_session_is_over_for_ever(cache: Cache, clock: Clock, session: Session) -> None:
    put(cache, "A")
    assert not cache.recall("another")
    assert cache.recall("s1")
    assert not cache.recall("s1")
    assert cache.pages() == []
    assert not cache.renewed(session, 1, clock())
    assert not cache.invalidate("s1", 1, {"A": 1})


def test_session_that_was_recalled_while_its_opening_was_unanswered_never_opens(cache: Cache, clock: Clock) -> None:
    session = cache.begin_opening("s1")
    assert cache.recall("s1")
    assert not cache.opened(session, 1, 0, clock())
    assert not cache.is_live()


def test_ending_gives_the_id_once(cache: Cache, session: Session) -> None:
    assert cache.end() == "s1"
    assert cache.end() is None


# Floors.


def test_entry_below_the_position_of_an_invalidation_is_dropped(cache: Cache, session: Session) -> None:
    put(cache, "A", head=4)
    put(cache, "B", head=4)
    assert cache.invalidate("s1", 1, {"A": 5})
    assert names(cache) == ["B"]
    assert cache.invalidations == 1


def test_entry_that_has_seen_the_change_survives_a_late_invalidation(cache: Cache, session: Session) -> None:
    put(cache, "A", head=5)
    assert cache.invalidate("s1", 1, {"A": 5})
    assert names(cache) == ["A"]
    assert cache.invalidations == 0


def test_invalidations_may_come_twice_and_in_any_order(cache: Cache, session: Session) -> None:
    for position in (7, 7, 6):
        assert cache.invalidate("s1", 1, {"A": position})
    assert cache.finish_fetch(cache.begin_fetch("A"), page(head=6)) is Fetched.RETURN_ONLY
    assert cache.finish_fetch(cache.begin_fetch("A"), page(head=7)) is Fetched.STORED


def test_answer_from_before_the_change_is_returned_and_not_stored(cache: Cache, session: Session) -> None:
    fetch = cache.begin_fetch("A")
    assert cache.invalidate("s1", 1, {"A": 5})
    assert cache.finish_fetch(fetch, page(head=4)) is Fetched.RETURN_ONLY
    assert cache.take("A") is None


def test_head_of_the_answer_counts_and_not_the_version_of_the_stock(cache: Cache, session: Session) -> None:
    """An announced change that was then refused: the version stays old for ever, and still the stock may be cached."""
    assert cache.invalidate("s1", 1, {"A": 5})
    assert cache.finish_fetch(cache.begin_fetch("A"), page(head=6, version=2)) is Fetched.STORED


def test_floor_of_one_name_does_not_hold_back_another(cache: Cache, session: Session) -> None:
    assert cache.invalidate("s1", 1, {"A": 5})
    put(cache, "B", head=4)


def test_answer_below_the_floor_of_the_session_is_not_stored(cache: Cache, clock: Clock) -> None:
    """H9: announced before the session counted, committed after it opened."""
    open_session(cache, clock, floor=8)
    assert cache.finish_fetch(cache.begin_fetch("A"), page(head=7)) is Fetched.RETURN_ONLY
    assert cache.finish_fetch(cache.begin_fetch("A"), page(head=8)) is Fetched.STORED


def test_invalidation_counts_for_a_session_whose_opening_is_unanswered(cache: Cache, clock: Clock) -> None:
    """H19: the catalog counts a session as live before its answer arrives."""
    session = cache.begin_opening("s1")
    assert cache.invalidate("s1", 1, {"A": 9})
    assert cache.opened(session, 1, 5, clock())
    assert cache.finish_fetch(cache.begin_fetch("A"), page(head=8)) is Fetched.RETURN_ONLY
    assert cache.finish_fetch(cache.begin_fetch("B"), page("B", head=8)) is Fetched.STORED


def test_session_never_opens_when_its_invalidation_came_from_another_generation(cache: Cache, clock: Clock) -> None:
    session = cache.begin_opening("s1")
    assert cache.invalidate("s1", 2, {"A": 9})
    assert not cache.opened(session, 1, 5, clock())
    assert session.ended.is_set()


def test_invalidation_of_another_session_is_not_ours(cache: Cache, session: Session) -> None:
    put(cache, "A")
    assert not cache.invalidate("s0", 1, {"A": 5})
    assert names(cache) == ["A"]


def test_answer_of_a_fetch_from_before_the_session_is_not_stored(cache: Cache, clock: Clock) -> None:
    early = cache.begin_fetch("A")
    session = cache.begin_opening("s1")
    while_opening = cache.begin_fetch("A")
    assert cache.opened(session, 1, 0, clock())
    assert cache.finish_fetch(early, page(head=50)) is Fetched.RETURN_ONLY
    assert cache.finish_fetch(while_opening, page(head=50)) is Fetched.RETURN_ONLY


def test_answer_of_a_fetch_from_the_session_before_is_not_stored(cache: Cache, clock: Clock, session: Session) -> None:
    fetch = cache.begin_fetch("A")
    open_session(cache, clock, "s2")
    assert cache.finish_fetch(fetch, page(head=50)) is Fetched.RETURN_ONLY


def test_answer_is_not_stored_when_the_lease_has_lapsed_meanwhile(cache: Cache, clock: Clock, session: Session) -> None:
    fetch = cache.begin_fetch("A")
    clock.now = session.lease_until
    assert cache.finish_fetch(fetch, page(head=50)) is Fetched.RETURN_ONLY


def test_newer_entry_stays_when_an_older_answer_comes_later(cache: Cache, session: Session) -> None:
    slow, fast = cache.begin_fetch("A"), cache.begin_fetch("A")
    assert cache.finish_fetch(fast, page(head=5, quantity=5)) is Fetched.STORED
    assert cache.finish_fetch(slow, page(head=3, quantity=3)) is Fetched.STORED
    kept = cache.take("A")
    assert kept is not None
    assert kept.stock.quantity == 5


# Joining a fetch.


def test_fetch_may_be_joined_while_it_is_under_way(cache: Cache, session: Session) -> None:
    fetch = cache.begin_fetch("A")
    assert cache.joinable("A") is fetch
    assert cache.joinable("B") is None
    cache.finish_fetch(fetch, page(head=0))
    assert cache.joinable("A") is None


def test_fetch_that_failed_is_not_joined(cache: Cache, session: Session) -> None:
    cache.abandon_fetch(cache.begin_fetch("A"))
    assert cache.joinable("A") is None


def test_fetch_is_not_joined_after_an_invalidation_of_its_name(cache: Cache, session: Session) -> None:
    """H10: it may have read before the change."""
    cache.begin_fetch("A")
    other = cache.begin_fetch("B")
    assert cache.invalidate("s1", 1, {"A": 5})
    assert cache.joinable("A") is None
    assert cache.joinable("B") is other


def test_old_fetch_does_not_end_the_new_one_when_it_fails(cache: Cache, session: Session) -> None:
    old = cache.begin_fetch("A")
    assert cache.invalidate("s1", 1, {"A": 5})
    new = cache.begin_fetch("A")
    cache.abandon_fetch(old)
    assert cache.joinable("A") is new


def test_fetch_is_not_joined_when_the_lease_has_lapsed(cache: Cache, clock: Clock, session: Session) -> None:
    cache.begin_fetch("A")
    clock.now = session.lease_until
    assert cache.joinable("A") is None


def test_fetch_is_not_joined_in_the_next_session(cache: Cache, clock: Clock, session: Session) -> None:
    cache.begin_fetch("A")
    open_session(cache, clock, "s2")
    assert cache.joinable("A") is None


# All of it at once.


class World:
    """An honest catalog, and a network that delays, loses and repeats, around one cache; each step is a random one.

    The catalog commits a change only when every session that was live at its announcement has acknowledged it or its
    lease (1.05 s) is over. Whatever is hit must equal what is committed.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        self.cache = Cache(2, self.clock)
        self.hits = 0
        self.committed = dict.fromkeys("ABC", 0)
        self.head = self.announced = 0
        self.changing: str | None = None
        self.leases: dict[str, float] = {}  # as the catalog counts them
        self.waiting_for: set[str] = set()
        self.told: list[tuple[str, dict[str, int]]] = []
        self.session: Session | None = None
        self.openings: list[tuple[Session, int, float]] = []
        self.renewals: list[tuple[Session, float]] = []
        self.fetches: list[tuple[Fetch, StockPage]] = []

    def step(self) -> None:
        self.clock.now += self.random.choice([0.0, 0.0, 0.01, 0.02])
        if self.random.random() < 0.005:
            self.clock.now += 1.5  # stopped
        session = [self.ask_to_open, self.hear_opened, self.ask_to_renew, self.hear_renewed]
        self.random.choice([*session, *session, self.ask, self.hear, self.announce, self.commit, self.hit, self.hit])()

    def ask_to_open(self) -> None:
        if self.session is None or self.session.ended.is_set():
            self.session = self.cache.begin_opening(f"s{len(self.leases)}")
            self.leases[self.session.id] = self.clock() + 1.05
            self.openings.append((self.session, self.announced, self.clock()))

    def hear_opened(self) -> None:
        if self.openings:
            session, floor, asked_at = self.openings.pop(0)
            self.cache.opened(session, 1, floor, asked_at)

    def ask_to_renew(self) -> None:
        session = self.session
        if len(self.renewals) == 3:
            self.renewals.pop(0)  # lost
        if session and self.leases[session.id] <= self.clock():
            self.cache.end(session)  # no session
        elif session and session.id not in self.waiting_for:
            self.leases[session.id] = self.clock() + 1.05
            self.renewals.append((session, self.clock()))

    def hear_renewed(self) -> None:
        if self.renewals:
            session, asked_at = self.renewals.pop(self.random.randrange(len(self.renewals)))
            self.cache.renewed(session, 1, asked_at)

    def ask(self) -> None:
        if len(self.fetches) == 4:
            self.cache.abandon_fetch(self.fetches.pop(0)[0])  # lost
        name = self.random.choice("ABC")
        answer = page(name, head=self.head, quantity=self.committed[name])
        self.fetches.append((self.cache.begin_fetch(name), answer))

    def hear(self) -> None:
        if self.fetches:
            self.cache.finish_fetch(*self.fetches.pop(self.random.randrange(len(self.fetches))))

    def announce(self) -> None:
        if self.changing is None:
            self.changing = self.random.choice("ABC")
            self.announced = self.head + 1
            self.waiting_for = {session for session, until in self.leases.items() if until > self.clock()}
            self.told += [(session, {self.changing: self.announced}) for session in self.waiting_for]

    def commit(self) -> None:
        if self.told and self.random.random() < 0.7:
            session, floors = self.random.choice(self.told[-3:])  # also one that was said before
            self.cache.invalidate(session, 1, floors)
            if self.announced in floors.values():
                self.waiting_for.discard(session)
        self.waiting_for = {session for session in self.waiting_for if self.leases[session] > self.clock()}
        if self.changing is not None and not self.waiting_for:
            self.head = self.announced
            self.committed[self.changing] += 1
            self.changing = None

    def hit(self) -> None:
        name = self.random.choice("ABC")
        found = self.cache.take(name)
        if found is not None:
            self.hits += 1
            assert found.stock.quantity == self.committed[name]


@pytest.mark.parametrize("seed", range(100))
def test_no_hit_is_ever_stale_whatever_is_lost_late_or_repeated(seed: int) -> None:
    world = World(seed)
    for _ in range(2_000):
        world.step()
    assert world.hits > 20, "the test has tested something"
    assert world.head > 20


# Shapes.


@pytest.mark.parametrize(
    ("cents", "text"),
    [
        (0, "0.00"),
        (5, "0.05"),
        (10, "0.10"),
        (100, "1.00"),
        (1599, "15.99"),
        (2050, "20.50"),
        (12_345_678_901, "123456789.01"),
    ],
)
def test_price_has_exactly_two_decimals(cents: int, text: str) -> None:
    body = stock_json(Stock(name="A", price=cents, quantity=7))
    assert body.decode() == f'{{"name":"A","price":{text},"quantity":7}}'


@pytest.mark.parametrize(
    ("header", "is_match"),
    [
        ('"1-5"', True),
        ('W/"1-5"', True),
        ('"0-1", "1-5"', True),
        ('"0-1",W/"1-5" , "x"', True),
        ("*", True),
        ('"1-6"', False),
        ("1-5", False),
        ("", False),
        ('"1-5', False),
    ],
)
def test_etag_is_matched_as_the_standard_says(header: str, *, is_match: bool) -> None:
    assert is_matched('"1-5"', header) is is_match
