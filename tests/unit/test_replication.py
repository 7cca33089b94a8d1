"""Which entries are on every replica that must be waited for: the one dangerous computation of the leader."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.common.errors import IntegrityFailure
from services.common.models import MAX_ENTRIES, AppendAnswer, AppendOutcome, AppendRequest
from services.common.timing import APPEND_S, FOLLOWER_PATIENCE_S, LOOK_EVERY_S
from services.common.transport import NotConnected
from services.order.log import OrderLog
from services.order.replication import REST_S, Replication
from tests.support.fake_network import Fault, failure
from tests.support.fake_time import in_fake_time, until
from tests.support.order_chain import STOCKS, Chain
from tests.support.order_peers import Instead, TakingFollower
from tests.support.order_world import Outside, once, open_log, replica_url

NOW = pytest.approx(0, abs=0.005)
PATIENCE = pytest.approx(FOLLOWER_PATIENCE_S, abs=0.03)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "order-3.db"


class Leading:
    """Replica 3 with what it sends to its followers; `chain` is what the catalog decided."""

    def __init__(self, outside: Outside, log: OrderLog, chain: Chain, followers: int) -> None:
        self.outside = outside
        self.log = log
        self.chain = chain
        self.followers = {i: TakingFollower() for i in range(1, followers + 1)}
        peers = {i: outside.peer(replica_url(i)) for i in self.followers}
        for i, follower in self.followers.items():
            outside.network.serve(replica_url(i), follower.handle)
        self.is_confirmed = True
        self.replication = Replication(outside.runtime, log, peers, self._confirm)

    async def _confirm(self) -> bool:
        return self.is_confirmed

    def fault(self, replica_id: int, fault: Fault | None) -> None:
        self.outside.network.fault(replica_url(replica_id), fault)

    def begin(self, count: int = 1) -> "asyncio.Future[float]":
        """Decide some trades; gives the seconds until they are replicated."""
        self.log.take(1, self.chain.add(count))
        return asyncio.ensure_future(self.seconds_until(self.log.head.position))

    async def replicate(self, count: int = 1) -> float:
        return await self.begin(count)

    async def seconds_until(self, position: int) -> float:
        began = self.outside.clock()
        await self.replication.reach(position)
        return self.outside.clock() - began

    def asked(self, replica_id: int) -> int:
        return self.outside.network.count(replica_url(replica_id), "/append")

    async def settle(self) -> None:
        await asyncio.sleep(0.001)


@asynccontextmanager
async def leading(path: Path, chain: Chain | None = None, *, followers: int = 2) -> AsyncIterator[Leading]:
    outside = Outside()
    async with open_log(outside, path, chain) as log:
        made = Leading(outside, log, chain or Chain(), followers)
        try:
            yield made
        finally:
            await made.replication.close()


# What covers an entry.


@in_fake_time
async def test_an_entry_is_replicated_when_it_is_on_every_disk(path: Path) -> None:
    async with leading(path) as made:
        assert await made.replicate(3) == NOW
        assert made.log.fsynced.position == 3
        for follower in made.followers.values():
            assert follower.head == made.chain.head()
        assert made.replication.replicated.position == 3


@in_fake_time
async def test_an_entry_is_not_replicated_before_it_is_on_the_own_disk(path: Path) -> None:
    async with leading(path) as made:
        made.outside.disk.hold()
        replicating = made.begin()
        await asyncio.sleep(30)
        assert all(follower.head.position == 1 for follower in made.followers.values()), "sent in parallel"
        assert not replicating.done()
        assert made.replication.replicated.position == 0
        made.outside.disk.release()
        await replicating


@in_fake_time
async def test_an_entry_is_not_replicated_before_the_own_fsync_when_no_follower_is_waited_for(path: Path) -> None:
    async with leading(path) as made:
        for i in made.followers:
            made.fault(i, "refuses")
        made.outside.disk.hold()
        replicating = made.begin()
        await asyncio.sleep(30)
        assert not replicating.done()
        made.outside.disk.release()
        await replicating


@in_fake_time
async def test_every_follower_counts_when_one_is_slower(path: Path) -> None:
    async with leading(path, followers=4) as made:
        gate = asyncio.Event()
        made.followers[2].gate = gate.wait
        replicating = made.begin()
        await asyncio.sleep(0.3)
        assert not replicating.done()
        gate.set()
        assert await replicating == pytest.approx(0.3, abs=0.01)


@in_fake_time
async def test_the_own_disk_is_all_that_counts_when_there_is_no_other_replica(path: Path) -> None:
    chain = Chain()
    chain.add(3)
    async with leading(path, chain, followers=0) as made:
        assert await made.seconds_until(3) == NOW
        made.outside.disk.hold()
        replicating = made.begin()
        await asyncio.sleep(1)
        assert not replicating.done()
        made.outside.disk.release()
        await replicating


@in_fake_time
async def test_old_entries_are_replicated_first_when_a_leader_starts_again(path: Path) -> None:
    """A key that is found in the log waits as any other: nothing says that the others have it."""
    chain = Chain()
    chain.add(5)
    async with leading(path, chain) as made:
        made.followers[1].take(chain.entries)
        assert made.replication.replicated.position == 0
        gate = asyncio.Event()
        made.followers[2].gate = gate.wait
        replicating = asyncio.ensure_future(made.seconds_until(2))
        await asyncio.sleep(0.2)
        assert not replicating.done()
        gate.set()
        await replicating
        assert made.followers[2].head == chain.head()
        assert await made.seconds_until(5) == NOW
        assert made.asked(1) == 1


@in_fake_time
async def test_an_entry_is_not_covered_when_a_follower_answers_that_it_is_behind(path: Path) -> None:
    """H16: an answer is not enough. It is sent what it misses, and its head has to cover the entry."""
    chain = Chain()
    chain.add(10)
    async with leading(path, chain) as made:
        made.followers[1].take(chain.entries)
        made.followers[2].take(chain.entries[:4])
        assert await made.replicate() == NOW
        appends = made.followers[2].appends
        assert [append.before for append in appends] == [chain.head(10), chain.head(4)]
        assert appends[1].entries == made.chain.after(4)
        assert made.followers[2].head == made.chain.head()


@pytest.mark.parametrize(
    "says",
    [
        lambda follower, _: follower.says("behind"),
        lambda follower, _: follower.says("taken"),
        lambda follower, request: follower.says("behind", request.before),
        lambda follower, request: follower.says("taken", request.before),
        lambda follower, _: follower.says("diverged"),
        lambda follower, _: follower.says("other_generation"),
        lambda follower, _: AppendAnswer(generation=2, outcome="taken", head=follower.head),
        lambda *_: NotConnected("no more files can be opened here"),
        lambda *_: failure(503),
        lambda *_: failure(500),
        lambda *_: httpx.Response(200, text="nonsense"),
    ],
    ids=[
        "behind",
        "nothing taken",
        "before",
        "taken before",
        "diverged",
        "generation",
        "newer",
        "own fault",
        "503",
        "500",
        "odd",
    ],
)
def test_patience_ends_after_half_a_second_when_a_follower_does_not_come_nearer(
    path: Path, says: Callable[[TakingFollower, AppendRequest], Instead]
) -> None:
    @in_fake_time
    async def run() -> None:
        async with leading(path) as made:
            bad = made.followers[2]
            bad.instead = lambda request: says(bad, request)
            assert await made.replicate() == PATIENCE
            assert made.asked(2) < 100
            # From then on it is not waited for.
            assert await made.replicate() == NOW
            await asyncio.sleep(5)
            assert made.asked(2) < 150, "it is not asked without end"
            bad.instead = None
            assert await made.replicate() == NOW
            await until(lambda: bad.head == made.chain.head())

    run()


@pytest.mark.parametrize("outcome", ["diverged", "other_generation", "taken of another generation"])
def test_a_head_does_not_count_when_it_is_of_another_log(path: Path, outcome: str) -> None:
    @in_fake_time
    async def run() -> None:
        async with leading(path) as made:

            def lie(request: AppendRequest) -> Instead:
                head = request.before.model_copy(update={"position": 10**6})
                if outcome == "diverged":
                    return AppendAnswer(generation=1, outcome="diverged", head=head)
                if outcome == "other_generation":
                    return AppendAnswer(generation=2, outcome="other_generation", head=head)
                return AppendAnswer(generation=2, outcome="taken", head=head)

            made.followers[2].instead = lie
            assert await made.replicate() == PATIENCE

    run()


@pytest.mark.parametrize("then", ["goes on", "is silent", "is gone"])
@pytest.mark.parametrize("outcome", ["diverged", "other_generation"])
def test_a_follower_is_waited_for_when_it_disputes_this_log_until_the_catalog_confirms_it(
    path: Path, outcome: AppendOutcome, then: str
) -> None:
    @in_fake_time
    async def run() -> None:
        async with leading(path) as made:
            made.is_confirmed = False
            made.followers[2].instead = lambda _: made.followers[2].says(outcome)
            replicating = made.begin()
            await asyncio.sleep(0.1)
            if then == "is silent":
                made.fault(2, "hangs")
            elif then == "is gone":
                made.fault(2, "refuses")
            await asyncio.sleep(4)
            assert not replicating.done(), "this leader may be the one that is wrong"
            made.is_confirmed = True
            assert await replicating < 4.1 + APPEND_S + FOLLOWER_PATIENCE_S

    run()


@in_fake_time
async def test_an_answer_does_not_count_when_this_replica_adopted_a_generation_meanwhile(path: Path) -> None:
    async with leading(path) as made:
        made.outside.at["order.append.answered"] = once(lambda: made.log.adopt(2, STOCKS))
        replicating = made.begin()
        await asyncio.sleep(0.1)
        assert not replicating.done()
        for follower in made.followers.values():
            follower.generation = 2
        assert await replicating < FOLLOWER_PATIENCE_S
        assert [append.generation for append in made.followers[1].appends][-1] == 2


@in_fake_time
async def test_an_entry_is_covered_when_a_follower_is_ahead(path: Path) -> None:
    chain = Chain()
    chain.add(8)
    async with leading(path, chain.fork(5)) as made:
        made.chain = chain
        for follower in made.followers.values():
            follower.take(chain.entries)
        assert await made.seconds_until(5) == NOW
        asked = made.asked(1)
        made.log.take(1, chain.after(5, 7))
        assert await made.seconds_until(7) == NOW
        assert made.asked(1) == asked, "its answered head covers these as well"
        made.log.take(1, chain.after(7, 8))
        assert await made.replicate(2) == NOW
        assert made.followers[1].head == chain.head(10)


@in_fake_time
async def test_everything_is_sent_again_when_a_follower_was_wiped(path: Path) -> None:
    chain = Chain()
    chain.add(5)
    async with leading(path, chain) as made:
        assert await made.replicate() == NOW
        made.followers[1].wipe()
        assert await made.replicate() == NOW
        assert made.followers[1].head == chain.head(7)
        assert [append.before.position for append in made.followers[1].appends[-2:]] == [6, 0]


@in_fake_time
async def test_the_mark_never_falls_when_a_follower_falls_back(path: Path) -> None:
    async with leading(path) as made:
        await made.replicate(5)
        made.followers[1].wipe()
        made.followers[1].instead = lambda _: made.followers[1].says("behind")
        replicating = made.begin()
        await made.settle()
        assert made.replication.replicated.position == 5
        assert not replicating.done()
        made.followers[1].instead = None
        await replicating


# Who is waited for.


@in_fake_time
async def test_nobody_waits_when_a_follower_refuses_the_connection(path: Path) -> None:
    """H22: the connection of a process that was killed is refused at once."""
    async with leading(path) as made:
        await made.replicate()
        made.fault(1, "refuses")
        for _ in range(10):
            assert await made.replicate() == NOW
        assert made.followers[2].head == made.chain.head()


@in_fake_time
async def test_a_follower_that_refused_is_left_alone_for_a_moment(path: Path) -> None:
    async with leading(path) as made:
        made.fault(1, "refuses")
        await made.replicate()
        asked = made.asked(1)
        for _ in range(20):
            await made.replicate()
        assert made.asked(1) == asked
        await asyncio.sleep(REST_S)
        await made.replicate()
        assert made.asked(1) == asked + 1


@in_fake_time
async def test_a_follower_is_waited_for_again_when_it_has_caught_up(path: Path) -> None:
    async with leading(path) as made:
        made.fault(1, "refuses")
        await made.replicate(3)
        await asyncio.sleep(REST_S)
        made.fault(1, None)
        await made.replicate()
        await until(lambda: made.followers[1].head == made.chain.head())
        await made.settle()
        gate = asyncio.Event()
        made.followers[1].gate = gate.wait
        replicating = made.begin()
        await asyncio.sleep(0.4)
        assert not replicating.done()
        gate.set()
        assert await replicating == pytest.approx(0.4, abs=0.01)


@in_fake_time
async def test_a_paused_follower_costs_half_a_second_once(path: Path) -> None:
    async with leading(path) as made:
        await made.replicate()
        made.fault(1, "hangs")
        assert await made.replicate() == PATIENCE
        for _ in range(30):
            assert await made.replicate() == NOW
            await asyncio.sleep(0.2)
        made.fault(1, None)
        await made.replicate()
        await until(lambda: made.followers[1].head == made.chain.head())
        await made.settle()
        made.fault(1, "hangs")
        assert await made.replicate() == PATIENCE


@pytest.mark.parametrize("fault", ["hangs", "resets"])
def test_patience_is_half_a_second_for_a_trade_that_came_while_one_was_waited_for(path: Path, fault: Fault) -> None:
    @in_fake_time
    async def run() -> None:
        async with leading(path) as made:
            await made.replicate()
            made.fault(1, fault)
            first = made.begin()
            await asyncio.sleep(0.3)
            second = made.begin()
            assert await first == PATIENCE
            assert await second == pytest.approx(FOLLOWER_PATIENCE_S - 0.3, abs=0.03)

    run()


@in_fake_time
async def test_a_follower_is_not_waited_for_when_it_is_nearer_but_not_there_yet(path: Path) -> None:
    """Caught up is who covers what was sent to him, not who answers again."""
    chain = Chain()
    chain.add(3 * MAX_ENTRIES)
    async with leading(path, chain) as made:
        made.followers[2].take(chain.entries)
        made.fault(1, "refuses")
        assert await made.replicate() == NOW
        await asyncio.sleep(REST_S)
        made.fault(1, None)
        made.outside.network.delay(replica_url(1), 0.2)
        for _ in range(3):
            assert await made.replicate() == NOW
            await asyncio.sleep(0.25)
            assert made.followers[1].head.position < made.chain.head().position
        await until(lambda: made.followers[1].head == made.chain.head())
        await asyncio.sleep(0.3)
        assert await made.replicate() == pytest.approx(0.2, abs=0.01), "now it is"


@in_fake_time
async def test_a_follower_far_behind_is_brought_up_in_steps_of_1000_entries(path: Path) -> None:
    chain = Chain()
    chain.add(3 * MAX_ENTRIES + 10)
    async with leading(path, chain) as made:
        made.followers[2].take(chain.entries)
        made.followers[1].take(chain.entries[:5])
        assert await made.seconds_until(len(chain.entries)) == NOW
        sent = [(append.before.position, len(append.entries)) for append in made.followers[1].appends]
        assert sent == [
            (3 * MAX_ENTRIES + 10, 0),
            (5, MAX_ENTRIES),
            (5 + MAX_ENTRIES, MAX_ENTRIES),
            (5 + 2 * MAX_ENTRIES, MAX_ENTRIES),
            (5 + 3 * MAX_ENTRIES, 5),
        ]


@in_fake_time
async def test_bringing_a_follower_up_costs_half_a_second_at_most_when_it_takes_longer(path: Path) -> None:
    chain = Chain()
    chain.add(9 * MAX_ENTRIES)
    async with leading(path, chain) as made:
        made.followers[2].take(chain.entries)
        made.outside.network.delay(replica_url(1), 0.15)
        assert await made.replicate() == PATIENCE
        assert await made.replicate() == NOW
        await until(lambda: made.followers[1].head == made.chain.head())


@in_fake_time
async def test_an_append_is_sent_again_when_its_answer_was_lost(path: Path) -> None:
    async with leading(path) as made:
        await made.replicate()
        made.fault(1, "does_then_resets")
        replicating = made.begin()
        await asyncio.sleep(0.1)
        assert not replicating.done()
        made.fault(1, None)
        assert await replicating == pytest.approx(0.1, abs=0.03)


@in_fake_time
async def test_an_append_is_given_up_after_two_seconds_when_its_follower_is_not_waited_for(path: Path) -> None:
    async with leading(path) as made:
        made.fault(1, "hangs")
        await made.replicate()  # from here on it is not waited for
        asked = made.asked(1)
        for _ in range(4):
            await made.replicate()
            await asyncio.sleep(APPEND_S / 2)
        assert made.asked(1) == asked + 1


# How it is sent.


@in_fake_time
async def test_one_append_is_under_way_at_a_time_when_trades_come_fast(path: Path) -> None:
    async with leading(path) as made:
        gate = asyncio.Event()
        made.followers[1].gate = gate.wait
        replicating = [made.begin()]
        await made.settle()
        replicating += [made.begin() for _ in range(40)]
        await made.settle()
        assert made.asked(1) == 1
        assert made.asked(2) == 2, "the other one is not held up"
        gate.set()
        await asyncio.gather(*replicating)
        assert [len(append.entries) for append in made.followers[1].appends] == [1, 40]
        assert made.followers[1].most_in_flight == made.followers[2].most_in_flight == 1


@in_fake_time
async def test_nothing_fails_when_very_many_trades_come_while_an_append_hangs(path: Path) -> None:
    async with leading(path) as made:
        made.fault(1, "hangs")
        await made.replicate()  # half a second, then it is not waited for; the next append hangs for two
        await made.replicate()
        for _ in range(12_000):
            made.replication.push()
        assert await made.replicate() == NOW


@pytest.mark.parametrize(("error", "status"), [(IntegrityFailure("a damaged page"), 3), (ValueError("a mistake"), 1)])
def test_the_process_ends_when_sending_fails_in_a_way_that_nobody_thought_of(
    path: Path, error: Exception, status: int
) -> None:
    """Nobody waits for the trip: unseen, its end would leave every trade waiting for a follower that is never asked."""

    @in_fake_time
    async def run() -> None:
        async with leading(path) as made:

            async def fail() -> None:
                raise error

            made.outside.at["order.append.before_send"] = fail
            replicating = made.begin()
            await asyncio.sleep(1)
            assert made.outside.ended_with[0] == status
            assert not replicating.done()
            replicating.cancel()

    run()


@in_fake_time
async def test_a_follower_is_tried_again_when_an_old_entry_is_asked_for(path: Path) -> None:
    """As after a restart of the leader: the first look-up of an old key brings everybody up."""
    chain = Chain()
    chain.add(3)
    async with leading(path, chain) as made:
        for i in made.followers:
            made.fault(i, "hangs")
        first = asyncio.ensure_future(made.seconds_until(1))
        assert await first == PATIENCE
        assert await made.seconds_until(3) == NOW
        for i in made.followers:
            made.fault(i, None)
        await made.replicate()
        await until(lambda: all(follower.head == made.chain.head() for follower in made.followers.values()))


@pytest.mark.parametrize("seed", range(4))
def test_nothing_counts_as_replicated_that_a_follower_lacks_when_everything_fails_at_random(
    path: Path, seed: int
) -> None:
    @in_fake_time
    async def run() -> None:
        async with leading(path) as made:
            await _disturb(made, random.Random(seed))
            made.outside.disk.release()
            for i in made.followers:
                made.fault(i, None)
            await asyncio.sleep(3)
            await made.replicate()
            await until(lambda: all(follower.head == made.chain.head() for follower in made.followers.values()))

    run()


async def _disturb(made: Leading, rng: random.Random) -> None:
    """Trades and faults at random; the mark is checked whenever it rises."""
    risen = made.replication.replicated.rise_to
    wrong: list[int] = []

    def rise_to(position: int) -> None:
        before = made.replication.replicated.position
        risen(position)
        awaited = [link for link in made.replication._links if link.is_awaited]
        heads = [made.log.fsynced.position, *(made.followers[link.replica_id].head.position for link in awaited)]
        if made.replication.replicated.position > max(before, min(heads)):
            wrong.append(position)

    made.replication.replicated.rise_to = rise_to  # type: ignore[method-assign]
    faults: list[Fault | None] = ["hangs", "refuses", "resets", "does_then_resets", None, None, None]
    steps: list[Callable[[], object]] = [
        lambda: made.begin(rng.randint(1, 3)),
        made.begin,
        lambda: made.fault(rng.choice([1, 2]), rng.choice(faults)),
        made.outside.disk.hold,
        made.outside.disk.release,
        made.outside.disk.release,
    ]
    for _ in range(200):
        rng.choice(steps)()
        await asyncio.sleep(rng.choice([0, 0, 0.01, 0.1, 0.4]))
    assert not wrong


# Looking before it matters.


@in_fake_time
async def test_a_silent_follower_is_not_waited_for_when_it_was_looked_at_before(path: Path) -> None:
    async with leading(path) as world:
        await world.replicate()
        world.fault(1, "hangs")
        await asyncio.sleep(LOOK_EVERY_S + 0.01)
        world.replication.look()
        await asyncio.sleep(FOLLOWER_PATIENCE_S + 0.05)
        assert not world.replication.links[0].is_awaited
        assert await world.replicate() == NOW
        assert world.followers[2].head == world.log.head


@in_fake_time
async def test_a_follower_is_not_looked_at_when_it_was_heard_of_lately(path: Path) -> None:
    async with leading(path) as world:
        await world.replicate()
        asked = world.asked(1)
        world.replication.look()
        await world.settle()
        assert world.asked(1) == asked
        await asyncio.sleep(LOOK_EVERY_S + 0.01)
        world.replication.look()
        await world.settle()
        assert world.asked(1) == asked + 1
        assert world.replication.links[0].is_awaited


@in_fake_time
async def test_a_follower_that_answers_a_look_late_is_awaited_only_when_it_has_what_was_sent(path: Path) -> None:
    """It fell silent with an order under way; its answer to an empty append does not make up for that order."""
    async with leading(path) as world:
        await world.replicate()
        await asyncio.sleep(LOOK_EVERY_S + 0.01)
        world.fault(1, "hangs")
        world.replication.look()
        assert await world.replicate() == PATIENCE
        link = world.replication.links[0]
        assert (link.is_awaited, link.position) == (False, 1)
        world.fault(1, None)
        await until(lambda: link.is_awaited)
        assert link.position == 2


@in_fake_time
async def test_a_dispute_that_a_look_finds_lasts_until_the_catalog_has_confirmed_this_log(path: Path) -> None:
    async with leading(path) as world:
        await world.replicate()
        world.is_confirmed = False
        follower = world.followers[1]
        follower.instead = lambda _: follower.says("other_generation")
        await asyncio.sleep(LOOK_EVERY_S + 0.01)
        world.replication.look()
        await asyncio.sleep(2 * FOLLOWER_PATIENCE_S)
        link = world.replication.links[0]
        assert (link.is_awaited, link._is_disputed) == (True, True)
        replicating = world.begin()
        await asyncio.sleep(2 * FOLLOWER_PATIENCE_S)
        assert not replicating.done()
        world.is_confirmed = True
        await replicating
        assert not link.is_awaited
