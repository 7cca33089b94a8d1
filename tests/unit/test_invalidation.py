"""Who is told before a stock changes: leases by the test's clock, front-ends that refuse, hang and come back."""

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import pytest

from services.catalog.invalidation import MAX_SESSIONS, Session, Sessions
from services.common.errors import Unavailable
from services.common.http import Peer, make_client
from services.common.runtime import Runtime
from services.common.timing import LEASE_AT_CATALOG_S, LEASE_S, RENEW_EVERY_S, SESSION_CALL_S, TELL_AGAIN_S
from services.common.transport import NotConnected
from tests.support.catalog_front_end import CacheHolder
from tests.support.catalog_world import Gate, Points, in_catalog_time, turns
from tests.support.fake_network import FakeNetwork, failure
from tests.support.fake_time import FakeClock, until

LOOPBACK = "http://127.0.0.1:8021"
ELSEWHERE = "http://10.0.0.7:8021"


class Records:
    """The durable records, and in which order they were written and removed."""

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.notes: list[str] = []
        self.before_record: Gate | None = None
        self.before_remove: Gate | None = None

    async def record(self, session_id: str, url: str) -> None:
        if self.before_record is not None:
            await self.before_record()
        self.open[session_id] = url
        self.notes.append(f"recorded {session_id}")

    async def remove(self, session_ids: Iterable[str]) -> None:
        if self.before_remove is not None:
            await self.before_remove()
        for session_id in session_ids:
            self.open.pop(session_id, None)
            self.notes.append(f"removed {session_id}")


class Bench:
    """The sessions of one catalog process, and front-ends around it."""

    def __init__(self, announced: int = 7, generation: int = 3) -> None:
        self.clock = FakeClock()
        self.network = FakeNetwork()
        self.points = Points()
        self.records = Records()
        runtime = Runtime(
            monotonic=self.clock, random=random.Random(7), transport=lambda: self.network, point=self.points
        )
        self.client = make_client(runtime)
        self.sessions = Sessions(
            runtime,
            lambda url: Peer(self.client, url),
            generation,
            announced,
            record=self.records.record,
            remove=self.records.remove,
        )

    def front_end(self, url: str = LOOPBACK, session: str = "session-1") -> CacheHolder:
        holder = CacheHolder(url, session)
        self.network.serve(url, holder.handle)
        return holder

    async def opened(self, url: str = LOOPBACK, session: str = "session-1") -> CacheHolder:
        """A front-end with a live session."""
        holder = self.front_end(url, session)
        assert await self.sessions.open(session, url) is not None
        return holder

    async def announce(self, position: int = 8, *names: str) -> float:
        """Announce a decision; gives the seconds it took."""
        began = self.clock()
        await self.sessions.announce(position, names or ["GameStart"])
        return self.clock() - began

    async def after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


# Opening.


@in_catalog_time
async def test_opening_gives_the_announced_head_as_floor_when_the_front_end_confirms() -> None:
    bench = Bench(announced=7)
    holder = bench.front_end()
    assert await bench.sessions.open("session-1", LOOPBACK) == 7
    assert holder.confirms == ["session-1"]
    assert bench.records.open == {"session-1": LOOPBACK}
    assert len(bench.sessions) == 1


@in_catalog_time
async def test_session_is_on_disk_before_it_is_live() -> None:
    bench = Bench()
    bench.front_end()
    bench.records.before_record = Gate()
    opening = asyncio.create_task(bench.sessions.open("session-1", LOOPBACK))
    await bench.records.before_record.reached.wait()
    assert len(bench.sessions) == 0
    assert await bench.sessions.renew("session-1") is None
    bench.records.before_record.open()
    assert await opening == 7
    assert len(bench.sessions) == 1


@in_catalog_time
async def test_floor_is_the_announced_head_when_a_session_opens_between_announcement_and_commit() -> None:
    """H9: what a miss reads now is from before the commit, and must not be kept."""
    bench = Bench(announced=7)
    bench.front_end()
    assert await bench.announce(8) == 0
    assert await bench.sessions.open("session-1", LOOPBACK) == 8


