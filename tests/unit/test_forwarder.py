"""Trades and order queries on their way to a leader that refuses, breaks off, hangs, or gives no good answer."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.common.errors import (
    BazaarError,
    KeyReused,
    NotEnoughStock,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from services.common.http import Peer, make_client
from services.common.keys import new_key
from services.common.models import Trade, TradeOutcome, TradeResult
from services.common.runtime import Runtime
from services.common.timing import ANSWER_MARGIN_S, LAST_ATTEMPT_S, LOOK_UP_S, PAUSE_MIN_S, REQUEST_S
from services.front_end.forwarder import Forwarder
from services.front_end.health import Replicas
from tests.support.fake_network import FakeNetwork, Fault
from tests.support.fake_replica import FakeLog, FakeReplica
from tests.support.fake_time import FakeClock, in_fake_time, until


def url(replica_id: int) -> str:
    return f"http://replica:{replica_id}"


class Parts:
    """A forwarder, and three replicas to forward to; replica 3 leads at first."""

    def __init__(self, max_trades: int = 1_000) -> None:
        self.network = FakeNetwork()
        self.log = FakeLog()
        self.generation = 1  # the catalog's, as this front-end has heard of it
        self.fakes = {replica_id: FakeReplica(replica_id, self.log) for replica_id in (1, 2, 3)}
        for replica_id, fake in self.fakes.items():
            self.network.serve(url(replica_id), fake.handle)
        runtime = Runtime(monotonic=FakeClock(), random=random.Random(1), transport=lambda: self.network)
        client = make_client(runtime)
        peers = {replica_id: Peer(client, url(replica_id)) for replica_id in self.fakes}
        self.replicas = Replicas("front-end-1", peers, runtime)
        self.forwarder = Forwarder(self.replicas, runtime, lambda: self.generation, max_trades=max_trades)
        self.clock = runtime.monotonic

    def fault(self, fault: Fault | None, *replica_ids: int) -> None:
        for replica_id in replica_ids:
            self.network.fault(url(replica_id), fault)

    def say(self, result: TradeResult, *replica_ids: int) -> None:
        for replica_id in replica_ids:
            self.fakes[replica_id].result = result

    def hold(self, replica_id: int) -> asyncio.Event:
        """Have a replica take batches and answer none until the event is set."""
        release = asyncio.Event()
        self.fakes[replica_id].arrived.clear()
        self.fakes[replica_id].before_trades = release.wait
        return release

    def keys(self, replica_id: int) -> list[str]:
        """The keys of all trades that reached a replica, in order."""
        return [trade.key for batch in self.fakes[replica_id].batches for trade in batch.trades]

    async def trade(self, key: str = "k", quantity: int = 1) -> TradeOutcome:
        return await self.forwarder.trade(Trade(key=key, name="GameStart", type="buy", quantity=quantity))

    def start_trade(self, key: str = "k") -> asyncio.Task[TradeOutcome]:
        return asyncio.create_task(self.trade(key))

    async def outcome_at_deadline(self) -> type[BazaarError]:
        """What a trade ends with that never gets a good answer."""
        began = self.clock()
        with pytest.raises((Unavailable, OutcomeUnknown)) as caught:
            await self.trade()
        assert REQUEST_S - LAST_ATTEMPT_S <= self.clock() - began <= REQUEST_S + 0.001
        return caught.type


@asynccontextmanager
async def forwarding(*, max_trades: int = 1_000) -> AsyncIterator[Parts]:
    parts = Parts(max_trades)
    watching = asyncio.create_task(parts.replicas.run())
    await until(lambda: parts.replicas.leader == 3)
    yield parts
    await parts.forwarder.close()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert parts.forwarder.trades_in_flight == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing is left over"


# All is well.


@in_fake_time
async def test_trade_goes_to_the_leader_alone() -> None:
    async with forwarding() as parts:
        assert await parts.trade() == TradeOutcome(result="accepted", number=1)
        assert [len(fake.batches) for fake in parts.fakes.values()] == [0, 0, 1]


@in_fake_time
async def test_trades_share_a_batch_while_two_are_under_way() -> None:
    async with forwarding() as parts:
        release = parts.hold(3)
        tasks = []
        for number in range(2):
            tasks.append(parts.start_trade(f"first-{number}"))
            await until(lambda: len(parts.fakes[3].batches) == len(tasks))
        tasks += [parts.start_trade(f"then-{number}") for number in range(5)]
        await asyncio.sleep(1.0)
        assert len(parts.fakes[3].batches) == 2
        release.set()
        outcomes = await asyncio.gather(*tasks)
        assert [len(batch.trades) for batch in parts.fakes[3].batches] == [1, 1, 5]
        assert [outcome.number for outcome in outcomes] == [1, 2, 3, 4, 5, 6, 7]


@in_fake_time
async def test_leader_is_told_the_smallest_time_left_less_a_margin() -> None:
    async with forwarding() as parts:
        release = parts.hold(3)
        tasks = [parts.start_trade("a")]
        await until(lambda: len(parts.fakes[3].batches) == 1)
        tasks.append(parts.start_trade("b"))
        await until(lambda: len(parts.fakes[3].batches) == 2)
        tasks.append(parts.start_trade("c"))
        await asyncio.sleep(2.0)
        tasks.append(parts.start_trade("d"))
        await asyncio.sleep(0.5)
        release.set()
        await asyncio.gather(*tasks)
        first, _, last = parts.fakes[3].batches
        assert first.time_left == pytest.approx(REQUEST_S - ANSWER_MARGIN_S)
        assert last.time_left == pytest.approx(REQUEST_S - ANSWER_MARGIN_S - 2.5, abs=0.01)


@in_fake_time
@pytest.mark.parametrize(
    ("result", "error"),
    [("refused", NotEnoughStock), ("other_content", KeyReused), ("unknown_stock", NotFound)],
)
async def test_final_outcomes_are_final(result: TradeResult, error: type[BazaarError]) -> None:
    async with forwarding() as parts:
        parts.say(result, 3)
        with pytest.raises(error):
            await parts.trade()
        assert parts.keys(1) == parts.keys(2) == []


# The leader fails: the client sees latency and no error.


@in_fake_time
async def test_next_replica_gets_the_same_key_at_once_when_the_leader_refuses() -> None:
    async with forwarding() as parts:
        parts.fault("refuses", 3)
        began = parts.clock()
        assert (await parts.trade("my-key")).number == 1
        assert parts.clock() - began < 0.001, "no check and no pause was waited for"
        assert parts.keys(2) == ["my-key"]
        assert parts.replicas.leader == 2


@in_fake_time
async def test_key_executes_once_when_the_answer_is_lost() -> None:
    async with forwarding() as parts:
        parts.fault("does_then_resets", 3)
        outcome = await parts.trade("my-key")
        assert outcome == TradeOutcome(result="accepted", number=1, replayed=True)
        assert parts.keys(3) == parts.keys(2) == ["my-key"]
        assert len(parts.log.orders) == 1


@in_fake_time
async def test_trade_moves_on_as_soon_as_a_leader_that_hangs_is_silent() -> None:
    async with forwarding() as parts:
        parts.fault("hangs", 3)
        began = parts.clock()
        assert (await parts.trade()).number == 1
        assert parts.clock() - began <= 0.1 + 2 * 0.15 + 0.1
        assert parts.replicas.leader == 2


@in_fake_time
async def test_trade_moves_on_when_its_leader_is_replaced_for_being_stale() -> None:
    """It answers the checks, has lost the catalog, and would hold the trade until its deadline."""
    async with forwarding() as parts:
        parts.hold(3)
        began = parts.clock()
        task = parts.start_trade()
        await parts.fakes[3].arrived.wait()
        parts.fakes[3].level = False
        parts.fakes[3].level_age = 2.0
        assert (await task).number == 1
        assert parts.clock() - began < 1.0
        assert parts.keys(2) == ["k"]


@in_fake_time
async def test_trade_moves_on_when_a_replica_that_does_not_lead_falls_silent() -> None:
    async with forwarding() as parts:
        parts.say("unavailable", 3)
        parts.hold(2)
        began = parts.clock()
        task = parts.start_trade()
        await parts.fakes[2].arrived.wait()
        parts.fault("refuses", 2)
        assert (await task).number == 1
        assert parts.clock() - began < 0.2
        assert parts.keys(1) == ["k"]


@in_fake_time
@pytest.mark.parametrize("result", ["unavailable", "unknown"])
async def test_next_replica_is_asked_when_the_leader_gives_no_good_outcome(result: TradeResult) -> None:
    async with forwarding() as parts:
        parts.say(result, 3)
        assert (await parts.trade()).number == 1
        assert (parts.keys(3), parts.keys(2), parts.keys(1)) == (["k"], ["k"], [])


@in_fake_time
@pytest.mark.parametrize("code", [500, 503, 413])
async def test_next_replica_is_asked_when_the_leader_answers_with_an_error(code: int) -> None:
    async with forwarding() as parts:
        parts.fakes[3].code = code
        assert (await parts.trade()).number == 1
        assert parts.keys(2) == ["k"]
        assert parts.replicas.leader == 3, "it answers its checks"


@in_fake_time
async def test_leader_is_asked_again_after_a_pause_when_all_were_asked() -> None:
    async with forwarding() as parts:
        parts.say("unavailable", 1, 2, 3)
        began = parts.clock()
        task = parts.start_trade()
        await until(lambda: len(parts.keys(3)) == 3)
        parts.fakes[3].result = None
        assert (await task).number == 1
        asked = [address for address, request in parts.network.requests if request.url.path == "/trades"]
        assert asked[:6] == 2 * [url(3), url(2), url(1)]
        assert parts.clock() - began > PAUSE_MIN_S


@in_fake_time
async def test_trade_waits_for_a_leader_when_there_is_none() -> None:
    async with forwarding() as parts:
        parts.fault("refuses", 1, 2, 3)
        await until(lambda: parts.replicas.leader is None)
        task = parts.start_trade()
        await asyncio.sleep(5.0)
        parts.fault(None, 1)
        assert (await task).number == 1
        assert parts.replicas.leader == 1


@in_fake_time
async def test_answer_that_does_not_fit_its_batch_is_no_answer() -> None:
    async with forwarding() as parts:
        release = parts.hold(3)
        task = parts.start_trade()
        await parts.fakes[3].arrived.wait()
        parts.log.decide(parts.fakes[3].batches[0].trades[0])
        parts.fakes[3].answers_short = True
        release.set()
        assert (await task).replayed


# The time is over.


@in_fake_time
async def test_nothing_was_executed_when_every_replica_refused() -> None:
    async with forwarding() as parts:
        parts.fault("refuses", 1, 2, 3)
        assert await parts.outcome_at_deadline() is Unavailable


@in_fake_time
async def test_nothing_was_executed_when_every_outcome_was_unavailable() -> None:
    async with forwarding() as parts:
        parts.say("unavailable", 1, 2, 3)
        assert await parts.outcome_at_deadline() is Unavailable
        least_left = min(batch.time_left for fake in parts.fakes.values() for batch in fake.batches)
        assert least_left >= LAST_ATTEMPT_S - ANSWER_MARGIN_S - 1e-9, "no attempt begins with less time"


@in_fake_time
async def test_nothing_was_executed_when_every_answer_was_503() -> None:
    async with forwarding() as parts:
        for fake in parts.fakes.values():
            fake.code = 503
        assert await parts.outcome_at_deadline() is Unavailable


@in_fake_time
async def test_outcome_is_unknown_when_one_replica_said_so_and_the_others_were_unavailable() -> None:
    async with forwarding() as parts:
        parts.say("unavailable", 2, 3)
        parts.say("unknown", 1)
        assert await parts.outcome_at_deadline() is OutcomeUnknown


@in_fake_time
@pytest.mark.parametrize("code", [500, 404, 422])
async def test_outcome_is_unknown_when_a_replica_answered_with_another_error(code: int) -> None:
    async with forwarding() as parts:
        parts.say("unavailable", 1, 2)
        parts.fakes[3].code = code
        assert await parts.outcome_at_deadline() is OutcomeUnknown


@in_fake_time
@pytest.mark.parametrize("fault", ["resets", "hangs"])
async def test_outcome_is_unknown_when_one_attempt_was_lost(fault: Fault) -> None:
    async with forwarding() as parts:
        parts.fault(fault, 3)
        parts.say("unavailable", 1, 2)
        assert await parts.outcome_at_deadline() is OutcomeUnknown


@in_fake_time
async def test_outcome_is_unknown_when_the_leader_never_answers() -> None:
    async with forwarding() as parts:
        parts.hold(3)
        assert await parts.outcome_at_deadline() is OutcomeUnknown


@in_fake_time
async def test_trades_that_were_never_sent_are_definite_when_those_before_them_were_lost() -> None:
    async with forwarding() as parts:
        parts.hold(3)
        sent = [parts.start_trade("sent-1")]
        await until(lambda: len(parts.fakes[3].batches) == 1)
        sent.append(parts.start_trade("sent-2"))
        await until(lambda: len(parts.fakes[3].batches) == 2)
        waiting = parts.start_trade("waiting")
        await asyncio.sleep(1.0)
        parts.fault("refuses", 1, 2, 3)  # the checks notice, and cut the attempts
        results = await asyncio.gather(*sent, waiting, return_exceptions=True)
        assert [type(result) for result in results] == [OutcomeUnknown, OutcomeUnknown, Unavailable]


@in_fake_time
async def test_trade_with_hardly_any_time_left_does_not_hurry_those_that_would_travel_with_it() -> None:
    async with forwarding() as parts:
        parts.hold(3)
        early = [parts.start_trade("early-1")]
        await until(lambda: len(parts.fakes[3].batches) == 1)
        early.append(parts.start_trade("early-2"))
        await until(lambda: len(parts.fakes[3].batches) == 2)
        await asyncio.sleep(0.05)
        late = parts.start_trade("late")
        await asyncio.sleep(5.0)
        fresh = parts.start_trade("fresh")
        await asyncio.sleep(4.0)
        parts.fakes[3].before_trades = None
        assert (await fresh).number == 1
        assert [trade.key for trade in parts.fakes[3].batches[2].trades] == ["fresh"]
        assert parts.fakes[3].batches[2].time_left > 4.0
        results = await asyncio.gather(*early, late, return_exceptions=True)
        assert [type(result) for result in results] == [OutcomeUnknown, OutcomeUnknown, Unavailable]


# Limits.


@in_fake_time
async def test_trade_beyond_the_limit_is_refused_and_those_within_it_are_served() -> None:
    async with forwarding(max_trades=2) as parts:
        release = parts.hold(3)
        tasks = [parts.start_trade("a"), parts.start_trade("b")]
        await parts.fakes[3].arrived.wait()
        with pytest.raises(Unavailable):
            await parts.trade("c")
        release.set()
        await asyncio.gather(*tasks)
        assert (await parts.trade("c")).number == 3


@in_fake_time
async def test_nothing_is_left_over_when_the_caller_goes_away() -> None:
    async with forwarding() as parts:
        parts.hold(3)
        task = parts.start_trade()
        await parts.fakes[3].arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# Order queries.


@in_fake_time
async def test_order_is_read_from_the_leader() -> None:
    async with forwarding() as parts:
        await parts.trade()
        assert (await parts.forwarder.order(1)).number == 1
        with pytest.raises(NotFound):
            await parts.forwarder.order(2)
        assert (parts.fakes[3].queries, parts.fakes[2].queries) == (["/orders/1", "/orders/2"], [])


@in_fake_time
@pytest.mark.parametrize("fault", ["refuses", "resets", "hangs"])
async def test_order_is_read_from_the_next_replica_when_the_leader_fails(fault: Fault) -> None:
    async with forwarding() as parts:
        await parts.trade()
        parts.fault(fault, 3)
        assert (await parts.forwarder.order(1)).number == 1
        assert (await parts.forwarder.orders(0, 10)).orders[0].number == 1
        assert parts.fakes[2].queries == ["/orders/1", "/orders?after=0&limit=10"]


@in_fake_time
async def test_order_is_read_from_the_next_replica_when_the_leader_cannot_say() -> None:
    async with forwarding() as parts:
        await parts.trade()
        parts.fakes[3].code = 503
        assert (await parts.forwarder.order(1)).number == 1


@in_fake_time
async def test_order_is_not_read_from_a_log_that_was_left_out_of_a_rebuild() -> None:
    async with forwarding() as parts:
        await parts.trade()
        parts.generation = 2
        parts.fakes[1].generation = parts.fakes[2].generation = 2
        assert (await parts.forwarder.order(1)).number == 1
        assert (await parts.forwarder.orders(0, 10)).orders[0].number == 1
        assert parts.fakes[2].queries == ["/orders/1", "/orders?after=0&limit=10"]

        parts.generation = 3
        with pytest.raises(Unavailable):
            await parts.forwarder.order(1)


@in_fake_time
async def test_order_query_is_given_up_when_nobody_answers_in_time() -> None:
    async with forwarding() as parts:
        faults: list[Fault] = ["refuses", "hangs"]
        for fault in faults:
            parts.fault(fault, 1, 2, 3)
            began = parts.clock()
            with pytest.raises(Unavailable):
                await parts.forwarder.order(1)
            assert parts.clock() - began <= LOOK_UP_S + 0.001


# Keys.


def test_keys_made_here_are_uuids_in_time_order() -> None:
    source = random.Random(3)
    keys = [new_key(1_760_000_000_000 + later, source) for later in range(100)]
    assert keys == sorted(keys)
    assert len(set(keys)) == 100
    for key in keys:
        assert uuid.UUID(key).version == 7
        assert uuid.UUID(key).variant == uuid.RFC_4122
    assert uuid.UUID(keys[0]).int >> 80 == 1_760_000_000_000
