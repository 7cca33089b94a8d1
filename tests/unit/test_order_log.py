"""The order log: only ever appended to, by what continues it; the disk before anything is promised."""

import asyncio
import gc
import random
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

import services.order.log as log_module
from services.common.background import background
from services.common.database import DiskFull
from services.common.digest import empty_head, entry_digest
from services.common.errors import IntegrityFailure
from services.common.models import MAX_ENTRIES, MAX_NUMBER, Entry, Stock
from services.order.log import RECENT, Contradiction, OrderLog, OtherGeneration
from services.order.store import LogStore
from tests.support.fake_time import in_fake_time
from tests.support.order_chain import STOCKS, Chain
from tests.support.order_disk import failing_files
from tests.support.order_world import Outside, open_log

OTHER_STOCKS = [Stock(name="GameStart", price=1_599, quantity=99)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "order-1.db"


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# Taking.


@in_fake_time
async def test_entries_are_on_the_disk_when_they_were_taken(path: Path) -> None:
    chain, heard = Chain(), list[Entry]()
    async with open_log(Outside(), path) as log:
        log.on_taken = heard.append
        assert log.take(1, chain.add(3)) == chain.entries
        assert log.head == chain.head()
        await log.fsynced.reach(3)
        assert log.fsynced_head == chain.head()
        assert log.after(0, 10) == chain.entries
    assert heard == chain.entries
    async with open_log(Outside(), path) as log:
        assert (log.head, log.fsynced_head, log.fsynced.position) == (chain.head(), chain.head(), 3)
        log.take(1, chain.add(2))
        await log.fsynced.reach(5)


@in_fake_time
async def test_only_the_new_ones_are_taken_when_an_equal_part_is_known(path: Path) -> None:
    chain, heard = Chain(), list[Entry]()
    chain.add(6)
    outside = Outside()
    async with open_log(outside, path) as log:
        log.on_taken = heard.append
        assert log.take(1, chain.after(0, 4)) == chain.after(0, 4)
        for begin, end in ((0, 4), (2, 4), (3, 3), (0, 1)):
            assert log.take(1, chain.after(begin, end)) == []
        await log.fsynced.reach(4)
        assert log.take(1, []) == []
        assert log.take(1, chain.after(1, 5)) == chain.after(4, 5)
        assert log.take(1, chain.after(0)) == chain.after(5)
        await log.fsynced.reach(6)
    assert heard == chain.entries


def _renumbered(entry: Entry, before: str, **changes: object) -> Entry:
    """`entry` with something changed, and a digest that fits."""
    changed = entry.model_copy(update=changes)
    return changed.model_copy(update={"digest": entry_digest(before, changed)})


@pytest.mark.parametrize("saved", [True, False], ids=["on disk", "in memory"])
@pytest.mark.parametrize(
    "wrong",
    [
        lambda chain: [chain.entries[4]],  # a gap
        lambda chain: [chain.entries[4], chain.entries[3]],
        lambda chain: [chain.entries[3].model_copy(update={"digest": "0" * 64})],
        lambda chain: [chain.entries[3].model_copy(update={"quantity": 2})],
        lambda chain: [chain.entries[3].model_copy(update={"key": "another"})],
        lambda chain: [chain.entries[3].model_copy(update={"number": None})],
        lambda chain: [_renumbered(chain.entries[3], chain.head(3).digest, number=5)],
        lambda chain: [_renumbered(chain.entries[3], chain.head(3).digest, number=3)],
        lambda chain: [_renumbered(chain.entries[3], chain.head(2).digest)],
        lambda chain: [_renumbered(chain.entries[3], chain.head(3).digest, position=5)],
        lambda chain: [_renumbered(chain.entries[2], chain.head(3).digest)],
        lambda chain: [_renumbered(chain.entries[2], chain.head(2).digest, quantity=2)],
        lambda chain: chain.fork(1).add(5, quantity=7),
        lambda chain: chain.fork(2).add(1, quantity=7),
        lambda chain: [chain.entries[0].model_copy(update={"position": -1})],
        lambda chain: [chain.entries[0].model_copy(update={"position": 0})],
    ],
)
def test_nothing_is_taken_when_what_is_sent_does_not_fit(
    path: Path, saved: bool, wrong: Callable[[Chain], list[Entry]]
) -> None:
    @in_fake_time
    async def run() -> None:
        chain, outside = Chain(), Outside()
        chain.add(5)
        async with open_log(outside, path) as log:
            log.take(1, chain.after(0, 3))
            if saved:
                await log.fsynced.reach(3)
            with pytest.raises(Contradiction):
                log.take(1, wrong(chain))
            assert log.head == chain.head(3)
            log.take(1, chain.entries)
            await log.fsynced.reach(5)
            assert log.after(0, 10) == chain.entries
        assert outside.ended_with == []

    run()


@in_fake_time
async def test_what_fits_is_saved_when_what_comes_after_it_does_not(path: Path) -> None:
    chain, heard = Chain(), list[Entry]()
    chain.add(3)
    async with open_log(Outside(), path) as log:
        log.on_taken = heard.append
        with pytest.raises(Contradiction):
            log.take(1, [*chain.after(0, 2), chain.entries[2].model_copy(update={"quantity": 9})])
        assert heard == chain.after(0, 2)
        await log.fsynced.reach(2)
        assert log.fsynced_head == chain.head(2)


@pytest.mark.parametrize("generation", [0, 1, 3])
@pytest.mark.parametrize("has_entries", [True, False])
def test_nothing_is_taken_when_the_generation_is_another(path: Path, generation: int, has_entries: bool) -> None:
    @in_fake_time
    async def run() -> None:
        chain = Chain()
        chain.add(2)
        async with open_log(Outside(), path, generation=2) as log:
            with pytest.raises(OtherGeneration):
                log.take(generation, chain.entries if has_entries else [])
            assert log.head == chain.head(0)

    run()


@in_fake_time
async def test_nothing_is_taken_when_there_is_no_generation_yet(path: Path) -> None:
    async with open_log(Outside(), path, generation=None) as log:
        for generation in (0, 1):
            with pytest.raises(OtherGeneration):
                log.take(generation, Chain([]).add())
        assert log.head == empty_head([])


@in_fake_time
async def test_every_way_of_cutting_gives_one_log_when_pieces_come_in_any_order(tmp_path: Path) -> None:
    """Pieces, overlaps, gaps and falsifications at random: the log stays a prefix, and gets to the end."""
    chain = Chain()
    for _ in range(20):
        chain.add(2)
        chain.add(accepted=False)
    other = chain.fork(10)
    other.add(30, quantity=3)
    for seed in range(6):
        rng, heard = random.Random(seed), list[Entry]()
        outside = Outside()
        async with open_log(outside, tmp_path / f"order-{seed}.db") as log:
            log.on_taken = heard.append
            while log.head.position < 60:
                before = log.head.position
                begin = rng.randint(0, min(59, before + 2))
                source = other if before > 10 and rng.random() < 0.2 else chain
                piece = source.after(begin, begin + rng.randint(0, 6))
                known = [entry for entry in piece if entry.position <= before]
                agrees = all(entry == chain.entries[entry.position - 1] for entry in piece)
                try:
                    taken = log.take(1, piece)
                except Contradiction:
                    assert not agrees or begin > before, f"seed {seed}"
                else:
                    assert taken == piece[len(known) :], f"seed {seed}"
                assert heard == chain.after(0, log.head.position), f"seed {seed}"
                if rng.random() < 0.3:
                    await log.fsynced.reach(rng.randint(0, log.head.position))
                if rng.random() < 0.1:
                    outside.disk.hold()
                elif rng.random() < 0.5:
                    outside.disk.release()
                if outside.disk._free.is_set():
                    await asyncio.sleep(0)
                else:
                    outside.disk.release()
            await log.fsynced.reach(60)
            assert log.after(0, 100) == chain.entries


# The disk comes first.


@in_fake_time
async def test_unsaved_entries_are_not_handed_out_when_the_disk_is_slow(path: Path) -> None:
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        log.take(1, chain.add(2))
        await log.fsynced.reach(2)
        outside.disk.hold()
        log.take(1, chain.add(2))
        await _settle()
        assert log.fsynced_head == chain.head(2)
        assert log.after(0, 10) == chain.after(0, 2)
        assert [order.number for order in log.orders(0, 10)] == [1, 2]
        assert log.order(3) is None
        # To itself it knows them: their keys, their digests, and what it sends on.
        assert log.find(["key-3"]) == {"key-3": chain.entries[2]}
        assert log.head_of(3) == chain.head(3).digest
        assert log.taken_after(1) == chain.after(1)
        waiter = asyncio.ensure_future(log.fsynced.reach(3))
        await _settle()
        assert not waiter.done()
        outside.disk.release()
        await waiter
        assert log.after(0, 10) == chain.entries


@in_fake_time
async def test_a_row_that_is_written_is_not_handed_out_when_its_fsync_has_not_returned(path: Path) -> None:
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        seen: list[tuple[list[Entry], int]] = []

        async def look() -> None:
            assert log._store.last() == chain.head()  # another connection sees the row already
            seen.append((log.after(0, 10), len(log.orders(0, 10))))
            assert log.order(1) is None

        outside.at["order.log.after_fsync"] = look
        log.take(1, chain.add(2))
        await log.fsynced.reach(2)
        assert seen == [([], 0)]


@in_fake_time
async def test_one_fsync_serves_all_when_many_were_taken_while_the_disk_was_busy(path: Path) -> None:
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        outside.disk.hold()
        log.take(1, chain.add())
        await _settle()
        for _ in range(50):
            log.take(1, chain.add())
        outside.disk.release()
        await log.fsynced.reach(51)
        assert outside.disk.done == 2


@in_fake_time
async def test_the_saved_head_is_what_was_saved_when_more_was_taken_during_the_fsync(path: Path) -> None:
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        log.on_fsynced = outside.disk.hold
        outside.disk.hold()
        log.take(1, chain.add(2))
        await _settle()
        log.take(1, chain.add(3))
        outside.disk.release()
        await log.fsynced.reach(2)
        assert (log.fsynced.position, log.fsynced_head) == (2, chain.head(2))
        assert log.after(0, 10) == chain.after(0, 2)
        log.on_fsynced = lambda: None
        outside.disk.release()
        await log.fsynced.reach(5)


@in_fake_time
async def test_whoever_listens_hears_of_each_fsync_when_it_is_done(path: Path) -> None:
    chain, heard = Chain(), list[int]()
    async with open_log(Outside(), path) as log:
        log.on_fsynced = lambda: heard.append(log.fsynced.position)
        for _ in range(3):
            log.take(1, chain.add(2))
            await log.fsynced.reach(chain.head().position)
    assert heard == [2, 4, 6]


@in_fake_time
async def test_everything_is_saved_when_the_log_closes(path: Path) -> None:
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        log.take(1, chain.add(3))
    assert outside.disk.is_closed
    async with open_log(Outside(), path) as log:
        assert log.head == chain.head()


@in_fake_time
async def test_nothing_is_written_twice_when_the_log_closes_during_an_fsync(path: Path) -> None:
    """The background work is cancelled, but the disk finishes what it began."""
    chain, outside = Chain(), Outside()
    store = LogStore(path)
    store.adopt(1, STOCKS)
    log = OrderLog(outside.runtime, store)
    outside.disk.hold()
    async with background(outside.runtime, log.run()):
        log.take(1, chain.add(3))
        await _settle()
        assert outside.disk.begun == 1
        log.take(1, chain.add(2))
    closing = asyncio.ensure_future(log.close())
    await _settle()
    outside.disk.release()
    await closing
    assert outside.ended_with == []
    async with open_log(Outside(), path) as log:
        assert log.after(0, 10) == chain.entries


@in_fake_time
async def test_queries_find_what_is_on_the_disk_when_numbers_are_odd(path: Path) -> None:
    chain = Chain()
    chain.add(2)
    async with open_log(Outside(), path, chain) as log:
        for number in (0, -1, 3, MAX_NUMBER, MAX_NUMBER + 1, -MAX_NUMBER - 2, 10**30, -(10**30)):
            assert log.order(number) is None
        assert log.orders(MAX_NUMBER, 10) == []
        assert log.after(MAX_NUMBER, 10) == []
        assert log.head_of(MAX_NUMBER + 1) is None
        assert log.head_of(-1) is None
        assert log.head_of(0) == empty_head(STOCKS).digest


# Memory.


async def _filled(log: OrderLog, chain: Chain, step: int) -> None:
    """Everything of `chain` taken and saved, `step` entries at a time."""
    while log.head.position < len(chain.entries):
        log.take(1, chain.after(log.head.position, log.head.position + step))
        await log.fsynced.reach(log.head.position)


def _check_everywhere(log: OrderLog, chain: Chain, positions: "range | list[int]", most: int) -> None:
    """What is sent on after each of these positions: the next ones without a gap, at most `most`, and some."""
    head = log.head.position
    for position in positions:
        sent = log.taken_after(position)
        assert sent == chain.after(position, position + len(sent)), position
        assert len(sent) <= most, position
        assert bool(sent) == (position < head), position
        if position <= head:
            assert log.head_of(position) == chain.head(position).digest, position


@in_fake_time
async def test_memory_is_bounded_and_nothing_is_missing_when_the_log_is_larger_than_the_window(path: Path) -> None:
    chain = Chain()
    chain.add(2 * RECENT + 777)
    async with open_log(Outside(), path) as log:
        await _filled(log, chain, step=900)
        assert len(log._recent) == RECENT
        assert not log._unsaved
        first, head = log._recent[0].position, log.head.position
        assert first == head - RECENT + 1
        around = [0, 1, MAX_ENTRIES, first, first + MAX_ENTRIES, head - MAX_ENTRIES, head]
        _check_everywhere(log, chain, [at + by for at in around for by in range(-3, 4) if at + by >= 0], MAX_ENTRIES)
        assert len(log.taken_after(head - MAX_ENTRIES)) == MAX_ENTRIES
        assert len(log.taken_after(first - 1)) == MAX_ENTRIES
        for entry in (chain.entries[0], chain.entries[first - 2], chain.entries[-1]):
            assert log.find([entry.key]) == {entry.key: entry}


@pytest.mark.parametrize(
    ("step", "begins_with", "unsaved"), [(1, 0, 9), (3, 1, 0), (7, 11, 15), (25, 0, 1), (4, 10, 10)]
)
def test_what_is_sent_on_has_no_gap_at_any_position_when_the_window_is_small(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: int, begins_with: int, unsaved: int
) -> None:
    monkeypatch.setattr(log_module, "RECENT", 10)
    monkeypatch.setattr(log_module, "MAX_ENTRIES", 4)

    @in_fake_time
    async def run() -> None:
        chain, outside = Chain(), Outside()
        chain.add(25)
        loaded = chain.fork(begins_with)
        async with open_log(outside, path, loaded) as log:
            while log.head.position < 25:
                log.take(1, chain.after(log.head.position, log.head.position + step))
                await log.fsynced.reach(log.head.position)
                assert len(log._recent) <= 10
                _check_everywhere(log, chain, range(30), 4)
            outside.disk.hold()
            if unsaved:
                log.take(1, chain.add(unsaved))
                await _settle()
                assert len(log._recent) <= 10 + unsaved
            _check_everywhere(log, chain, range(45), 4)
            outside.disk.release()
            await log.fsynced.reach(25 + unsaved)
            assert len(log._recent) <= 10
            _check_everywhere(log, chain, range(45), 4)

    run()


@in_fake_time
async def test_nothing_is_missing_when_more_than_the_window_waits_for_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "RECENT", 10)
    monkeypatch.setattr(log_module, "MAX_ENTRIES", 4)
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        log.on_fsynced = outside.disk.hold
        outside.disk.hold()
        log.take(1, chain.add(3))
        await _settle()
        log.take(1, chain.add(25))
        outside.disk.release()
        await log.fsynced.reach(3)
        assert len(log._recent) == 25, "those that are not on the disk, and no others"
        _check_everywhere(log, chain, range(32), 4)
        log.on_fsynced = lambda: None
        outside.disk.release()