@pytest.mark.parametrize(
    "step", ["/sessions/confirm", "catalog.session.confirmed", "record", "catalog.session.recorded"]
)
@in_catalog_time
async def test_floor_covers_an_announcement_that_comes_at_any_step_of_the_opening(step: str) -> None:
    """H19: it counts as live, and reads its floor, in one step."""
    bench = Bench(announced=7)
    holder = bench.front_end()
    gate = Gate()
    if step == "record":
        bench.records.before_record = gate
    else:
        (holder.before if step.startswith("/") else bench.points.hooks)[step] = gate
    opening = asyncio.create_task(bench.sessions.open("session-1", LOOPBACK))
    await gate.reached.wait()
    assert await bench.announce(8) == 0, "a session that is not live yet is not waited for"
    gate.open()
    assert await opening == 8
    assert holder.invalidations == []
    await bench.announce(9)
    assert holder.floors == [{"GameStart": 9}]


@in_catalog_time
async def test_session_is_told_of_every_announcement_after_its_floor() -> None:
    bench = Bench(announced=7)
    holder = await bench.opened()
    for position in (8, 9, 12):
        await bench.announce(position, "GameStart", "FishCo")
    assert holder.floors == [{"GameStart": p, "FishCo": p} for p in (8, 9, 12)]
    assert {message.session for message in holder.invalidations} == {"session-1"}
    assert {message.generation for message in holder.invalidations} == {3}
    assert bench.sessions.announced == 12


@in_catalog_time
async def test_session_is_not_opened_when_the_front_end_does_not_want_it() -> None:
    """An old copy of an opening: only the front-end knows."""
    bench = Bench()
    bench.front_end(session="another")
    assert await bench.sessions.open("session-1", LOOPBACK) is None
    assert bench.records.notes == []
    assert len(bench.sessions) == 0


@pytest.mark.parametrize("fault", ["refuses", "resets", "does_then_resets", "hangs"])
@in_catalog_time
async def test_session_is_not_opened_when_the_call_back_fails(fault: Any) -> None:
    bench = Bench()
    bench.front_end()
    bench.network.fault(LOOPBACK, fault)
    began = bench.clock()
    assert await bench.sessions.open("session-1", LOOPBACK) is None
    assert bench.clock() - began <= SESSION_CALL_S + 0.001
    assert bench.records.notes == []
    bench.network.fault(LOOPBACK, None)
    assert await bench.sessions.open("session-1", LOOPBACK) == 7, "and it can be tried again"


@pytest.mark.parametrize("url", ["", "nonsense", "http://[::1", "http://nobody:1", "ftp://127.0.0.1"])
@in_catalog_time
async def test_session_is_not_opened_when_its_address_makes_no_sense(url: str) -> None:
    bench = Bench()
    assert await bench.sessions.open("session-1", url) is None
    assert bench.records.notes == []


@in_catalog_time
async def test_session_is_opened_once_when_the_opening_comes_twice() -> None:
    bench = Bench()
    holder = await bench.opened()
    await bench.after(0.5)
    assert await bench.sessions.open("session-1", LOOPBACK) is None
    assert holder.confirms == ["session-1"]
    assert len(bench.sessions) == 1


@in_catalog_time
async def test_lease_is_not_extended_when_the_opening_comes_again() -> None:
    bench = Bench()
    await bench.opened()
    await bench.after(LEASE_S)
    await bench.sessions.open("session-1", LOOPBACK)
    await bench.after(LEASE_AT_CATALOG_S - LEASE_S)
    assert await bench.sessions.renew("session-1") is None


@in_catalog_time
async def test_only_one_opening_wins_when_two_copies_come_at_once() -> None:
    bench = Bench()
    holder = bench.front_end()
    holder.before["/sessions/confirm"] = Gate()
    openings = [asyncio.create_task(bench.sessions.open("session-1", LOOPBACK)) for _ in range(2)]
    await turns()
    assert openings[1].done()
    assert openings[1].result() is None
    holder.before["/sessions/confirm"].open()  # type: ignore[attr-defined]
    assert await openings[0] == 7
    assert bench.records.notes == ["recorded session-1"]


