"""The whole experiment: find the costs, check them against what was measured, then go further. Nothing is measured."""

import gc
import random
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

from client.latency import percentile
from eval.bench.results import Result as BenchResult
from eval.machine import describe_machine
from eval.scaling.costs import Costs, costs_of, measured
from eval.scaling.engine import Process
from eval.scaling.model import Doors, Numbers, Outcome, Setting, World
from eval.scaling.results import Bench, Check, Distance, Layout, Point, Popularity, Result, Series, Settings

ROUNDS = 6  # of finding costs and batch sizes together
LEAST_S = 0.25
FINDING_S = 2.0
CHECKED_S = 6.0
CROWDED_S = 1.0  # a trade waits for half a second then
PLACINGS = 101

SERIES: tuple[tuple[Doors, Popularity, Numbers], ...] = (
    ("own", "equal", "own sequences"),
    ("own", "equal", "blocks"),
    ("own", "equal", "one sequence"),
    ("own", "skewed", "own sequences"),
    ("own", "skewed, unplaced", "own sequences"),
    ("all", "equal", "own sequences"),
    ("all", "skewed", "own sequences"),
)

LAYOUTS: dict[Layout, tuple[frozenset[str], Numbers]] = {
    "customers": (frozenset({"door"}), "own sequences"),
    "front-ends": (frozenset({"customers"}), "own sequences"),
    "followers": (frozenset({"customers", "followers"}), "own sequences"),
    "numbers": (frozenset({"customers", "followers", "allocator"}), "one sequence"),
}


def steps(settings: Settings) -> int:
    """How often `on_step` is called."""
    return 2 + len(SERIES) + len(LAYOUTS)


def simulate(settings: Settings, bench: BenchResult, on_step: Callable[[str], object] = lambda _text: None) -> Result:
    """Simulate everything. Raises CannotDo when the benchmark lacks something."""
    began = time.monotonic()
    on_step("one shard, against what was measured")
    costs = find_costs(settings, bench)
    checks = [
        Check(
            measured=each,
            simulated=_point(run(Setting(connections=each.connections, cores=2), costs, settings, CHECKED_S)),
        )
        for each in measured(bench)
    ]
    on_step("one shard, more front-ends")
    crowd, patient = _together(settings, 1, settings.many), settings.model_copy(update={"warm_up_s": CROWDED_S})
    front_ends = {
        many: _point(run(replace(crowd, front_ends=many), costs, patient, max(CROWDED_S, _seconds(settings, 1))))
        for many in settings.front_ends_of_one
    }
    series = []
    for doors, popularity, numbers in SERIES:
        on_step(f"{doors} doors, {popularity}, {numbers}")
        series.append(_series(settings, costs, doors, popularity, numbers))
    distances = []
    for layout in LAYOUTS:
        on_step(f"two regions: {layout}")
        distances += [_distance(settings, costs, layout, far_ms) for far_ms in settings.far_ms]
    return Result(
        settings=settings,
        machine=describe_machine(),
        bench=Bench(command=bench.command, started_at=bench.started_at, machine=bench.machine),
        duration_s=round(time.monotonic() - began, 1),
        costs=costs,
        checks=checks,
        front_ends=front_ends,
        series=series,
        distances=distances,
    )


def find_costs(settings: Settings, bench: BenchResult) -> Costs:
    """Costs for which the simulated batches are those that the costs were found with."""
    most = measured(bench)[-1].connections
    sizes = {"front_end": most / 3, "leader": most / 3}
    for _ in range(ROUNDS):
        costs = costs_of(bench, sizes)
        outcome = run(Setting(connections=most, cores=2), costs, settings, FINDING_S)[1]
        sizes = {"front_end": _mean(outcome.front_end_batches), "leader": _mean(outcome.leader_batches)}
    return costs_of(bench, sizes)


def run(setting: Setting, costs: Costs, settings: Settings, seconds: float) -> tuple[World, Outcome, float]:
    """Simulate one setting: the world at the end, what came out, and the seconds that were looked at."""
    world = World(setting, costs, settings.seed, settings.warm_up_s)
    was_enabled = gc.isenabled()
    gc.disable()  # millions of closures that no collection would find anything in
    try:
        world.simulation.run(settings.warm_up_s + seconds)
    finally:
        if was_enabled:
            gc.enable()
    return world, world.outcome, seconds


