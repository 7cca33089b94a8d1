"""Bugs planted on purpose: the simulation is worth something only if it finds them.

Each replaces one rule of the product while it is planted; nothing in the product knows of them.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

from services.catalog import etcd_rebuild, etcd_store, rebuild
from services.catalog.attempt import Attempt
from services.catalog.catalog import Catalog
from services.catalog.etcd import Etcd, EtcdUnavailable, EtcdUnknown, is_at
from services.catalog.etcd_layout import Root
from services.catalog.etcd_sessions import SessionRecords
from services.catalog.etcd_store import EtcdStore
from services.catalog.invalidation import Session, Sessions
from services.catalog.inventory import Inventory
from services.catalog.shared_sessions import SharedSessions
from services.common.database import Database
from services.common.models import Entry
from services.common.timing import LEASE_AT_CATALOG_S, SESSION_CALL_S
from services.front_end import forwarder as forwarding
from services.front_end.cache import Cache
from services.front_end.grantors import Grantors
from services.order import catalog_link, log, replication
from services.order.leader import Leader, Pending
from services.order.log import OrderLog
from services.order.queries import Queries
from services.order.replication import Replication

Plant = Callable[[], "contextlib.AbstractContextManager[Any]"]

BUGS: dict[str, tuple[str, Plant]] = {}
ON_ETCD: set[str] = set()
"""Those of them that break a rule of catalogs that share etcd."""


def bug(says: str, *, on_etcd: bool = False) -> Callable[[Callable[[], Iterator[None]]], Plant]:
    """Register a generator that plants a bug, under its name."""

    def register(plant: Callable[[], Iterator[None]]) -> Plant:
        made = contextlib.contextmanager(plant)
        BUGS[plant.__name__] = (says, made)
        if on_etcd:
            ON_ETCD.add(plant.__name__)
        return made

    return register


@bug("a replica acknowledges before the followers and its own disk have the order")
def no_replication() -> Iterator[None]:
    async def remembered(self: Leader, *_: Any) -> None:
        self._replication.push()

    with patch.object(Leader, "_remembered", remembered), patch.object(Leader, "_is_remembered", lambda *_: True):
        yield


@bug("a transaction is called durable before its fsync")
def no_fsync() -> Iterator[None]:
    begin = Database.__init__

    def hasty(self: Database, *args: Any) -> None:
        begin(self, *args)
        self._writer.execute("PRAGMA synchronous = OFF")

    with patch.object(Database, "__init__", hasty):
        yield


@bug("the leader does not wait for its own disk")
def no_own_disk() -> Iterator[None]:
    def update(self: Replication) -> None:
        heads = [link.position for link in self._links if link.is_awaited]
        self.replicated.rise_to(min([self._log.head.position, *heads]))

    with patch.object(Replication, "_update", update):
        yield


@bug("the catalog does not look for a key among the entries after the leader's head")
def no_key_check_in_catalog() -> Iterator[None]:
    plan = Inventory.plan

    def forgetful(self: Inventory, request: Any, at: int) -> Any:
        known, self._position_of_key = self._position_of_key, {}
        try:
            return plan(self, request, at)
        finally:
            self._position_of_key = known

    with patch.object(Inventory, "plan", forgetful):
        yield


@bug("the leader takes its head and looks for the keys in two steps")
def no_key_check_in_leader() -> Iterator[None]:
    def find(self: OrderLog, keys: list[str]) -> dict[str, Entry]:
        return {}

    with patch.object(OrderLog, "find", find):
        yield


@bug("the catalog forgets entries that only the best replica has")
def trimmed_at_the_best_head() -> Iterator[None]:
    report = Inventory.report

    def best(self: Inventory, replica_id: int, fsynced: int, replica_ids: Any) -> None:
        for other in replica_ids:
            self.fsynced_heads[other] = max([fsynced, *self.fsynced_heads.values()])
        report(self, replica_id, fsynced, replica_ids)

    with patch.object(Inventory, "report", best):
        yield


@bug("an answer of the catalog is stored although it began before an invalidation")
def late_fill_stored() -> Iterator[None]:
    finish = Cache.finish_fetch

    def careless(self: Cache, fetch: Any, page: Any) -> Any:
        if self._session is not None:
            self._session.floor = 0
            self._session.floors.clear()
        return finish(self, fetch, page)

    with patch.object(Cache, "finish_fetch", careless):
        yield


@bug("a hit is allowed after the lease has lapsed")
def hits_without_a_lease() -> Iterator[None]:
    with patch.object(Cache, "is_live", lambda self: self._session is not None and self._session.is_open):
        yield


@bug("nobody is told before a stock changes")
def no_invalidation() -> Iterator[None]:
    async def announce(self: Sessions, position: int, names: Any) -> int:
        self.announced = position
        return position

    with patch.object(Sessions, "announce", announce):
        yield


@bug("front-ends are told after the commit")
def invalidated_after_the_commit() -> Iterator[None]:
    announce = Sessions.announce
    apply = Inventory.apply
    late: list[Any] = []

    async def later(self: Sessions, position: int, names: Any) -> int:
        late.append((self, position, list(names)))
        return position

    def applied(self: Inventory, plan: Any) -> None:
        apply(self, plan)
        for sessions, position, names in late:
            _ = asyncio.ensure_future(announce(sessions, position, names))  # noqa: RUF006 - late, and nobody waits
        late.clear()

    with patch.object(Sessions, "announce", later), patch.object(Inventory, "apply", applied):
        yield


@bug("a restarted catalog decides at once, whatever sessions there were")
def no_grace() -> Iterator[None]:
    async def at_once(self: Catalog, saved: Any, sessions: Any) -> None:
        return None

    with patch.object(Catalog, "_wait_for_old_sessions", at_once):
        yield


@bug("a lease that has lapsed is renewed")
def lapsed_lease_renewed() -> Iterator[None]:
    async def renew(self: Sessions, session_id: str) -> bool | None:
        session = self._live.get(session_id)
        if session is None:
            return True
        session.lease_until = self._runtime.monotonic() + 1.05
        return True

    with patch.object(Sessions, "renew", renew):
        yield


@bug("the catalog gives a front-end up before its lease is over")
def impatient_catalog() -> Iterator[None]:
    async def tell(self: Sessions, session: Session, change: Any) -> None:
        try:
            async with asyncio.timeout(0.05):
                await session.tell.submit(change)
        except Exception:  # noqa: BLE001 - that is the bug
            self._live.pop(session.id, None)

    with patch.object(Sessions, "_tell", tell):
        yield


@bug("a follower that answers that it is behind counts as having the entry")
def behind_counts_as_having() -> Iterator[None]:
    send = replication.FollowerLink._send

    async def optimistic(self: replication.FollowerLink, timeout_s: float) -> None:
        await send(self, timeout_s)
        self.position = max(self.position, self._log.head.position)

    with patch.object(replication.FollowerLink, "_send", optimistic):
        yield


@bug("an order that is not in this replica's log is said not to exist, without asking")
def not_found_without_asking() -> Iterator[None]:
    async def refreshed(self: Queries) -> None:
        return None

    with patch.object(Queries, "_refreshed", refreshed):
        yield


@bug("the front-end takes a lost answer for a refusal")
def lost_is_taken_for_definite() -> Iterator[None]:
    class Careless(forwarding._Attempt):
        may_have_run = property(lambda self: False, lambda self, value: None)

    with patch.object(forwarding, "_Attempt", Careless):
        yield


@bug("the leader says that a trade was not executed although the catalog was asked")
def asked_is_taken_for_definite() -> Iterator[None]:
    now = vars(Pending)["now"].fget

    def careless(self: Pending) -> Any:
        return "unavailable" if now(self) == "unknown" else now(self)

    with patch.object(Pending, "now", property(careless)):
        yield


@bug("a key that was used for another trade is answered with that trade's order")
def content_not_compared() -> Iterator[None]:
    with patch.object(Entry, "is_of", lambda self, trade: True):
        yield


@bug("a follower takes entries without looking at the head before them")
def appended_without_a_look() -> Iterator[None]:
    with (
        patch.object(log, "follows", lambda entry, head: True),
        patch.object(OrderLog, "head_of", lambda self, position: self.head.digest),
    ):
        yield


@bug("entries of another generation are taken")
def generation_ignored() -> Iterator[None]:
    take = OrderLog.take

    def careless(self: OrderLog, generation: int, entries: Any) -> Any:
        return take(self, self.generation or generation, entries)

    with patch.object(OrderLog, "take", careless):
        yield


@bug("a catalog without a database is rebuilt from the first replica that answers")
def rebuilt_from_one() -> Iterator[None]:
    ask_all = rebuild.Rebuild._ask_all

    async def first(self: rebuild.Rebuild, *args: Any) -> Any:
        lowest = min(self._replicas)
        self._replicas = {lowest: self._replicas[lowest]}
        return await ask_all(self, *args)

    with patch.object(rebuild.Rebuild, "_ask_all", first):
        yield


@bug("a refused trade is tried again when its key comes again")
def refusals_forgotten() -> Iterator[None]:
    find = OrderLog.find

    def forgetful(self: OrderLog, keys: list[str]) -> dict[str, Entry]:
        return {key: entry for key, entry in find(self, keys).items() if entry.number is not None}

    with patch.object(OrderLog, "find", forgetful):
        yield


@bug("only some of the entries that the catalog answers are taken")
def entries_skipped() -> Iterator[None]:
    take = catalog_link.CatalogLink._take

    async def careless(self: catalog_link.CatalogLink, request: Any, answer: Any) -> bool:
        kept = answer.model_copy(update={"entries": answer.entries[:-1] if request.trades else answer.entries})
        return await take(self, request, kept)

    with patch.object(catalog_link.CatalogLink, "_take", careless):
        yield


@bug("a replica says that it is level whatever the catalog has")
def fetch_that_never_asks_the_catalog() -> Iterator[None]:
    async def catch_up(self: catalog_link.CatalogLink) -> bool:
        if self._log.generation is None:
            return await self._begin()
        self._level_at = self._runtime.monotonic()
        return True

    with patch.object(catalog_link.CatalogLink, "_catch_up", catch_up):
        yield


# Of catalogs that share etcd.


@bug("a commit does not look whether a session was opened since the announcement", on_etcd=True)
def sessions_not_compared() -> Iterator[None]:
    with patch.object(etcd_store, "is_unchanged_since", lambda key, end, revision: is_at("nothing", 0)):
        yield


@bug("a commit does not look whether another catalog has decided", on_etcd=True)
def head_not_compared() -> Iterator[None]:
    with patch.object(etcd_store, "is_at", lambda key, revision: is_at("nothing", 0)):
        yield


@bug("a decision that begins again does not tell the caches again", on_etcd=True)
def announced_once() -> Iterator[None]:
    announce = SharedSessions.announce
    told: dict[tuple[Any, frozenset[str]], bool] = {}

    async def once(self: SharedSessions, position: int, names: Any) -> int:
        key = (asyncio.current_task(), frozenset(names))
        if told.setdefault(key, False):
            return self._records.revision
        told[key] = True
        return await announce(self, position, names)

    with patch.object(SharedSessions, "announce", once):
        yield


@bug("a catalog answers from what it remembers", on_etcd=True)
def reads_from_memory() -> Iterator[None]:
    async def refresh(self: Catalog) -> None:
        self._ready()

    with patch.object(Catalog, "refresh", refresh):
        yield


@bug("etcd is asked for a session only now and then", on_etcd=True)
def renewed_from_memory() -> Iterator[None]:
    async def renew(self: SharedSessions, session_id: str) -> bool | None:
        record = self._records.known.get(session_id)
        if record is None or record.is_revoked:
            return None
        self._session(record).lease_until = self._runtime.monotonic() + LEASE_AT_CATALOG_S
        return True

    with patch.object(SharedSessions, "renew", renew):
        yield


@bug("a grantor renews a lease although its announcement is unanswered", on_etcd=True)
def renewed_while_unanswered() -> Iterator[None]:
    renew = SharedSessions.renew

    async def careless(self: SharedSessions, session_id: str) -> bool | None:
        return await renew(self, session_id) is not None or None

    with patch.object(SharedSessions, "renew", careless):
        yield


@bug("a grantor takes the lease that it has not renewed yet for one that is over", on_etcd=True)
def first_lease_not_counted() -> Iterator[None]:
    session = SharedSessions._session

    def careless(self: SharedSessions, record: Any) -> Session:
        is_new = record.id not in self._sessions
        made = session(self, record)
        if is_new:
            made.lease_until = 0.0
        return made

    with patch.object(SharedSessions, "_session", careless):
        yield


@bug("a lease is renewed as soon as one of its grantors has renewed it", on_etcd=True)
def one_grantor_is_enough() -> Iterator[None]:
    async def renew(self: Grantors, session_id: str) -> Any:
        asked = (self._call(catalog, "renew", session_id, SESSION_CALL_S) for catalog in self._named.values())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        renewed = [each for each in answers if not isinstance(each, BaseException) and each.outcome == "renewed"]
        return renewed[0] if renewed else await self.ask("renew", session_id)

    with patch.object(Grantors, "renew", renew):
        yield


@bug("a session is revoked, and its lease is not waited for", on_etcd=True)
def revoked_and_not_waited_for() -> Iterator[None]:
    async def wait_out(self: SharedSessions, session_id: str) -> None:
        self._over.add(session_id)

    with patch.object(SharedSessions, "_wait_out", wait_out):
        yield


@bug("a session is given up without being revoked", on_etcd=True)
def given_up_and_not_revoked() -> Iterator[None]:
    async def revoke(self: SharedSessions, record: Any) -> bool:
        return True

    with patch.object(SharedSessions, "_revoke", revoke):
        yield


@bug("a front-end that does not answer is passed over", on_etcd=True)
def silence_is_consent() -> Iterator[None]:
    tell = SharedSessions._tell

    async def careless(self: SharedSessions, record: Any, change: Any, until: float) -> bool:
        await tell(self, record, change, min(until, self._runtime.monotonic() + 0.05))
        return True

    with patch.object(SharedSessions, "_tell", careless):
        yield


@bug("the floor of a session is not the head at its opening", on_etcd=True)
def no_floor_at_the_opening() -> Iterator[None]:
    add = SessionRecords.add

    async def careless(self: SessionRecords, session_id: str, url: str, grantors: Any) -> int | None:
        return None if await add(self, session_id, url, grantors) is None else 0

    with patch.object(SessionRecords, "add", careless):
        yield


@bug("a transaction without an answer is taken for one that was not executed", on_etcd=True)
def lost_transaction_is_definite() -> Iterator[None]:
    ended = Attempt.ended

    def careless(self: Attempt, outcome: Any) -> None:
        ended(self, outcome)
        self.is_definite = True

    with patch.object(Attempt, "ended", careless):
        yield


@bug("a transaction without an answer is taken for one that was executed", on_etcd=True)
def lost_transaction_is_committed() -> Iterator[None]:
    commit = EtcdStore.commit

    async def careless(self: EtcdStore, *args: Any) -> Any:
        outcome = await commit(self, *args)
        return "committed" if outcome == "unknown" else outcome

    def apply(self: Inventory, plan: Any) -> None:
        self.follow(plan.entries)

    with patch.object(EtcdStore, "commit", careless), patch.object(Inventory, "apply", apply):
        yield


@bug("an etcd transaction without an answer is sent again, and the second answer is believed", on_etcd=True)
def lost_transaction_is_repeated() -> Iterator[None]:
    change = Etcd.change

    async def stubborn(self: Etcd, *args: Any, **options: Any) -> Any:
        for _ in range(5):
            with contextlib.suppress(EtcdUnknown):
                return await change(self, *args, **options)
        raise EtcdUnavailable

    with patch.object(Etcd, "change", stubborn):
        yield


@bug("a rebuild does not look whether another catalog rebuilds", on_etcd=True)
def rebuilt_without_a_claim() -> Iterator[None]:
    async def claim(self: EtcdStore, least: int) -> int:
        return least

    def stands(self: etcd_rebuild.Claims) -> Any:
        return is_at("nothing", 0)

    with (
        patch.object(EtcdStore, "claim", claim),
        patch.object(etcd_rebuild.Claims, "_stands", property(stands)),
    ):
        yield


@bug("a rebuilt state is decided on at once, whatever sessions there were", on_etcd=True)
def no_grace_on_etcd() -> Iterator[None]:
    async def at_once(self: Catalog, saved: Any, sessions: Any) -> None:
        return None

    with patch.object(Catalog, "_wait_for_old_sessions", at_once):
        yield


@bug("a catalog does not notice that the data set was replaced", on_etcd=True)
def root_not_compared() -> Iterator[None]:
    with patch.object(Root, "stands", property(lambda self: is_at("nothing", 0))):
        yield
