"""The history: states over time, events, fail-overs with their chain, outages; all of it bounded."""

from services.cluster.child import State, Strike
from services.common.models import LeaderChange
from services.control_room.figures import KINDS, Figure, Point
from services.control_room.history import KEPT_EVENTS, KEPT_MS, History
from tests.support.room_snapshots import NAMES, services, snapshot

START = 1_760_000_000_000
FIRST = LeaderChange(before=None, leader=3, noticed_ms=START, selected_ms=START)
SECOND = LeaderChange(before=3, leader=2, noticed_ms=START + 1_004, selected_ms=START + 1_005)
KILLED = {"order-3": Strike(at_ms=START + 1_000, how="was killed")}


def looks(history: History, name: str) -> list[str]:
    return [span.look for span in history.story(START + 10_000).timeline[name]]


def texts(history: History) -> list[str]:
    return [event.text for event in reversed(history.events(KEPT_EVENTS))]


def failed_over() -> History:
    """order-3 was killed after a second, order-2 selected 5 ms later."""
    history = History(NAMES)
    history.take(snapshot(START, services(3, changes=(FIRST,))))
    history.take(snapshot(START + 1_250, services(2, changes=(FIRST, SECOND), strikes=KILLED, order_3="down")))
    return history


def test_timeline_has_one_span_for_each_state_that_lasted() -> None:
    history = failed_over()
    history.take(snapshot(START + 1_500, services(2, changes=(FIRST, SECOND), order_3="down")))
    history.take(snapshot(START + 1_750, services(2, behind=("order-3",), changes=(FIRST, SECOND))))
    assert looks(history, "order-3") == ["leader", "down", "behind"]
    assert looks(history, "order-2") == ["level", "leader"]
    assert looks(history, "order-1") == ["level"]
    spans = history.story(START + 2_000).timeline["order-3"]
    assert [(span.since_ms - START, span.until_ms and span.until_ms - START) for span in spans] == [
        (0, 1_250), (1_250, 1_750), (1_750, None),
    ]  # fmt: skip


def test_fail_over_has_the_chain_from_the_kill_on() -> None:
    history = failed_over()
    assert history.last_fail_over is not None
    assert history.last_fail_over.model_dump() == {
        "front_end": "front-end-1",
        "before": "order-3",
        "leader": "order-2",
        "cause": "was killed",
        "struck_ms": START + 1_000,
        "noticed_ms": START + 1_004,
        "selected_ms": START + 1_005,
        "first_trade_ms": None,
    }
    assert texts(history)[-1].startswith("front-end-1: order-2 leads now: order-3 was killed; noticed after 4 ms")


def test_first_trade_completes_the_chain_that_was_told_already() -> None:
    history = failed_over()
    count, version = len(texts(history)), history.version
    traded = SECOND.model_copy(update={"first_trade_ms": START + 1_020})
    for at_ms in (1_500, 1_750):
        history.take(snapshot(START + at_ms, services(2, changes=(FIRST, traded), order_3="down")))
    assert len(texts(history)) == count
    assert texts(history)[-1].endswith("first trade after 20 ms")
    assert history.last_fail_over is not None
    assert history.last_fail_over.first_trade_ms == START + 1_020
    assert history.version == version + 1


def test_change_is_told_once_however_often_it_is_seen() -> None:
    history = failed_over()
    before = texts(history)
    for at_ms in range(1_500, 5_000, 250):
        history.take(snapshot(START + at_ms, services(2, changes=(FIRST, SECOND), order_3="down")))
    assert texts(history) == before
    assert before == ["front-end-1 selected order-3 as its leader", before[-1]]


def test_changes_of_one_millisecond_are_each_told_once() -> None:
    lost = LeaderChange(before=3, leader=None, noticed_ms=START + 1_004, selected_ms=START + 1_005)
    found = LeaderChange(before=None, leader=1, noticed_ms=START + 1_005, selected_ms=START + 1_005)
    history = History(NAMES)
    for at_ms in (0, 250, 500):
        history.take(snapshot(START + 2_000 + at_ms, services(1, changes=(FIRST, lost, found), strikes=KILLED)))
    told = texts(history)
    assert len(told) == 3
    assert told[1] == "front-end-1 has no leader: no replica answers"
    assert "order-1 leads now: order-3 was killed; noticed after 4 ms, selected after 5 ms" in told[2]