def shares(popularity: Popularity, shards: int, stocks: int, seed: int) -> tuple[float, ...]:
    """Each shard's part of all trades."""
    if popularity == "equal":
        return (1 / shards,) * shards
    whole = sum(1 / place for place in range(1, stocks + 1))
    weights = [1 / place / whole for place in range(1, stocks + 1)]
    if popularity == "skewed":
        filled = [0.0] * shards
        for weight in weights:  # the most popular first, always to the shard that has least
            filled[filled.index(min(filled))] += weight
        return tuple(filled)
    source = random.Random(seed)
    placings = []
    for _ in range(PLACINGS):
        filled = [0.0] * shards
        for weight in weights:
            filled[source.randrange(shards)] += weight
        placings.append(tuple(filled))
    return sorted(placings, key=max)[PLACINGS // 2]  # as lucky as the median


def _series(settings: Settings, costs: Costs, doors: Doors, popularity: Popularity, numbers: Numbers) -> Series:
    points, hottest, few = {}, {}, {}
    patient = settings.model_copy(update={"warm_up_s": settings.skewed_warm_up_s})
    for shards in settings.shards:
        parts = shares(popularity, shards, settings.stocks, settings.seed)
        hottest[shards] = round(max(parts), 4)
        setting = _together(settings, shards, settings.customers, parts)
        setting = replace(setting, numbers=numbers, doors=doors)
        seconds = _seconds(settings, shards)
        points[shards] = _point(run(setting, costs, settings if popularity == "equal" else patient, seconds))
        if (doors, popularity) == ("own", "equal"):
            calm = replace(setting, connections=settings.few * shards)
            few[shards] = _point(run(calm, costs, settings, 2 * seconds))
    return Series(doors=doors, popularity=popularity, numbers=numbers, points=points, hottest=hottest, few=few)


def _together(settings: Settings, shards: int, customers: int, parts: tuple[float, ...] = (1.0,)) -> Setting:
    """Everything in one region, each process on a core of its own; so many customers for each shard."""
    return Setting(
        shards=shards,
        front_ends=settings.front_ends * shards,
        connections=customers * shards,
        think_s=settings.think_ms / 1e3,
        popularity=parts,
        delay_s=settings.delay_ms / 1e3,
    )


def _distance(settings: Settings, costs: Costs, layout: Layout, far_ms: float) -> Distance:
    far, numbers = LAYOUTS[layout]
    setting = replace(_together(settings, 1, settings.customers), numbers=numbers, far_s=far_ms / 1e3, far=far)
    # Far apart, a batch takes a while, and a second holds few of them.
    longer = settings.model_copy(update={"warm_up_s": settings.warm_up_s + 10 * far_ms / 1e3})
    _, outcome, seconds = run(setting, costs, longer, 2 * _seconds(settings, 1) + 60 * far_ms / 1e3)
    near, distant = outcome.seconds[False], outcome.seconds[True]
    return Distance(
        layout=layout,
        far_ms=far_ms,
        per_second=round((len(near) + len(distant)) / seconds, 1),
        near_p50_ms=_ms(median(near)),
        far_p50_ms=_ms(median(distant)),
    )


def _seconds(settings: Settings, shards: int) -> float:
    """Long enough for the trades wanted, when a shard does 2,000 a second."""
    return max(LEAST_S, settings.trades / (2_000 * shards))


def _point(ran: tuple[World, Outcome, float]) -> Point:
    world, outcome, seconds = ran
    taken = sorted(outcome.seconds[False] + outcome.seconds[True])
    processes = {
        "front-end": [each.process for each in world.front_ends],
        "leader": [each.leader.process for each in world.shards],
        "catalog": [each.catalog.process for each in world.shards],
        "allocator": [world.allocator.process],
    }
    return Point(
        per_second=round(len(taken) / seconds, 1),
        p50_ms=_ms(percentile(taken, 50)),
        p99_ms=_ms(percentile(taken, 99)),
        trades_in_a_batch=round(_mean(outcome.leader_batches), 1),
        busy={name: _busiest(each, world.simulation.now) for name, each in processes.items()},
    )


def _busiest(processes: list[Process], seconds: float) -> float:
    return round(max(each.busy_s for each in processes) / seconds, 3)


def _mean(values: list[int]) -> float:
    return sum(values) / len(values)


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 2)
