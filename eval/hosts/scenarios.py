"""Which faults of hosts there are, and which of them a seed draws. Plain values; nothing here touches a process.

Never more than one host at a time, but for those that strike all: so a majority of etcd is always there, or nobody is.
"""

import random
from collections.abc import Iterator

from eval.chaos.scenarios import MOST_DELAY_S, Action, Direction, Scenario
from eval.hosts.layout import HOSTS

HOLD_S = (1.0, 6.0)  # how long a fault lasts: shorter and longer than etcd's election and the cache's lease
ALL_HOLD_S = (0.3, 2.0)

ETCD_LEADER = "etcd leader"
LEADER = "order leader"
CATALOG = "catalog"  # one of the two: drawn
FRONT_END = "front-end"
ALL = "all hosts"

ONE_PROCESS = (ETCD_LEADER, LEADER, CATALOG, FRONT_END)
HOST_NAMES = tuple(f"host-{host}" for host in HOSTS)
DIRECTIONS: tuple[Direction, ...] = ("both", "out", "in")
BEYOND = ("hosts", "everybody")
"""Whom a host is cut off from: the other hosts, or the clients as well."""

KINDS: tuple[tuple[Action, str], ...] = (
    *(("kill", name) for name in HOST_NAMES),
    *(("pause", name) for name in HOST_NAMES),
    *(("kill", name) for name in ONE_PROCESS),
    *(("pause", name) for name in ONE_PROCESS),
    ("kill", ALL),
    ("pause", ALL),
)
CUTS: tuple[tuple[Action, str], ...] = tuple(
    ("cut", f"{name} {direction}") for name in HOST_NAMES for direction in DIRECTIONS
)


def draw(seed: int, *, with_cuts: bool) -> Iterator[Scenario]:
    """The scenarios of this seed, without an end: dealt like cards, so that each kind comes as often."""
    source = random.Random(seed)
    kinds = [*KINDS, *(CUTS if with_cuts else ())]
    while True:
        source.shuffle(kinds)
        for action, what in kinds:
            yield _make(source, action, what)


def _make(source: random.Random, action: Action, what: str) -> Scenario:
    delay_s = round(source.uniform(0, MOST_DELAY_S), 3)
    hold_s = round(source.uniform(*(ALL_HOLD_S if what == ALL else HOLD_S)), 3)
    number = source.choice((1, 2))
    beyond = source.choice(BEYOND)
    if action != "cut":
        return Scenario(action, what, (f"{what}-{number}" if what in {CATALOG, FRONT_END} else what,), delay_s, hold_s)
    host, way = what.split(" ")
    direction = next(each for each in DIRECTIONS if each == way)
    return Scenario(action, what, (host,), delay_s, hold_s, (beyond,), direction)
