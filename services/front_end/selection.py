"""Leader selection: which replica gets the trades. Plain values in, a choice out; `health` does the asking.

A choice is about speed and order, never about safety: trades stay right whoever leads, so the rules here are few. The
choice stays until it fails, then goes to the highest id that is *level* (with the catalog), or else the highest that
answers. "Fails" means silent, or left behind: not level while another one has been level for a while and reached the
catalog's head clearly later. When the catalog itself is down nobody is level, all replicas reached its last head at
about the same time, and the leader stays: a catalog's outage does not move it.

At the start the front-end waits, for a limited time, until every replica is level or silent, so that the highest id is
not passed over for being a moment slower. When *all* are silent at first, the whole bazaar is being started: then the
silent ones are waited for too, because they are about to speak, and the time counts from the first that answers.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from services.common.timing import MISSED_CHECKS, STALE_LEADER_S, START_PATIENCE_S

State = Literal["level", "answering", "silent"]


@dataclass(slots=True)
class _Replica:
    """What the checks of one replica have told.

    state: None until it is known. since: when it came into this state. reached_at: when it last reached C's head.
    """

    state: State | None = None
    since: float = -math.inf
    missed: int = 0
    reached_at: float = -math.inf

    def becomes(self, state: State, now: float) -> None:
        if state != self.state:
            self.state = state
            self.since = now


@dataclass(frozen=True, slots=True)
class Change:
    """The choice has changed; after_s: seconds since the failure that caused it was noticed."""

    before: int | None
    leader: int | None
    after_s: float


class Selection:
    """The replicas as they were last heard of, and the leader. Times are seconds of one monotonic clock."""

    def __init__(self, replica_ids: Iterable[int], now: float) -> None:
        self.leader: int | None = None
        self._replicas = {replica_id: _Replica() for replica_id in sorted(replica_ids, reverse=True)}  # highest first
        self._has_begun = False
        self._is_cold = False
        self._patience_ends = now + START_PATIENCE_S
        self._without_since = now

    # What the checks tell.

    def answered(self, replica_id: int, now: float, *, level: bool, level_age: float | None) -> None:
        """It answered a check: whether it is level, and how many seconds ago it reached the catalog's head."""
        replica = self._replicas[replica_id]
        replica.missed = 0
        replica.becomes("level" if level else "answering", now)
        if level_age is not None:
            replica.reached_at = now - level_age

    def missed(self, replica_id: int, now: float) -> None:
        """It did not answer a check in time; too often in a row makes it silent."""
        replica = self._replicas[replica_id]
        replica.missed += 1
        if replica.missed >= MISSED_CHECKS:
            replica.becomes("silent", now)

    def failed(self, replica_id: int, now: float) -> None:
        """It refused or reset a connection: silent at once."""
        self._replicas[replica_id].becomes("silent", now)

    # What follows from it.

    def select(self, now: float) -> Change | None:
        """Choose anew if the rules ask for it; the change, if there is one."""
        if not self._has_begun:
            self._has_begun = self._may_begin(now)
        if not self._has_begun or (self.leader is not None and not self._must_go(self.leader, now)):
            return None
        before = self.leader
        self.leader = self._best()
        if self.leader == before:
            return None
        if before is not None:
            self._without_since = self._replicas[before].since
        return Change(before, self.leader, now - self._without_since)

    def state(self, replica_id: int) -> State:
        """How a replica looks from here; one that is not known yet has not been heard of."""
        return self._replicas[replica_id].state or "silent"

    def states(self) -> dict[int, State]:
        """All of them, lowest id first."""
        return {replica_id: self.state(replica_id) for replica_id in reversed(self._replicas)}

    def candidates(self) -> list[int]:
        """Whom to ask when the leader could not serve: those that are level, else those that answer; highest first."""
        return self._in_state("level") or self._in_state("answering")

    def _best(self) -> int | None:
        return next(iter(self.candidates()), None)

    def _in_state(self, state: State) -> list[int]:
        return [replica_id for replica_id, replica in self._replicas.items() if replica.state == state]

    def _must_go(self, leader_id: int, now: float) -> bool:
        leader = self._replicas[leader_id]
        if leader.state != "answering":
            return leader.state == "silent"
        return any(
            other.state == "level"
            and other.since <= now - STALE_LEADER_S
            and other.reached_at >= leader.reached_at + STALE_LEADER_S
            for other in self._replicas.values()
        )

    def _may_begin(self, now: float) -> bool:
        states = {replica.state for replica in self._replicas.values()}
        if states == {"silent"}:
            self._is_cold = True
            self._patience_ends = math.inf
            return False
        if self._is_cold and self._patience_ends == math.inf:
            self._patience_ends = now + START_PATIENCE_S
        awaited = states - ({"level"} if self._is_cold else {"level", "silent"})
        return not awaited or now >= self._patience_ends