@in_catalog_time
async def test_opening_is_refused_when_too_many_sessions_are_open() -> None:
    bench = Bench()
    for i in range(MAX_SESSIONS):
        await bench.opened(f"http://127.0.0.1:{i + 1_000}", f"session-{i}")
    holder = bench.front_end(session="one-more")
    with pytest.raises(Unavailable):
        await bench.sessions.open("one-more", LOOPBACK)
    assert holder.confirms == []
    await bench.sessions.end("session-0")
    assert await bench.sessions.open("one-more", LOOPBACK) == 7


@in_catalog_time
async def test_openings_under_way_count_when_too_many_come_at_once() -> None:
    bench = Bench()
    holder = bench.front_end()
    gate = holder.before["/sessions/confirm"] = Gate()
    openings = [asyncio.create_task(bench.sessions.open(f"s{i}", LOOPBACK)) for i in range(MAX_SESSIONS + 5)]
    await turns()
    gate.open()
    results = await asyncio.gather(*openings, return_exceptions=True)
    assert sum(isinstance(result, Unavailable) for result in results) == 5


@in_catalog_time
async def test_lease_counts_from_when_it_was_asked_for_when_the_opening_took_long() -> None:
    bench = Bench()
    holder = bench.front_end()
    bench.records.before_record = Gate()
    opening = asyncio.create_task(bench.sessions.open("session-1", LOOPBACK))
    await bench.after(LEASE_AT_CATALOG_S)
    bench.records.before_record.open()
    assert await opening == 7
    assert await bench.sessions.renew("session-1") is None, "its lease was over before it was opened"
    assert await bench.announce() == 0
    assert holder.invalidations == []


@in_catalog_time
async def test_opening_can_be_tried_again_when_its_caller_was_cancelled() -> None:
    bench = Bench()
    holder = bench.front_end()
    gate = holder.before["/sessions/confirm"] = Gate()
    opening = asyncio.create_task(bench.sessions.open("session-1", LOOPBACK))
    await gate.reached.wait()
    opening.cancel()
    await turns()
    assert opening.cancelled()
    gate.open()
    assert await bench.sessions.open("session-1", LOOPBACK) == 7


# Renewing.


@in_catalog_time
async def test_lease_lives_on_when_it_is_renewed_in_time() -> None:
    bench = Bench()
    holder = await bench.opened()
    for _ in range(10):
        await bench.after(RENEW_EVERY_S)
        assert await bench.sessions.renew("session-1") is True
    await bench.announce()
    assert holder.floors == [{"GameStart": 8}]


@pytest.mark.parametrize(("late_s", "expected"), [(-0.001, True), (0.0, None), (0.001, None), (100.0, None)])
@in_catalog_time
async def test_renewal_counts_only_before_the_lease_is_over(late_s: float, expected: bool | None) -> None:
    """H8, to the millisecond: at the very end it is over."""
    bench = Bench()
    await bench.opened()
    await bench.after(LEASE_AT_CATALOG_S + late_s)
    assert await bench.sessions.renew("session-1") is expected


@in_catalog_time
async def test_renewal_is_refused_when_the_process_was_stopped_for_longer_than_the_lease() -> None:
    """H8: no timer has fired and no sweep has run, but the clock went on."""
    bench = Bench()
    await bench.opened()
    bench.clock.stop(LEASE_AT_CATALOG_S)
    assert await bench.sessions.renew("session-1") is None


@in_catalog_time
async def test_renewal_never_makes_a_session() -> None:
    """H19: a rebuilt catalog knows nothing of it, and that must stay so."""
    bench = Bench()
    holder = bench.front_end()
    assert await bench.sessions.renew("session-1") is None
    assert len(bench.sessions) == 0
    await bench.announce()
    assert holder.invalidations == []


@in_catalog_time
async def test_each_lease_ends_by_itself_when_there_are_several() -> None:
    bench = Bench()
    await bench.opened("http://127.0.0.1:1", "one")
    await bench.after(0.5)
    await bench.opened("http://127.0.0.1:2", "two")
    await bench.after(0.6)
    assert await bench.sessions.renew("one") is None
    assert await bench.sessions.renew("two") is True


# Announcing.


@in_catalog_time
async def test_announcement_returns_when_every_session_has_answered() -> None:
    bench = Bench()
    holders = [await bench.opened(f"http://10.0.0.{i}:1", f"s{i}") for i in range(3)]
    gate = holders[1].before["/invalidate"] = Gate()
    announcing = asyncio.create_task(bench.announce())
    await gate.reached.wait()
    await turns()
    assert not announcing.done()
    assert [len(holder.invalidations) for holder in holders] == [1, 0, 1], "all are told at once"
    gate.open()
    await announcing
    assert holders[1].floors == [{"GameStart": 8}]


