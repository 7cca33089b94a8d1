"""Run seeds: `python -m tests.simulation 0-99`, or one with its story: `python -m tests.simulation 17 --story`."""

import asyncio
import contextlib
import gc
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from eval.history import Evidence, Operation, check
from services.common.models import Entry, Stock
from tests.simulation.clients import Customer
from tests.simulation.faults import Faults
from tests.simulation.loop import SimulatedLoop
from tests.simulation.world import World

FAULTS_S = 20.0
SETTLE_S = 8.0
QUIET_S = 3.0
CUSTOMERS = 4


@dataclass
class Result:
    """What came out of one seed."""

    seed: int
    problems: list[str]
    operations: int
    answered: int
    trace: str
    counts: dict[str, int]
    points: set[str] = field(default_factory=set)
    story: list[str] = field(default_factory=list)
    entries: int = 0


def run_seed(seed: int, *, faults_s: float = FAULTS_S, customers: int = CUSTOMERS) -> Result:
    """Simulate one seed from beginning to end."""
    with _quiet(), tempfile.TemporaryDirectory(prefix="bazaar-simulation-", dir=_memory()) as folder:
        loop = SimulatedLoop()
        try:
            return loop.run_until_complete(_simulate(loop, seed, Path(folder), faults_s, customers))
        finally:
            loop.bury()
            gc.collect()
            loop.close()


async def _simulate(loop: SimulatedLoop, seed: int, folder: Path, faults_s: float, customers: int) -> Result:
    world = World(loop, seed, folder)
    faults = Faults(world)
    history: list[Operation] = []
    crowd = [Customer(world, number, history, 2) for number in range(1, customers + 1)]
    for name in world.processes:
        world.start(name)
    await asyncio.sleep(3.0)
    stop = loop.time() + faults_s
    lives = [asyncio.ensure_future(customer.live(stop)) for customer in crowd]
    await faults.rage(stop)
    await faults.heal()
    world.note("all faults have stopped")
    await asyncio.wait(lives)
    await asyncio.sleep(SETTLE_S)
    quiet_since = loop.time()
    await asyncio.wait([asyncio.ensure_future(customer.live(quiet_since + QUIET_S)) for customer in crowd])
    await asyncio.sleep(2.0)
    evidence = _evidence(world, faults, history, quiet_since)
    problems = [*faults.problems(), *(check(evidence) if evidence else [])]
    result = Result(
        seed,
        problems,
        len(history),
        sum(1 for op in history if op.status),
        world.trace.hexdigest(),
        dict(faults.counts),
        world.points,
        world.story,
        max((len(log) for log in evidence.logs.values()), default=0) if evidence else 0,
    )
    await world.close()
    return result


def _evidence(world: World, faults: Faults, history: list[Operation], quiet_since: float) -> Evidence | None:
    logs: dict[str, list[Entry]] = {}
    initial: list[Stock] = []
    for name, process in world.processes.items():
        if name.startswith("order") and process.life is not None:
            log = next(iter(process.apps.values())).state.replica.log
            logs[name] = log._store.after(0, 10**9)
            initial = log.initial
    catalog = world.processes["catalog"]
    if catalog.life is None or not logs:
        faults.say("the catalog or all replicas are down although all faults have stopped")
        return None
    stocks = next(iter(catalog.apps.values())).state.catalog.stocks().stocks
    return Evidence(initial, logs, stocks, history, faults.starts(), quiet_since)


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - files in memory, in a folder of their own


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No logs, and no complaints about tasks that died with their process."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    logging.disable(logging.CRITICAL)
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
        logging.disable(logging.NOTSET)
        structlog.reset_defaults()
