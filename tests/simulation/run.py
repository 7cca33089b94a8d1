"""One seed, from the start of a bazaar to the verdict on what its clients saw."""

import asyncio
import contextlib
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from eval.history import Evidence, Operation, check
from services.common.errors import Unavailable
from services.common.models import Entry, Stock
from tests.simulation.clients import Customer
from tests.simulation.faults import Faults
from tests.simulation.loop import SimulatedLoop
from tests.simulation.world import WALL_MS, Blow, World

FAULTS_S = 20.0
START_S = 3.0
SETTLE_S = 8.0
QUIET_S = 2.0
REST_S = 1.0
CUSTOMERS = 4


@dataclass
class Result:
    """What came out of one seed. faults: how many were drawn, those that were skipped included."""

    seed: int
    problems: list[str]
    trace: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    points: set[str] = field(default_factory=set)
    struck: Counter[tuple[str, Blow]] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)
    faults: int = 0


def run_seed(
    seed: int,
    *,
    faults_s: float = FAULTS_S,
    skip: Collection[int] = (),
    armed: Collection[tuple[str, Blow]] = (),
    on_etcd: bool = False,
) -> Result:
    """Simulate one seed. Processes that die in it leave their tasks behind: run each seed in a process of its own."""
    with _quiet(), tempfile.TemporaryDirectory(prefix="bazaar-simulation-", dir=_memory()) as folder:
        loop = SimulatedLoop()
        world = World(loop, seed, Path(folder), on_etcd=on_etcd)
        faults = Faults(world, seed, skip=skip, armed=armed)
        try:
            return loop.run_until_complete(_simulate(world, faults, seed, faults_s))
        finally:
            loop.bury()
            loop.close()


async def _simulate(world: World, faults: Faults, seed: int, faults_s: float) -> Result:
    loop = world.loop
    history: list[Operation] = []
    crowd = [Customer(world, number, history, 2) for number in range(1, CUSTOMERS + 1)]
    for name in world.processes:
        world.start(name)
    await _until(world, START_S, lambda: _is_level(world))
    stop = loop.time() + faults_s
    lives = [asyncio.ensure_future(customer.live(stop)) for customer in crowd]
    await faults.rage(stop)
    await faults.heal()
    world.note("all faults have stopped")
    await asyncio.wait(lives)
    await _until(world, SETTLE_S, lambda: _is_level(world))
    await asyncio.sleep(REST_S)
    quiet_since = loop.time()
    await asyncio.wait([asyncio.ensure_future(customer.live(quiet_since + QUIET_S)) for customer in crowd])
    await asyncio.sleep(REST_S)
    if world.etcd:
        await _up_to_date(world, faults)
    evidence = _evidence(world, faults, history, quiet_since)
    problems = [*faults.problems, *(check(evidence) if evidence else [])]
    counts = Counter(faults.counts)
    counts["operations"] = len(history)
    counts["answered"] = sum(1 for operation in history if operation.status)
    counts["entries"] = max((len(log) for log in evidence.logs.values()), default=0) if evidence else 0
    counts["simulated seconds"] = round(loop.time())
    result = Result(
        seed, problems, world.trace.hexdigest(), counts, world.points, faults.struck, world.story, faults.number
    )
    await world.close()
    return result


async def _until(world: World, limit_s: float, condition: Callable[[], bool]) -> None:
    end = world.loop.time() + limit_s
    while world.loop.time() < end and not condition():  # noqa: ASYNC110 - simulated time
        await asyncio.sleep(0.1)


def _is_level(world: World) -> bool:
    """Whether every process can do its job, and all logs are equal."""
    if any(not process.apps for process in world.processes.values()):
        return False
    states = {name: next(iter(process.apps.values())).state for name, process in world.processes.items()}
    replicas = [state.replica for name, state in states.items() if name.startswith("order")]
    front_ends = [state.front_end for name, state in states.items() if name.startswith("front-end")]
    catalogs = [state.catalog for name, state in states.items() if name.startswith("catalog")]
    is_ready = all(part.missing() is None for part in (*catalogs, *replicas, *front_ends))
    return is_ready and len({replica.log.fsynced_head.digest for replica in replicas}) == 1


async def _up_to_date(world: World, faults: Faults) -> None:
    """Let every catalog look at etcd, so that what it shows is what is there."""
    for catalog in world.catalogs:
        for app in catalog.apps.values():
            try:
                await app.state.catalog.refresh()
            except Unavailable:
                faults.say(f"{catalog.name} does not reach etcd although all faults have stopped")


def _evidence(world: World, faults: Faults, history: list[Operation], quiet_since: float) -> Evidence | None:
    logs: dict[str, list[Entry]] = {}
    initial: list[Stock] = []
    for name, process in world.processes.items():
        if name.startswith("order") and process.life is not None:
            log = next(iter(process.apps.values())).state.replica.log
            logs[name] = log._store.after(0, 10**9)
            initial = log.initial
    if any(catalog.life is None for catalog in world.catalogs) or not logs:
        faults.say("the catalog or all replicas are down although all faults have stopped")
        return None
    try:
        shown = [next(iter(catalog.apps.values())).state.catalog.stocks() for catalog in world.catalogs]
    except Unavailable as error:
        faults.say(f"a catalog is not ready although all faults have stopped: {error}")
        return None
    stocks = shown[0].stocks
    if any(each != shown[0] for each in shown):
        faults.say("the catalogs show different stocks")
    longest = max(logs.values(), key=len)
    decided_at = {entry.key: (entry.at + 1 - WALL_MS) / 1_000 for entry in longest}
    return Evidence(initial, logs, stocks, history, faults.starts, quiet_since, decided_at)


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
