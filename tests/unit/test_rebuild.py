"""How a catalog without a database gets its state: from all replicas, always."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import httpx
import pytest
from pydantic import BaseModel

from services.catalog.inventory import Inventory, fold
from services.catalog.rebuild import Rebuild
from services.common.digest import empty_head, entry_digest
from services.common.errors import IntegrityFailure
from services.common.http import Peer, make_client
from services.common.models import AdoptAnswer, EntriesAnswer, Entry, GenerationAnswer, Head, Stock
from services.common.runtime import Runtime
from services.common.timing import REBUILD_AGAIN_S, REPLICA_CALL_S
from tests.support.catalog_entries import STOCKS, buy, chain, head_of, request, sell
from tests.support.catalog_replica import LogReplica
from tests.support.catalog_world import Gate, Points, in_catalog_time, turns
from tests.support.fake_network import FakeNetwork, answer, failure
from tests.support.fake_time import FakeClock
from tests.support.patience import PATIENCE_S

LOG = chain([sell(f"k{i}") for i in range(1, 8)])
OTHER_STOCKS = [Stock(name="GameStart", price=1, quantity=1)]


NOW_MS = 1_790_000_000_000


class Bench:
    """A rebuild of these replicas; `initial` counts how often the stocks file was read."""

    def __init__(self, *replicas: LogReplica, stocks: Sequence[Stock] = STOCKS, lost: Sequence[int] = ()) -> None:
        self.clock = FakeClock()
        self.network = FakeNetwork()
        self.points = Points()
        self.file_reads = 0
        self.replicas = {replica.id: replica for replica in replicas}
        for replica in replicas:
            self.network.serve(replica.url, replica.handle)
        runtime = Runtime(
            monotonic=self.clock,
            wall_ms=lambda: NOW_MS,
            random=random.Random(7),
            transport=lambda: self.network,
            point=self.points,
        )
        client = make_client(runtime)
        self._stocks = list(stocks)
        peers = {i: Peer(client, replica.url) for i, replica in self.replicas.items() if i not in lost}
        self.rebuild = Rebuild(runtime, peers, self._initial, self._claim, without_some=bool(lost))

    async def run(self) -> Inventory:
        return await self.rebuild.run()

    def _initial(self) -> list[Stock]:
        self.file_reads += 1
        return self._stocks

    async def _claim(self, least: int) -> int:
        return least


def three(*lengths: int, generation: int = 4) -> list[LogReplica]:
    return [LogReplica(i, generation, LOG[:length]) for i, length in enumerate(lengths, start=1)]


# What comes out.


@in_catalog_time
async def test_a_new_bazaar_begins_with_generation_1_and_the_file() -> None:
    bench = Bench(LogReplica(1), LogReplica(2), LogReplica(3))
    inventory = await bench.run()
    assert inventory.generation == 1
    assert inventory.initial == STOCKS
    assert inventory.head == inventory.base == empty_head(STOCKS)
    assert list(inventory.stocks.values()) == STOCKS
    for replica in bench.replicas.values():
        assert (replica.generation, replica.initial) == (1, STOCKS)


@in_catalog_time
async def test_the_longest_log_is_taken_and_folded_over_the_initial_stocks() -> None:
    bench = Bench(*three(3, 7, 5))
    inventory = await bench.run()
    assert inventory.generation == 5
    assert inventory.head == head_of(LOG)
    assert inventory.stocks == fold(STOCKS, LOG)
    assert inventory.stocks["GameStart"].quantity == 107
    assert inventory.base == head_of(LOG[:3]), "what every replica has is not kept"
    assert inventory.after(3) == LOG[3:]


@in_catalog_time
async def test_refused_entries_change_nothing_and_numbers_go_on() -> None:
    log = chain([buy("a", 60), buy("b", 60), buy("c", 40)], refused=frozenset("b"))
    bench = Bench(LogReplica(1, 1, log), LogReplica(2, 1, log[:1]))
    inventory = await bench.run()
    assert inventory.head == Head(position=3, number=2, digest=log[2].digest)
    assert inventory.stocks["GameStart"].quantity == 0
    (entry,) = inventory.plan(request(sell("d"), head=inventory.head, generation=2), 0).entries
    assert (entry.position, entry.number) == (4, 3)


@in_catalog_time
async def test_an_empty_log_beside_a_full_one_is_a_prefix() -> None:
    """A replica that lost its disk: it has no generation either."""
    bench = Bench(LogReplica(1, 4, LOG), LogReplica(2), LogReplica(3, 4, LOG))
    inventory = await bench.run()
    assert inventory.generation == 5
    assert inventory.head == head_of(LOG)
    assert inventory.base == empty_head(STOCKS), "nothing is forgotten before it has it again"
    assert bench.replicas[2].initial == STOCKS


@in_catalog_time
async def test_the_only_log_left_is_enough_whichever_replica_has_it() -> None:
    for keeper in (1, 2, 3):
        bench = Bench(*(LogReplica(i, 4, LOG) if i == keeper else LogReplica(i) for i in (1, 2, 3)))
        assert (await bench.run()).head == head_of(LOG)


@in_catalog_time
async def test_nothing_is_kept_in_memory_when_all_logs_are_equally_long() -> None:
    inventory = await Bench(*three(7, 7, 7)).run()
    assert inventory.base == inventory.head == head_of(LOG)
    assert inventory.after(7) == []


@pytest.mark.parametrize("page", [1, 3, 1_000])
@in_catalog_time
async def test_a_long_log_is_read_page_by_page(page: int) -> None:
    replicas = three(7, 2)
    replicas[0].page = page
    inventory = await Bench(*replicas).run()
    assert inventory.head == head_of(LOG)
    assert replicas[0].asked.count("/entries") == -(-7 // page)
    assert "/entries" not in replicas[1].asked


@in_catalog_time
async def test_a_log_of_more_than_one_message_is_copied_whole() -> None:
    log = chain([sell(f"k{i}") for i in range(2_001)])
    inventory = await Bench(LogReplica(1, 1, log), LogReplica(2, 1, log[:1_500])).run()
    assert inventory.head == head_of(log)
    assert inventory.base == head_of(log[:1_500])


# The generation.


@in_catalog_time
async def test_generation_is_above_the_highest_of_all() -> None:
    bench = Bench(LogReplica(1, 2, LOG), LogReplica(2, 9, LOG), LogReplica(3))
    assert (await bench.run()).generation == 10
    assert {replica.generation for replica in bench.replicas.values()} == {10}


@in_catalog_time
async def test_nothing_of_an_older_generation_is_taken_afterwards() -> None:
    """H4: an answer, or a question, that was under way when the disk was lost."""
    bench = Bench(*three(7, 7))
    inventory = await bench.run()
    answered = inventory.examine(request(buy("late"), head=head_of(LOG), generation=4))
    assert answered is not None
    assert (answered.outcome, answered.generation) == ("other_generation", 5)
    assert inventory.examine(request(buy("now"), head=head_of(LOG), generation=5)) is None


@in_catalog_time
async def test_entries_are_copied_only_after_every_replica_has_adopted() -> None:
    """H4: else one could still take an old decision after its log was read."""
    replicas = three(7, 5)
    gate = replicas[1].before["/adopt"] = Gate()
    bench = Bench(*replicas)
    running = asyncio.create_task(bench.run())
    await gate.reached.wait()
    await turns()
    assert "/entries" not in replicas[0].asked
    replicas[1].entries = LOG[:6]  # an old decision arrives just before it adopts
    gate.open()
    assert (await running).base == head_of(LOG[:6])


@in_catalog_time
async def test_a_higher_generation_is_chosen_when_a_replica_has_adopted_one_in_between() -> None:
    replicas = three(7, 7, 3)
    bench = Bench(*replicas)
    steps = iter([6])

    async def another_catalog() -> None:
        for generation in steps:
            replicas[1].generation = generation

    bench.points.hooks["catalog.rebuild.generations_known"] = another_catalog
    inventory = await bench.run()
    assert inventory.generation == 7
    assert {replica.generation for replica in replicas} == {7}
    assert [message.generation for message in replicas[0].adoptions] == [5, 7]


@in_catalog_time
async def test_the_same_generation_is_adopted_again_when_the_first_answer_was_lost() -> None:
    bench = Bench(*three(7, 7))
    bench.network.fault(bench.replicas[1].url, "does_then_resets")
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(0.55)
    bench.network.fault(bench.replicas[1].url, None)
    inventory = await running
    assert inventory.generation == bench.replicas[1].generation == bench.replicas[2].generation == 5


@in_catalog_time
async def test_a_later_rebuild_goes_above_when_the_one_before_was_killed_in_the_middle() -> None:
    replicas = three(7, 7, 3)
    bench = Bench(*replicas)
    gate = bench.points.hooks["catalog.rebuild.adopted"] = Gate()
    running = asyncio.create_task(bench.run())
    await gate.reached.wait()
    running.cancel()
    await asyncio.wait([running])
    inventory = await Bench(*replicas).run()
    assert inventory.generation == 6
    assert inventory.head == head_of(LOG)


# All of them, always.


@pytest.mark.parametrize("fault", ["refuses", "resets", "hangs"])
@in_catalog_time
async def test_it_waits_for_the_last_replica_however_long_and_names_it(fault: str) -> None:
    """H5: that one may have the entry that was acknowledged last."""
    bench = Bench(*three(3, 5, 7))
    bench.network.fault(bench.replicas[3].url, fault)  # type: ignore[arg-type]
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(20.0)
    assert not running.done()
    assert bench.rebuild.waiting_for == {3}
    assert all("/adopt" not in replica.asked for replica in bench.replicas.values())
    bench.network.fault(bench.replicas[3].url, None)
    began = bench.clock()
    inventory = await running
    assert inventory.head == head_of(LOG)
    assert bench.clock() - began <= REPLICA_CALL_S + 2 * REBUILD_AGAIN_S
    assert bench.rebuild.waiting_for == set()


@pytest.mark.parametrize("path", ["/generation", "/adopt", "/entries"])
@in_catalog_time
async def test_a_call_is_tried_again_when_it_fails_at_any_step(path: str) -> None:
    replicas = three(7, 5)
    failures = iter(range(3))

    async def fail_three_times() -> None:
        for _ in failures:
            raise httpx.ReadError("reset")

    for replica in replicas:
        replica.before[path] = fail_three_times
    assert (await Bench(*replicas).run()).head == head_of(LOG)


@in_catalog_time
async def test_the_replica_is_named_when_it_goes_while_its_log_is_copied() -> None:
    bench = Bench(*three(7, 5))

    async def go() -> None:
        bench.network.fault(bench.replicas[1].url, "refuses")

    bench.points.hooks["catalog.rebuild.adopted"] = go
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(5.0)
    assert bench.rebuild.waiting_for == {1}
    bench.network.fault(bench.replicas[1].url, None)
    inventory = await running
    assert (inventory.generation, inventory.head) == (5, head_of(LOG)), "it goes on where it was"


@in_catalog_time
async def test_nothing_is_made_up_when_every_replica_was_declared_lost() -> None:
    bench = Bench(*three(7, 5), lost=[1, 2])
    assert "every replica was declared lost" in await refusal(bench)
    assert bench.file_reads == 0


@pytest.mark.parametrize("path", ["/generation", "/adopt"])
@in_catalog_time
async def test_a_replica_that_answers_errors_is_waited_for_and_named(path: str) -> None:
    bench = Bench(*three(7, 5))
    honest, is_broken = bench.replicas[2].handle, True

    async def handle(message: httpx.Request) -> httpx.Response:
        return failure(500) if is_broken and message.url.path == path else await honest(message)

    bench.network.serve(bench.replicas[2].url, handle)
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(5.0)
    assert bench.rebuild.waiting_for == {2}
    is_broken = False
    assert (await running).head == head_of(LOG)


@in_catalog_time
async def test_nobody_is_left_out_when_a_new_bazaar_has_a_replica_that_is_late() -> None:
    bench = Bench(LogReplica(1), LogReplica(2, 8, LOG))
    bench.network.fault(bench.replicas[2].url, "refuses")
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(10.0)
    assert bench.file_reads == 0, "it is not known yet whether this bazaar is new"
    bench.network.fault(bench.replicas[2].url, None)
    assert (await running).head == head_of(LOG)


@in_catalog_time
async def test_a_lost_replica_is_not_asked() -> None:
    replicas = three(3, 5, 7)
    bench = Bench(*replicas, lost=[3])
    inventory = await bench.run()
    assert replicas[2].asked == []
    assert inventory.head == head_of(LOG[:5]), "what only the lost one had is lost"
    assert inventory.generation == NOW_MS, "an unfinished rebuild may have given it 5"


@in_catalog_time
async def test_the_generation_still_grows_when_the_clock_was_set_back_and_a_replica_is_lost() -> None:
    bench = Bench(*three(3, 5, 7, generation=NOW_MS + 8), lost=[3])
    assert (await bench.run()).generation == NOW_MS + 9


# Contradictions.


async def refusal(bench: Bench) -> str:
    with pytest.raises(IntegrityFailure) as refused:
        await bench.run()
    return str(refused.value)


def branch(at: int, count: int = 9) -> list[Entry]:
    """A log that is like the others up to a position, and goes its own way from there."""
    trades = [sell(f"k{i}") if i <= at else sell(f"x{i}") for i in range(1, count + 1)]
    return chain(trades)


@in_catalog_time
async def test_the_replicas_are_named_when_their_logs_are_no_prefix() -> None:
    """H21: one that was declared lost comes back with the longest log."""
    bench = Bench(LogReplica(1, 4, LOG), LogReplica(2, 4, branch(at=4)), LogReplica(3, 4, LOG[:6]))
    said = await refusal(bench)
    assert said.startswith("order-1, order-3: the log there is no prefix of that of order-2")


@pytest.mark.parametrize("length", [5, 6, 7])
@in_catalog_time
async def test_only_the_one_that_branches_off_is_named_when_it_is_not_the_longest(length: int) -> None:
    bench = Bench(LogReplica(1, 4, LOG), LogReplica(2, 4, branch(at=4, count=length)), LogReplica(3, 4, LOG[:4]))
    assert (await refusal(bench)).startswith("order-2: the log there is no prefix of that of order-1")


@in_catalog_time
async def test_a_branch_is_told_when_only_the_last_entry_differs_and_all_are_equally_long() -> None:
    bench = Bench(LogReplica(1, 4, LOG), LogReplica(2, 4, LOG), LogReplica(3, 4, branch(at=6, count=7)))
    assert (await refusal(bench)).startswith("order-3: ")


@in_catalog_time
async def test_the_replica_and_position_are_named_when_the_longest_log_is_broken() -> None:
    for position in (1, 4, 7):
        broken = list(LOG)
        broken[position - 1] = broken[position - 1].model_copy(update={"quantity": 2})
        bench = Bench(LogReplica(1, 4, LOG[:2]), LogReplica(2, 4, broken))
        assert await refusal(bench) == f"the log of order-2 is broken at position {position}"


@in_catalog_time
async def test_a_gap_in_the_longest_log_is_told() -> None:
    bench = Bench(LogReplica(1, 4, LOG[:3] + LOG[4:]), LogReplica(2, 4, LOG[:2]))
    assert "order-1 is broken at position 5" in await refusal(bench)


@in_catalog_time
async def test_the_replicas_are_named_when_they_began_with_other_stocks() -> None:
    other = chain([sell("a")], OTHER_STOCKS)
    bench = Bench(LogReplica(1, 4, LOG), LogReplica(2, 3, other, OTHER_STOCKS), LogReplica(3, 4))
    assert (await refusal(bench)).startswith("order-2: the log there began with other initial stocks")
    assert bench.replicas[2].entries == other, "nothing is repaired"


@in_catalog_time
async def test_an_empty_log_with_other_stocks_takes_those_of_the_others() -> None:
    bench = Bench(LogReplica(1, 4, LOG), LogReplica(2, 3, [], OTHER_STOCKS))
    assert (await bench.run()).head == head_of(LOG)
    assert bench.replicas[2].initial == STOCKS


@in_catalog_time
async def test_a_log_is_refused_when_its_trades_cannot_have_been_decided_on_its_stocks() -> None:
    log = chain([buy("a", 101)])
    assert "trades more of GameStart than there was" in await refusal(Bench(LogReplica(1, 4, log)))


@in_catalog_time
async def test_a_log_is_refused_when_it_trades_an_unknown_stock() -> None:
    log = chain([buy("a", name="Unknown")])
    assert "does not exist" in await refusal(Bench(LogReplica(1, 4, log)))


@in_catalog_time
async def test_a_log_is_refused_when_a_key_stands_twice_in_what_is_kept() -> None:
    head, log = empty_head(STOCKS), []
    for position in (1, 2):
        draft = LOG[0].model_copy(update={"position": position, "number": position})
        entry = draft.model_copy(update={"digest": entry_digest(head.digest, draft)})
        log.append(entry)
        head = head_of(log)
    with pytest.raises((IntegrityFailure, AssertionError)):
        await Bench(LogReplica(1, 4, log), LogReplica(2)).run()


# The initial stocks.


@in_catalog_time
async def test_stocks_come_from_the_replicas_when_the_file_was_edited() -> None:
    """H17."""
    bench = Bench(*three(7, 5), stocks=OTHER_STOCKS)
    inventory = await bench.run()
    assert inventory.initial == STOCKS
    assert bench.file_reads == 0
    assert all(message.stocks == STOCKS for replica in bench.replicas.values() for message in replica.adoptions)


@in_catalog_time
async def test_stocks_come_from_the_replicas_when_there_is_a_generation_but_no_entry() -> None:
    bench = Bench(LogReplica(1, 1), LogReplica(2), stocks=OTHER_STOCKS)
    assert (await bench.run()).initial == STOCKS
    assert bench.file_reads == 0


@in_catalog_time
async def test_stocks_come_from_the_replica_with_the_highest_generation() -> None:
    bench = Bench(LogReplica(1, 2, [], OTHER_STOCKS), LogReplica(2, 3, LOG), LogReplica(3, 1, [], OTHER_STOCKS))
    assert (await bench.run()).initial == STOCKS


@in_catalog_time
async def test_the_error_of_the_file_comes_through_when_a_new_bazaar_cannot_read_it() -> None:
    bench = Bench(LogReplica(1), LogReplica(2))

    def unreadable() -> list[Stock]:
        raise IntegrityFailure("mine.csv:2: this name stands twice")

    bench.rebuild._initial = unreadable
    assert "mine.csv:2" in await refusal(bench)
    assert all(replica.generation is None for replica in bench.replicas.values())


# A replica that is not as it was.


Change = Callable[[LogReplica], Awaitable[None]]


async def _wiped(replica: LogReplica) -> None:
    replica.wipe()


async def _wiped_and_adopted_by_another(replica: LogReplica) -> None:
    replica.entries, replica.generation = [], 9


async def _shorter(replica: LogReplica) -> None:
    replica.entries = replica.entries[:3]


@pytest.mark.parametrize("change", [_wiped, _wiped_and_adopted_by_another, _shorter])
@in_catalog_time
async def test_it_starts_over_when_the_longest_log_is_gone_before_it_was_copied(change: Change) -> None:
    replicas = three(7, 5)
    bench = Bench(*replicas)
    happened = iter([1])

    async def lose() -> None:
        for _ in happened:
            await change(replicas[0])

    bench.points.hooks["catalog.rebuild.adopted"] = lose
    async with asyncio.timeout(PATIENCE_S):
        inventory = await bench.run()
    assert inventory.head == head_of(LOG[:5])


class Liar:
    """A replica that answers its script, in order, and the last line for ever."""

    def __init__(self, *script: BaseModel) -> None:
        self.script = list(script)

    async def handle(self, _: httpx.Request) -> httpx.Response:
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return answer(said)


@in_catalog_time
async def test_it_waits_when_a_replica_answers_nonsense() -> None:
    bench = Bench(*three(7, 5))
    bench.network.serve(bench.replicas[2].url, Liar(Head(position=1, number=1, digest="d")).handle)
    running = asyncio.create_task(bench.run())
    await asyncio.sleep(5.0)
    assert bench.rebuild.waiting_for == {2}
    running.cancel()
    await asyncio.wait([running])


@in_catalog_time
async def test_a_head_that_its_own_entries_do_not_reach_is_no_endless_loop() -> None:
    head = head_of(LOG)
    liar = Liar(
        GenerationAnswer(generation=4, stocks=STOCKS),
        AdoptAnswer(generation=5, outcome="adopted", head=head),
        EntriesAnswer(generation=5, head=head, entries=[]),
        GenerationAnswer(generation=5, stocks=STOCKS),
        AdoptAnswer(generation=6, outcome="adopted", head=head_of(LOG[:0])),
        EntriesAnswer(generation=6, head=head_of(LOG[:0]), entries=[]),
    )
    bench = Bench(LogReplica(1, 4, LOG[:5]), LogReplica(2))
    bench.network.serve(bench.replicas[2].url, liar.handle)
    async with asyncio.timeout(PATIENCE_S):
        assert (await bench.run()).head == head_of(LOG[:5])