@in_fake_time
async def test_entries_are_let_go_when_they_are_saved_and_old(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "RECENT", 10)
    async with open_log(Outside(), path) as log:
        taken: list[weakref.ref[Entry]] = []
        for _ in range(50):
            taken += [weakref.ref(entry) for entry in log.take(1, _after(log, 5))]
            await log.fsynced.reach(log.head.position)
        gc.collect()
        assert sum(entry() is not None for entry in taken) == 10


def _after(log: OrderLog, count: int) -> list[Entry]:
    """Entries that follow this log, kept by nobody."""
    entries, digest = list[Entry](), log.head.digest
    for i in range(1, count + 1):
        position = log.head.position + i
        draft = Chain().add(key=f"k-{position}")[0]
        entries.append(_renumbered(draft, digest, position=position, number=log.head.number + i))
        digest = entries[-1].digest
    return entries


# Adoption.


@in_fake_time
async def test_generation_and_stocks_are_durable_when_the_first_one_is_adopted(path: Path) -> None:
    chain = Chain()
    async with open_log(Outside(), path, generation=None) as log:
        assert (log.generation, log.initial, log.names) == (None, [], frozenset())
        assert await log.adopt(3, STOCKS)
        assert (log.generation, log.initial) == (3, STOCKS)
        assert log.names == {"BoarCo", "FishCo", "GameStart"}
        assert log.head == log.fsynced_head == chain.head()
        log.take(3, chain.add(2))
    async with open_log(Outside(), path) as log:
        assert (log.generation, log.initial, log.head) == (3, STOCKS, chain.head())
        assert log.names == {"BoarCo", "FishCo", "GameStart"}