@in_catalog_time
async def test_announcement_waits_for_the_end_of_the_lease_when_a_front_end_hangs() -> None:
    bench = Bench()
    await bench.opened()
    await bench.after(0.4)
    bench.network.fault(LOOPBACK, "hangs")
    assert await bench.announce() == pytest.approx(LEASE_AT_CATALOG_S - 0.4, abs=0.02)
    assert len(bench.sessions) == 0, "it is not live any more"
    assert await bench.sessions.renew("session-1") is None
    assert await bench.announce(9) == 0


@pytest.mark.parametrize("fault", ["hangs", "resets", "does_then_resets", "refuses"])
@in_catalog_time
async def test_announcement_never_waits_longer_than_a_lease_whatever_a_front_end_does(fault: Any) -> None:
    bench = Bench()
    await bench.opened(ELSEWHERE)
    bench.network.fault(ELSEWHERE, fault)
    assert await bench.announce() == pytest.approx(LEASE_AT_CATALOG_S, abs=0.02)


@pytest.mark.parametrize("fault", ["hangs", "resets", "does_then_resets", "refuses"])
@in_catalog_time
async def test_announcement_never_returns_before_the_lease_is_over_when_nothing_was_acknowledged(fault: Any) -> None:
    bench = Bench()
    await bench.opened(ELSEWHERE)
    lease_until = bench.clock() + LEASE_AT_CATALOG_S
    await bench.after(0.3)
    bench.network.fault(ELSEWHERE, fault)
    await bench.announce()
    assert bench.clock() >= lease_until


@in_catalog_time
async def test_announcement_does_not_wait_when_a_front_end_on_this_machine_refuses() -> None:
    """Its process is gone, and its cache with it."""
    bench = Bench()
    await bench.opened(LOOPBACK)
    bench.network.fault(LOOPBACK, "refuses")
    assert await bench.announce() == 0
    assert len(bench.sessions) == 0


@in_catalog_time
async def test_announcement_waits_when_a_connection_to_this_machine_failed_for_another_reason() -> None:
    """Out of descriptors: the front-end may be well, and answer from its cache."""
    bench = Bench()
    holder = await bench.opened(LOOPBACK)
    left = 3

    async def fail_three_times() -> None:
        nonlocal left
        if left:
            left -= 1
            raise NotConnected("too many open files")

    holder.before["/invalidate"] = fail_three_times
    assert await bench.announce() == pytest.approx(3 * TELL_AGAIN_S, abs=0.001)
    assert holder.floors == [{"GameStart": 8}]
    assert len(bench.sessions) == 1


@in_catalog_time
async def test_announcement_goes_through_when_a_front_end_elsewhere_is_back_within_its_lease() -> None:
    bench = Bench()
    holder = await bench.opened(ELSEWHERE)
    bench.network.fault(ELSEWHERE, "refuses")
    announcing = asyncio.create_task(bench.announce())
    await bench.after(0.5)
    assert not announcing.done()
    bench.network.fault(ELSEWHERE, None)
    assert await announcing == pytest.approx(0.5, abs=0.02)
    assert holder.floors == [{"GameStart": 8}]
    assert await bench.sessions.renew("session-1") is True


@in_catalog_time
async def test_announcement_is_sent_again_when_its_answer_was_lost() -> None:
    bench = Bench()
    holder = await bench.opened()
    bench.network.fault(LOOPBACK, "does_then_resets")
    announcing = asyncio.create_task(bench.announce())
    await bench.after(0.05)
    bench.network.fault(LOOPBACK, None)
    await announcing
    assert len(holder.invalidations) > 1
    assert {tuple(floors.items()) for floors in holder.floors} == {(("GameStart", 8),)}


