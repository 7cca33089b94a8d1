"""What has happened in a bazaar: the states of its services over time, the events, the fail-overs and the outages.

Plain values in (snapshots, announcements, figures), plain values out; nothing here waits or asks anybody. All that is
kept is bounded. Times are milliseconds since 1970: those of the processes come from the supervisor, those of a change
of leader from the front-end that made it, and both run on one machine's clock.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

from pydantic import BaseModel

from services.cluster.child import Strike
from services.cluster.health import Event, FailOver
from services.cluster.status import ServiceView, Snapshot
from services.common.models import LeaderChange
from services.control_room.figures import Point

KEPT_MS = 300_000  # of timeline, points and outages
SHORTEST_MS = 60_000
KEPT_EVENTS = 100
CAUSE_WITHIN_MS = 60_000  # a blow longer ago is not why a leader fell silent
CLOCK_MS = 1_000  # a death may be told a little after the front-end has noticed it

Look = Literal["leader", "level", "behind", "running", "starting", "paused", "down", "failed"]


class Span(BaseModel):
    """A time in which a service looked like this; until_ms is None while it still does."""

    look: Look
    since_ms: int
    until_ms: int | None = None


class Outage(BaseModel):
    """A time in which no trade could be done."""

    since_ms: int
    until_ms: int | None = None


SpanT = TypeVar("SpanT", Span, Outage)


class Story(BaseModel):
    """All of it, as the page draws it: from `from_ms` to `now_ms`, events newest first."""

    now_ms: int
    from_ms: int
    timeline: dict[str, list[Span]]
    outages: list[Outage]
    points: list[Point]
    events: list[Event]


class History:
    """Takes in what happens and remembers the last minutes."""

    def __init__(self, names: Sequence[str]) -> None:
        self.last_fail_over: FailOver | None = None
        self.version = 0  # grows with every event, so that whoever shows them knows
        self._began_ms: int | None = None
        self._timeline: dict[str, deque[Span]] = {name: deque() for name in names}
        self._was_away: set[str] = set()
        self._outages: deque[Outage] = deque()
        self._points: deque[Point] = deque()
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._strikes: dict[str, Strike | None] = {}
        self._told: dict[str, LeaderChange] = {}  # the last change that each front-end has told
        self._lost: dict[str, LeaderChange] = {}  # of front-ends without a leader: the change that left them so

    # What comes in.

    def note(self, at_ms: int, service: str, text: str, fail_over: FailOver | None = None) -> None:
        """Something has happened to a service."""
        self._events.append(Event(at_ms=at_ms, service=service, text=text, fail_over=fail_over))
        self.version += 1

    def take(self, snapshot: Snapshot) -> None:
        """A look at the bazaar; later ones come later."""
        self._began_ms = self._began_ms or snapshot.at_ms
        for service in snapshot.services:
            self._take_look(service, look_of(service, snapshot.health.leader), snapshot.at_ms)
            self._strikes[service.name] = service.strike
            self._take_changes(service.name, service.changes)
        self._take_outage(snapshot.at_ms, is_out=snapshot.health.condition == "down")
        self._forget(snapshot.at_ms - KEPT_MS)

    def add(self, point: Point) -> None:
        """The figures of the last second or so."""
        self._points.append(point)

    # What comes out.

    def events(self, count: int) -> list[Event]:
        """The last ones, newest first."""
        in_order = sorted(self._events, key=lambda event: event.at_ms)  # they may be told late
        return in_order[-count:][::-1]

    def story(self, now_ms: int) -> Story:
        """All that is remembered; a bazaar that is young has its first minute to fill."""
        began_ms = min(self._began_ms or now_ms, now_ms - SHORTEST_MS)
        return Story(
            now_ms=now_ms,
            from_ms=max(began_ms, now_ms - KEPT_MS),
            timeline={name: list(spans) for name, spans in self._timeline.items()},
            outages=_merged(self._outages),
            points=list(self._points),
            events=self.events(KEPT_EVENTS),
        )

    # How it is taken in.

    def _take_look(self, service: ServiceView, look: Look, at_ms: int) -> None:
        spans = self._timeline[service.name]
        if not spans or spans[-1].look != look:
            if spans:
                spans[-1].until_ms = at_ms
            spans.append(Span(look=look, since_ms=at_ms))
        if service.state != "running":
            self._was_away.add(service.name)
        elif service.level and service.name in self._was_away:
            self._was_away.discard(service.name)
            self.note(at_ms, service.name, f"{service.name} has caught up")

    def _take_changes(self, front_end: str, changes: Sequence[LeaderChange]) -> None:
        """Those of `changes` that are news, and whether the last one known has had its first trade since."""
        told = self._told.get(front_end)
        known = next((n for n in reversed(range(len(changes))) if told and _is_same(changes[n], told)), -1)
        if known >= 0 and told is not None and changes[known].first_trade_ms != told.first_trade_ms:
            self._note_first_trade(front_end, changes[known])
        for change in changes[known + 1 :]:
            if told is None or change.selected_ms >= told.selected_ms:
                self._take_change(front_end, change)
        if changes:
            self._told[front_end] = changes[-1]

    def _take_change(self, front_end: str, change: LeaderChange) -> None:
        if change.leader is None:
            self._lost[front_end] = change
            self.note(change.selected_ms, front_end, f"{front_end} has no leader: no replica answers")
            return
        lost = self._lost.pop(front_end, None)
        failed = change if change.before is not None else lost
        if failed is None:
            self.note(change.selected_ms, front_end, f"{front_end} selected order-{change.leader} as its leader")
        else:
            strike = self._strikes.get(f"order-{failed.before}")
            self._take_fail_over(_fail_over(front_end, failed, change, strike))

    def _take_fail_over(self, fail_over: FailOver) -> None:
        if self.last_fail_over is None or fail_over.selected_ms >= self.last_fail_over.selected_ms:
            self.last_fail_over = fail_over
        self.note(fail_over.selected_ms, fail_over.front_end, _told_by(fail_over), fail_over)
        self._outages.append(Outage(since_ms=fail_over.began_ms, until_ms=fail_over.selected_ms))

    def _note_first_trade(self, front_end: str, change: LeaderChange) -> None:
        """Complete the chain of the fail-over that is told already."""
        for number, event in enumerate(self._events):
            known = event.fail_over
            if known is not None and (known.front_end, known.selected_ms) == (front_end, change.selected_ms):
                whole = known.model_copy(update={"first_trade_ms": change.first_trade_ms})
                self._events[number] = event.model_copy(update={"fail_over": whole, "text": _told_by(whole)})
                if self.last_fail_over == known:
                    self.last_fail_over = whole
                self.version += 1

    def _take_outage(self, at_ms: int, *, is_out: bool) -> None:
        open_one = next((each for each in self._outages if each.until_ms is None), None)
        if is_out and open_one is None:
            self._outages.append(Outage(since_ms=at_ms))
        elif not is_out and open_one is not None:
            open_one.until_ms = at_ms

    def _forget(self, before_ms: int) -> None:
        while self._points and self._points[0].at_ms < before_ms:
            self._points.popleft()
        _forget_past(self._outages, before_ms)
        for spans in self._timeline.values():
            _forget_past(spans, before_ms)


def _merged(outages: Iterable[Outage]) -> list[Outage]:
    """Those that overlap as one: a fail-over tells one more exactly than the looks that saw it as well."""
    merged: list[Outage] = []
    for outage in sorted(outages, key=lambda each: each.since_ms):
        last = merged[-1] if merged else None
        if last is None or (last.until_ms is not None and last.until_ms < outage.since_ms):
            merged.append(outage.model_copy())
        elif last.until_ms is not None:
            last.until_ms = None if outage.until_ms is None else max(last.until_ms, outage.until_ms)
    return merged


def _forget_past(kept: deque[SpanT], before_ms: int) -> None:
    while kept and kept[0].until_ms is not None and kept[0].until_ms < before_ms:
        kept.popleft()


def look_of(service: ServiceView, leader: int | None) -> Look:
    """A service's state, of a replica that runs also its part."""
    if service.state != "running" or not service.name.startswith("order-"):
        return service.state
    if service.name == f"order-{leader}":
        return "leader"
    return "level" if service.level else "behind"


def _fail_over(front_end: str, failed: LeaderChange, change: LeaderChange, strike: Strike | None) -> FailOver:
    if strike is not None and not -CLOCK_MS <= failed.noticed_ms - strike.at_ms <= CAUSE_WITHIN_MS:
        strike = None
    return FailOver(
        front_end=front_end,
        before=f"order-{failed.before}",
        leader=f"order-{change.leader}",
        cause=strike.how if strike is not None else None,
        struck_ms=min(strike.at_ms, failed.noticed_ms) if strike is not None else None,
        noticed_ms=failed.noticed_ms,
        selected_ms=change.selected_ms,
        first_trade_ms=change.first_trade_ms,
    )


def _is_same(one: LeaderChange, other: LeaderChange) -> bool:
    return (one.selected_ms, one.leader, one.before) == (other.selected_ms, other.leader, other.before)


def _told_by(fail_over: FailOver) -> str:
    return f"{fail_over.front_end}: {fail_over.sentence}"