@in_fake_time
async def test_the_log_is_saved_first_when_a_generation_is_adopted(path: Path) -> None:
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        seen: list[tuple[int | None, int]] = []

        async def look() -> None:
            last = log._store.last()
            seen.append((log._store.generation(), last.position if last else 0))

        outside.at["order.adopt.before_disk"] = outside.at["order.adopt.after_disk"] = look
        outside.disk.hold()
        log.take(1, chain.add(2))
        await _settle()
        log.take(1, chain.add(3))
        adopting = asyncio.ensure_future(log.adopt(2, STOCKS))
        await _settle()
        assert not adopting.done()
        outside.disk.release()
        assert await adopting
        assert log.fsynced_head == chain.head(5)
        assert seen == [(1, 5), (2, 5)]


@pytest.mark.parametrize("point", ["order.log.before_fsync", "order.adopt.before_disk", "order.adopt.after_disk"])
def test_nothing_is_taken_while_a_generation_is_being_adopted(path: Path, point: str) -> None:
    @in_fake_time
    async def run() -> None:
        chain, outside = Chain(), Outside()
        async with open_log(outside, path) as log:
            outside.disk.hold()
            log.take(1, chain.add())
            await _settle()
            log.take(1, chain.add())  # is saved by the adoption
            looked = list[str]()

            async def look() -> None:
                looked.append(point)
                for generation in (1, 2, 3):
                    for entries in ([], chain.entries, chain.fork(2).add()):
                        with pytest.raises(OtherGeneration):
                            log.take(generation, entries)
                assert log.generation is None
                assert log.find(["key-1"]) == {"key-1": chain.entries[0]}

            outside.at[point] = look
            adopting = asyncio.ensure_future(log.adopt(2, STOCKS))
            await _settle()
            outside.disk.release()
            assert await adopting
            assert looked
            outside.at.clear()
            with pytest.raises(OtherGeneration):
                log.take(1, chain.fork(2).add())
            assert log.head == chain.head(2)
            log.take(2, chain.add())
            assert log.head == chain.head(3)

    run()