@pytest.mark.parametrize("code", [400, 403, 404, 500, 503])
@in_catalog_time
async def test_announcement_waits_when_a_front_end_answers_an_error(code: int) -> None:
    """An error is no acknowledgement, not even from this machine."""
    bench = Bench()
    holder = await bench.opened()

    async def refuse(_: object) -> Any:
        return failure(code)

    bench.network.serve(LOOPBACK, refuse)
    announcing = asyncio.create_task(bench.announce())
    await bench.after(0.5)
    assert not announcing.done()
    bench.network.serve(LOOPBACK, holder.handle)
    assert await announcing == pytest.approx(0.5, abs=0.02)


@in_catalog_time
async def test_session_is_over_when_the_front_end_says_that_it_is_not_its() -> None:
    bench = Bench()
    holder = await bench.opened()
    holder.session = "a newer one"
    assert await bench.announce() == 0
    assert len(bench.sessions) == 0
    assert await bench.sessions.renew("session-1") is None
    assert bench.records.open == {"session-1": LOOPBACK}, "its record goes with the next sweep"


@in_catalog_time
async def test_announcement_does_not_wait_for_a_session_whose_lease_is_over() -> None:
    bench = Bench()
    holder = await bench.opened()
    await bench.after(LEASE_AT_CATALOG_S)
    bench.network.fault(LOOPBACK, "hangs")
    assert await bench.announce() == 0
    assert holder.invalidations == []


@in_catalog_time
async def test_announcement_returns_when_the_process_was_stopped_beyond_every_lease() -> None:
    bench = Bench()
    await bench.opened()
    bench.network.fault(LOOPBACK, "hangs")
    announcing = asyncio.create_task(bench.announce())
    await bench.after(0.1)
    bench.clock.stop(10.0)
    await bench.after(LEASE_AT_CATALOG_S)
    assert announcing.done()
    assert await bench.sessions.renew("session-1") is None


@in_catalog_time
async def test_one_bad_front_end_costs_one_lease_and_not_one_for_each_decision() -> None:
    bench = Bench()
    await bench.opened("http://10.0.0.1:1", "good")
    await bench.opened("http://10.0.0.2:1", "bad")
    bench.network.fault("http://10.0.0.2:1", "hangs")
    assert await bench.announce(8) > 1
    assert [await bench.announce(position) for position in (9, 10, 11)] == [0, 0, 0]


@in_catalog_time
async def test_no_announcement_is_sent_when_there_is_no_session() -> None:
    bench = Bench()
    assert await bench.announce(8) == 0
    assert bench.sessions.announced == 8
    assert bench.network.requests == []


# Busy: no renewal while an announcement is unanswered.


@in_catalog_time
async def test_renewal_is_busy_until_the_announcement_is_answered() -> None:
    bench = Bench()
    holder = await bench.opened()
    gate = holder.before["/invalidate"] = Gate()
    announcing = asyncio.create_task(bench.announce())
    await gate.reached.wait()
    assert await bench.sessions.renew("session-1") is False
    gate.open()
    await announcing
    assert await bench.sessions.renew("session-1") is True


@in_catalog_time
async def test_trades_go_on_when_the_catalog_cannot_call_a_front_end_that_keeps_renewing() -> None:
    """H11: it may renew as often as it likes, the lease ends."""
    bench = Bench()
    await bench.opened(ELSEWHERE)
    bench.network.fault(ELSEWHERE, "hangs")
    answers: list[bool | None] = []

    async def keep_renewing() -> None:
        while True:
            answers.append(await bench.sessions.renew("session-1"))
            await asyncio.sleep(0.02)

    await turns()
    announcing = asyncio.create_task(bench.announce())
    await turns()
    renewing = asyncio.create_task(keep_renewing())
    took = await announcing
    renewing.cancel()
    assert took <= LEASE_AT_CATALOG_S + 0.02
    assert True not in answers
    assert False in answers
    assert await bench.sessions.renew("session-1") is None


@in_catalog_time
async def test_renewal_stays_busy_when_an_announcement_failed_and_is_tried_again() -> None:
    bench = Bench()
    await bench.opened(ELSEWHERE)
    bench.network.fault(ELSEWHERE, "resets")
    announcing = asyncio.create_task(bench.announce())
    await turns()
    seen = set()
    while not announcing.done():
        seen.add(await bench.sessions.renew("session-1"))
        await asyncio.sleep(0.003)
    assert seen == {False, None}


