"""Whom each round kills, and when: drawn from a seed, the leader in at least half of the rounds. Plain values."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

from eval.chaos.scenarios import FOLLOWERS, LEADER

Phase = Literal["trades", "check"]
"""What the clients do when it strikes: look up and trade, or check their orders at the end."""

DECK: tuple[tuple[str, Phase], ...] = (
    (LEADER, "trades"),
    ("follower", "trades"),
    (LEADER, "check"),
    ("follower", "trades"),
    (LEADER, "trades"),
    ("follower", "check"),
)


@dataclass(frozen=True)
class Times:
    """From and to how many seconds things last; drawn anew in each round.

    lead: load before the kill. down: the replica stays dead. rest: load after everything is level again.
    """

    lead_s: tuple[float, float] = (1.5, 2.5)
    down_s: tuple[float, float] = (2.0, 4.0)
    rest_s: tuple[float, float] = (1.0, 1.5)


QUICK = Times(lead_s=(0.4, 0.8), down_s=(0.8, 1.2), rest_s=(0.3, 0.5))


@dataclass(frozen=True)
class Strike:
    """One round. role: of the replica that is killed. checked: the share of the orders that are checked before."""

    number: int
    role: str
    phase: Phase
    lead_s: float
    down_s: float
    rest_s: float
    checked: float


def draw(seed: int, rounds: int, times: Times) -> list[Strike]:
    """The rounds of this seed."""
    source = random.Random(seed)
    dealt = list(islice(cycle(DECK), rounds))
    source.shuffle(dealt)
    return [_make(source, number, role, phase, times) for number, (role, phase) in enumerate(dealt, start=1)]


def _make(source: random.Random, number: int, role: str, phase: Phase, times: Times) -> Strike:
    def within(limits: Sequence[float]) -> float:
        return round(source.uniform(limits[0], limits[1]), 3)

    return Strike(
        number=number,
        role=LEADER if role == LEADER else source.choice(FOLLOWERS),
        phase=phase,
        lead_s=within(times.lead_s),
        down_s=within(times.down_s),
        rest_s=within(times.rest_s),
        checked=within((0.1, 0.6)),
    )