@in_fake_time
async def test_lower_generations_are_refused_for_ever_when_one_was_adopted(path: Path) -> None:
    chain = Chain()
    async with open_log(Outside(), path) as log:
        log.take(1, chain.add())
        assert await log.adopt(5, STOCKS)
        for generation in (0, 1, 4):
            assert not await log.adopt(generation, STOCKS)
        assert log.generation == 5
    async with open_log(Outside(), path) as log:
        assert not await log.adopt(4, STOCKS)
        assert log.generation == 5
        log.take(5, chain.add())


@in_fake_time
async def test_a_log_with_entries_keeps_its_generation_when_only_an_empty_one_may_adopt(path: Path) -> None:
    chain = Chain()
    async with open_log(Outside(), path) as log:
        assert await log.adopt(2, STOCKS, only_empty=True)
        log.take(2, chain.add())
        assert not await log.adopt(3, STOCKS, only_empty=True)
        assert log.generation == 2


@in_fake_time
async def test_nothing_is_written_when_an_adoption_is_repeated(path: Path) -> None:
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        log.take(1, chain.add())
        assert await log.adopt(2, STOCKS)
        done = outside.disk.done
        for _ in range(3):
            assert await log.adopt(2, STOCKS)
        assert outside.disk.done == done


@in_fake_time
async def test_other_stocks_are_refused_and_nothing_changes_when_the_log_has_entries(path: Path) -> None:
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        log.take(1, chain.add())
        for generation in (1, 2):
            assert not await log.adopt(generation, OTHER_STOCKS)
            assert not await log.adopt(generation, [])
            assert not await log.adopt(generation, STOCKS[:2])
        assert (log.generation, log.initial) == (1, STOCKS)
        log.take(1, chain.add())
        await log.fsynced.reach(2)
    async with open_log(Outside(), path) as log:
        assert (log.generation, log.initial, log.head) == (1, STOCKS, chain.head())