@in_catalog_time
async def test_renewal_is_busy_until_the_last_announcement_is_answered_when_there_are_two() -> None:
    bench = Bench()
    holder = await bench.opened()
    first = holder.before["/invalidate"] = Gate()
    announcing = asyncio.create_task(bench.announce(8))
    await first.reached.wait()
    next_one = asyncio.create_task(bench.announce(9))
    await turns()
    second = holder.before["/invalidate"] = Gate()
    first.open()
    await announcing
    assert await bench.sessions.renew("session-1") is False
    second.open()
    await next_one
    assert await bench.sessions.renew("session-1") is True
    assert holder.floors == [{"GameStart": 8}, {"GameStart": 9}]


@in_catalog_time
async def test_other_sessions_are_renewed_when_one_is_busy() -> None:
    bench = Bench()
    await bench.opened("http://10.0.0.1:1", "good")
    await bench.opened("http://10.0.0.2:1", "bad")
    bench.network.fault("http://10.0.0.2:1", "hangs")
    announcing = asyncio.create_task(bench.announce())
    await bench.after(0.1)
    assert await bench.sessions.renew("good") is True
    assert await bench.sessions.renew("bad") is False
    await announcing
    assert await bench.sessions.renew("good") is True


@in_catalog_time
async def test_changes_share_a_message_and_the_highest_position_counts_when_several_wait() -> None:
    bench = Bench()
    holder = bench.front_end()
    session = Session("session-1", Peer(bench.client, LOOPBACK), 3, bench.clock() + 1)
    gate = holder.before["/invalidate"] = Gate()
    waiting = [
        asyncio.create_task(session.tell.submit(change)) for change in ({"A": 1}, {"A": 5, "B": 2}, {"A": 3, "C": 3})
    ]
    gate.open()
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert holder.floors == [{"A": 5, "B": 2, "C": 3}]


# Ending.


@in_catalog_time
async def test_session_is_over_and_its_record_removed_when_the_front_end_ends_it() -> None:
    bench = Bench()
    holder = await bench.opened()
    await bench.sessions.end("session-1")
    assert await bench.sessions.renew("session-1") is None
    assert bench.records.notes == ["recorded session-1", "removed session-1"]
    assert await bench.announce() == 0
    assert holder.invalidations == []


@in_catalog_time
async def test_session_is_not_live_when_its_record_is_being_removed() -> None:
    bench = Bench()
    await bench.opened()
    bench.records.before_remove = Gate()
    ending = asyncio.create_task(bench.sessions.end("session-1"))
    await bench.records.before_remove.reached.wait()
    assert await bench.sessions.renew("session-1") is None
    bench.records.before_remove.open()
    await ending


@in_catalog_time
async def test_ending_an_unknown_session_does_nothing() -> None:
    bench = Bench()
    await bench.sessions.end("session-1")
    assert bench.records.notes == []


@in_catalog_time
async def test_announcement_returns_when_the_session_ends_while_it_is_told() -> None:
    """A front-end that stops ends its session first, and may never answer."""
    bench = Bench()
    await bench.opened(ELSEWHERE)
    bench.network.fault(ELSEWHERE, "resets")
    announcing = asyncio.create_task(bench.announce())
    await bench.after(0.1)
    await bench.sessions.end("session-1")
    assert await announcing <= 0.1 + 2 * TELL_AGAIN_S


# Sweeping.


@in_catalog_time
async def test_sweep_removes_a_record_only_after_the_session_stopped_being_live() -> None:
    """H19."""
    bench = Bench()
    await bench.opened()
    bench.records.before_remove = Gate()
    sweeping = asyncio.create_task(bench.sessions.sweep())
    await bench.records.before_remove.reached.wait()
    assert bench.clock() >= 1_000.0 + LEASE_AT_CATALOG_S
    assert await bench.sessions.renew("session-1") is None
    assert bench.records.open == {"session-1": LOOPBACK}
    bench.records.before_remove.open()
    await turns()
    assert bench.records.open == {}
    sweeping.cancel()


@in_catalog_time
async def test_sweep_leaves_live_sessions_alone() -> None:
    bench = Bench()
    holder = await bench.opened()
    sweeping = asyncio.create_task(bench.sessions.sweep())
    for _ in range(20):
        await bench.after(RENEW_EVERY_S)
        assert await bench.sessions.renew("session-1") is True
    assert bench.records.notes == ["recorded session-1"]
    await bench.announce()
    assert holder.floors == [{"GameStart": 8}]
    sweeping.cancel()