def test_blow_of_long_ago_is_not_named_as_the_cause() -> None:
    history = History(NAMES)
    old = {"order-3": Strike(at_ms=START - 3_600_000, how="was killed")}
    history.take(snapshot(START + 1_250, services(2, changes=(FIRST, SECOND), strikes=old)))
    assert history.last_fail_over is not None
    assert (history.last_fail_over.cause, history.last_fail_over.struck_ms) == (None, None)


def test_chain_begins_at_the_notice_when_the_death_was_told_later() -> None:
    history = History(NAMES)
    late = {"order-3": Strike(at_ms=START + 1_020, how="died (killed by SIGKILL)")}
    history.take(snapshot(START + 1_250, services(2, changes=(FIRST, SECOND), strikes=late)))
    assert history.last_fail_over is not None
    assert history.last_fail_over.struck_ms == SECOND.noticed_ms


def test_replica_that_was_away_is_told_to_have_caught_up_once() -> None:
    history = failed_over()
    for at_ms, behind in ((1_500, ("order-3",)), (1_750, ()), (2_000, ("order-3",)), (2_250, ())):
        history.take(snapshot(START + at_ms, services(2, behind=behind, changes=(FIRST, SECOND))))
    assert texts(history).count("order-3 has caught up") == 1


def test_outage_lasts_while_no_trade_can_be_done() -> None:
    history = History(NAMES)
    states: tuple[State, ...] = ("running", "down", "starting", "running")
    for at_ms, catalog in zip(range(0, 1_000, 250), states, strict=True):
        history.take(snapshot(START + at_ms, services(catalog=catalog)))
    outages = history.story(START + 1_000).outages
    assert [(each.since_ms - START, each.until_ms and each.until_ms - START) for each in outages] == [(250, 750)]


def test_fail_over_that_was_quicker_than_a_look_is_an_outage_all_the_same() -> None:
    outages = failed_over().story(START + 2_000).outages
    assert [(each.since_ms - START, each.until_ms and each.until_ms - START) for each in outages] == [(1_000, 1_005)]


def test_outages_that_overlap_are_one() -> None:
    history = History(NAMES)
    paused = {"order-3": Strike(at_ms=START + 400, how="was paused")}
    history.take(snapshot(START, services(3, changes=(FIRST,))))
    for at_ms in (500, 750):
        history.take(snapshot(START + at_ms, services(3, changes=(FIRST,), strikes=paused, order_3="paused")))
    history.take(snapshot(START + 1_250, services(2, changes=(FIRST, SECOND), strikes=paused, order_3="paused")))
    outages = history.story(START + 2_000).outages
    assert [(each.since_ms - START, each.until_ms and each.until_ms - START) for each in outages] == [(400, 1_250)]


def test_what_is_older_than_some_minutes_is_forgotten() -> None:
    history = failed_over()
    figures = {kind: Figure(per_s=1.0) for kind in KINDS}
    history.add(Point(at_ms=START, seconds=1.0, figures=figures))
    late = START + KEPT_MS + 5_000
    history.add(Point(at_ms=late, seconds=1.0, figures=figures))
    history.take(snapshot(late, services(2, changes=(FIRST, SECOND))))
    story = history.story(late)
    assert [span.look for span in story.timeline["order-3"]] == ["down", "level"], "it led before"
    assert [span.look for span in story.timeline["order-1"]] == ["level"], "it has lasted all the time"
    assert (story.outages, len(story.points), story.from_ms) == ([], 1, late - KEPT_MS)


def test_young_bazaar_has_a_minute_to_fill() -> None:
    assert failed_over().story(START + 2_000).from_ms == START + 2_000 - 60_000


def test_events_are_bounded_and_newest_first() -> None:
    history = History(NAMES)
    for number in range(3 * KEPT_EVENTS):
        history.note(START + number, "order-1", f"event {number}")
    assert [event.text for event in history.events(2)] == [f"event {3 * KEPT_EVENTS - n}" for n in (1, 2)]
    assert len(history.story(START).events) == KEPT_EVENTS