@in_fake_time
async def test_the_same_stocks_in_another_order_are_the_same_when_a_generation_is_adopted(path: Path) -> None:
    chain = Chain()
    async with open_log(Outside(), path) as log:
        log.take(1, chain.add())
        assert await log.adopt(2, STOCKS[::-1])
        log.take(2, chain.add())


@in_fake_time
async def test_other_stocks_are_taken_when_the_log_is_empty(path: Path) -> None:
    chain = Chain(OTHER_STOCKS)
    async with open_log(Outside(), path) as log:
        assert await log.adopt(2, OTHER_STOCKS)
        assert log.head == log.fsynced_head == chain.head()
        assert log.names == {"GameStart"}
        with pytest.raises(Contradiction):
            log.take(2, Chain().add())
        log.take(2, chain.add())
        await log.fsynced.reach(1)
    async with open_log(Outside(), path) as log:
        assert (log.generation, log.initial, log.head) == (2, OTHER_STOCKS, chain.head())


@in_fake_time
async def test_the_highest_generation_stays_when_several_are_adopted_at_once(path: Path) -> None:
    chain, outside = Chain(), Outside()
    async with open_log(outside, path) as log:
        log.take(1, chain.add(3))
        generations = [4, 2, 7, 3, 7, 6]
        adopted = await asyncio.gather(*(log.adopt(generation, STOCKS) for generation in generations))
        assert adopted == [True, False, True, False, True, False]
        assert log.generation == 7
        log.take(7, chain.add())
    async with open_log(Outside(), path) as log:
        assert (log.generation, log.head) == (7, chain.head())