@in_catalog_time
async def test_sweep_removes_the_record_of_a_session_that_was_given_up_before() -> None:
    bench = Bench()
    holder = await bench.opened()
    holder.session = "a newer one"
    await bench.announce()
    sweeping = asyncio.create_task(bench.sessions.sweep())
    await until(lambda: not bench.records.open, within=1.0)
    sweeping.cancel()
    assert bench.records.notes == ["recorded session-1", "removed session-1"]


@in_catalog_time
async def test_sweep_keeps_what_comes_over_while_it_removes_for_the_next_round() -> None:
    bench = Bench()
    await bench.opened("http://127.0.0.1:1", "one")
    await bench.after(0.3)
    await bench.opened("http://127.0.0.1:2", "two")
    bench.records.before_remove = Gate()
    sweeping = asyncio.create_task(bench.sessions.sweep())
    await bench.records.before_remove.reached.wait()
    await bench.after(2 * LEASE_AT_CATALOG_S)  # a slow disk
    assert await bench.announce() == 0
    bench.records.before_remove.open()
    await until(lambda: not bench.records.open, within=1.0)
    sweeping.cancel()


# Recalling the sessions of the process before.


@in_catalog_time
async def test_recall_returns_at_once_when_every_front_end_answers() -> None:
    bench = Bench()
    one, two = bench.front_end("http://10.0.0.1:1", "one"), bench.front_end("http://10.0.0.2:1", "two")
    two.session = None  # not its any more: as good
    bench.records.open = {"one": one.url, "two": two.url}
    began = bench.clock()
    await bench.sessions.recall(dict(bench.records.open))
    assert bench.clock() == began
    assert (one.recalls, two.recalls) == (["one"], ["two"])
    assert bench.records.open == {}


@in_catalog_time
async def test_recall_waits_a_whole_lease_when_a_front_end_does_not_answer() -> None:
    bench = Bench()
    one = bench.front_end("http://10.0.0.1:1", "one")
    bench.network.fault("http://10.0.0.2:1", "hangs")
    bench.records.open = {"one": one.url, "two": "http://10.0.0.2:1"}
    began = bench.clock()
    recalling = asyncio.create_task(bench.sessions.recall(dict(bench.records.open)))
    await bench.after(LEASE_AT_CATALOG_S - 0.01)
    assert not recalling.done()
    assert len(bench.records.open) == 2, "no record goes before all are over"
    await recalling
    assert bench.clock() - began == pytest.approx(LEASE_AT_CATALOG_S, abs=0.02)
    assert bench.records.open == {}


@pytest.mark.parametrize(("url", "waits"), [(LOOPBACK, False), (ELSEWHERE, True)])
@in_catalog_time
async def test_a_refused_recall_counts_as_gone_only_on_this_machine(url: str, waits: bool) -> None:
    bench = Bench()
    began = bench.clock()
    await bench.sessions.recall({"one": url})
    assert bench.clock() - began == pytest.approx(LEASE_AT_CATALOG_S * waits, abs=0.02)


@in_catalog_time
async def test_recall_is_tried_again_when_it_failed() -> None:
    bench = Bench()
    one = bench.front_end(ELSEWHERE, "one")
    bench.network.fault(ELSEWHERE, "resets")
    recalling = asyncio.create_task(bench.sessions.recall({"one": ELSEWHERE}))
    await bench.after(0.3)
    bench.network.fault(ELSEWHERE, None)
    await recalling
    assert bench.clock() == pytest.approx(1_000.3, abs=0.02)
    assert one.session is None


@in_catalog_time
async def test_recall_waits_when_a_connection_to_this_machine_failed_for_another_reason() -> None:
    bench = Bench()
    one = bench.front_end(LOOPBACK, "one")
    failures = iter([NotConnected("no descriptor"), NotConnected("no descriptor")])

    async def fail_twice() -> None:
        for error in failures:
            raise error

    one.before["/sessions/recall"] = fail_twice
    await bench.sessions.recall({"one": LOOPBACK})
    assert one.recalls == ["one"]
