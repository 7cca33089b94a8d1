"""Which faults there are, and which of them a seed draws. Plain values; nothing here touches a process.

A scenario names roles, not processes: who leads is known only when it strikes. Kinds are dealt like cards from a
shuffled deck, so that a run of a few dozen rounds has seen each of them.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Action = Literal["kill", "pause", "restart", "cut"]
Direction = Literal["out", "in", "both"]
"""What a cut stops: what the struck side sends, what is sent to it, or both."""

LEADER = "leader"
FOLLOWERS = ("follower-1", "follower-2")
CATALOG = "catalog"
FRONT_END = "front-end"  # some front-end: drawn
EVERYBODY = "everybody else"

HOLD_S = (0.3, 3.0)  # how long a pause or a cut lasts
MOST_DELAY_S = 0.3  # a fault comes so late after the last round, so that it meets any moment

KINDS: tuple[tuple[Action, str], ...] = (
    ("kill", LEADER),
    ("kill", "follower"),
    ("kill", CATALOG),
    ("kill", FRONT_END),
    ("kill", "several"),
    ("kill", "all"),
    ("pause", LEADER),
    ("pause", "follower"),
    ("pause", CATALOG),
    ("pause", FRONT_END),
    ("pause", "several"),
    ("restart", LEADER),
    ("restart", "follower"),
    ("restart", CATALOG),
    ("restart", FRONT_END),
)
CUTS: tuple[tuple[Action, str], ...] = (
    ("cut", "leader from catalog"),
    ("cut", "leader from followers"),
    ("cut", "front-end from leader"),
    ("cut", "front-end from catalog"),
    ("cut", "leader from all"),
    ("cut", "follower from all"),
    ("cut", "catalog from all"),
)


@dataclass(frozen=True)
class Scenario:
    """One fault. roles: whom it strikes. others, direction: of a cut, from whom it cuts them off, and which way."""

    action: Action
    what: str
    roles: tuple[str, ...]
    delay_s: float
    hold_s: float = 0.0
    others: tuple[str, ...] = ()
    direction: Direction = "both"

    @property
    def kind(self) -> str:
        """Rounds of one kind are compared with each other."""
        return f"{self.action} {self.what}"


def draw(seed: int, front_ends: int, *, partitions: bool) -> Iterator[Scenario]:
    """The scenarios of this seed, without an end."""
    source = random.Random(seed)
    kinds = [*KINDS, *(CUTS if partitions else ())]
    while True:
        source.shuffle(kinds)
        for action, what in kinds:
            yield _make(source, action, what, front_ends)


def _make(source: random.Random, action: Action, what: str, front_ends: int) -> Scenario:
    delay_s = round(source.uniform(0, MOST_DELAY_S), 3)
    hold_s = round(source.uniform(*HOLD_S), 3) if action in {"pause", "cut"} else 0.0
    if action != "cut":
        return Scenario(action, what, _roles(source, what, front_ends), delay_s, hold_s)
    struck, _, rest = what.partition(" from ")
    direction: Direction = source.choice(("out", "in", "both"))
    others = (EVERYBODY,) if rest == "all" else _roles(source, rest, front_ends)
    return Scenario(action, what, _roles(source, struck, front_ends), delay_s, hold_s, others, direction)


def _roles(source: random.Random, what: str, front_ends: int) -> tuple[str, ...]:
    front_end_names = tuple(f"{FRONT_END}-{number}" for number in range(1, front_ends + 1))
    everybody = (CATALOG, LEADER, *FOLLOWERS, *front_end_names)
    match what:
        case "follower":
            return (source.choice(FOLLOWERS),)
        case "followers":
            return FOLLOWERS
        case "front-end":
            return (source.choice(front_end_names),)
        case "several":
            return tuple(sorted(source.sample(everybody, source.randint(2, len(everybody) - 1))))
        case "all":
            return everybody
    return (what,)