# What fails ends the process.


FAILURES = [(IntegrityFailure("an fsync failed"), 3), (DiskFull("no room"), 4), (OSError("odd"), 1)]


@pytest.mark.parametrize(("error", "status"), FAILURES, ids=["fsync failed", "disk full", "other"])
def test_the_process_ends_before_anything_is_promised_when_a_write_fails(
    path: Path, error: Exception, status: int
) -> None:
    @in_fake_time
    async def run() -> None:
        chain, outside = Chain(), Outside()
        async with open_log(outside, path) as log:
            log.take(1, chain.add(2))
            await log.fsynced.reach(2)
            outside.disk.error = error
            log.take(1, chain.add())
            waiter = asyncio.ensure_future(log.fsynced.reach(3))
            await asyncio.sleep(1)
            assert outside.ended_with[0] == status
            assert not waiter.done()
            assert log.fsynced_head == chain.head(2)
            assert log.after(0, 10) == chain.after(0, 2)
            waiter.cancel()

    run()


@pytest.mark.parametrize("at", ["order.log.before_fsync", "order.adopt.before_disk"])
@pytest.mark.parametrize(("error", "status"), FAILURES, ids=["fsync failed", "disk full", "other"])
def test_the_process_ends_when_an_adoption_cannot_be_written(
    path: Path, at: str, error: Exception, status: int
) -> None:
    @in_fake_time
    async def run() -> None:
        chain, outside = Chain(), Outside()

        async def fail() -> None:
            outside.disk.error = error

        async with open_log(outside, path) as log:
            log.take(1, chain.add(2))
            outside.at[at] = fail
            with pytest.raises(type(error)):
                await log.adopt(2, STOCKS)
            assert outside.ended_with[0] == status
            assert log.generation is None, "neither the old nor the new one is promised to anybody"
        store = LogStore(path)
        assert store.generation() == 1
        store.close()

    run()


@in_fake_time
async def test_the_process_ends_for_good_when_a_real_fsync_fails(path: Path) -> None:
    chain, outside = Chain(), Outside()
    with failing_files() as files:
        async with open_log(outside, path) as log:
            log.take(1, chain.add(2))
            await log.fsynced.reach(2)
            files.fails = "fsync"
            log.take(1, chain.add())
            await asyncio.sleep(1)
            assert outside.ended_with[0] == 3
            assert log.fsynced.position == 2
            files.fails = None
