"""Many clients at once, and what they saw together.

`run_load` runs them as tasks of one process. An experiment that wants a process for each calls `run_client` there, and
`build_report` with all the records.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from client.addresses import addresses_of
from client.bazaar import PATIENCE_S, BazaarClient
from client.latency import LatencySummary, summarise
from client.progress import LiveProgress
from client.record import (
    Acknowledged,
    Event,
    FailedCheck,
    Kind,
    LongestTrade,
    OnEvent,
    SeenError,
    WorkloadRecord,
)
from client.workload import Workload
from services.common.models import Trade
from services.common.runtime import Runtime

MOST_CLIENTS = 1_000

KINDS: tuple[Kind, ...] = ("look_up_hit", "look_up_miss", "look_up_off", "trade", "order_query")


T = TypeVar("T")

MakeClient: TypeAlias = Callable[[int, Sequence[str]], BazaarClient]
"""Makes the client library of one client, from its number and its addresses, the one to begin with first."""


class LoadSettings(BaseModel):
    """What a load does. Client i draws from the random numbers of `seed` and i alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: tuple[str, ...] = Field(min_length=1)
    clients: int = Field(ge=1, le=MOST_CLIENTS)
    trade_probability: float = Field(ge=0, le=1)
    iterations: int = Field(ge=1)
    seed: int
    patience_s: float = Field(default=PATIENCE_S, gt=0)


class Counts(BaseModel):
    """How often each thing happened, over all clients."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    look_ups: int
    acknowledged: int
    refused: int
    checked: int
    wrong: int
    errors: int
    retries: int


class LoadReport(BaseModel):
    """What all clients saw together. As JSON it leaves out the raw `orders` and the `unknown` trades."""

    model_config = ConfigDict(extra="forbid")

    settings: LoadSettings
    started_at: datetime
    duration_s: float
    is_stopped: bool
    passed: bool
    counts: Counts
    cache_hit_ratio: float | None = Field(description="Hits among the look-ups that asked a cache; null when none did.")
    latencies: dict[Kind, LatencySummary]
    longest_trade: LongestTrade | None
    errors: list[SeenError]
    failed_checks: list[FailedCheck]
    orders: list[Acknowledged] = Field(default_factory=list, exclude=True, repr=False)
    unknown: list[Trade] = Field(default_factory=list, exclude=True, repr=False)


async def run_load(
    urls: Sequence[str],
    clients: int,
    p: float,
    iterations: int,
    seed: int | None = None,
    progress: bool = True,
    on_event: OnEvent | None = None,
    stop: asyncio.Event | None = None,
) -> LoadReport:
    """Run the lab's clients until all iterations are done, or `stop` is set, and all own orders are checked.

    `progress` shows a bar on stderr when that is a terminal. Raises BazaarClientError when the names of the stocks
    cannot be read, and ValueError for settings that make no sense; later errors are part of the report.
    """
    settings = LoadSettings(
        urls=addresses_of(urls),
        clients=clients,
        trade_probability=p,
        iterations=iterations,
        seed=random.SystemRandom().getrandbits(32) if seed is None else seed,
    )
    with ExitStack() as stack:
        listeners = [] if on_event is None else [on_event]
        if progress:
            listeners.append(stack.enter_context(LiveProgress(clients * iterations)))
        return await drive(settings, on_event=_to_all(listeners), stop=stop)


async def drive(
    settings: LoadSettings,
    *,
    runtime: Runtime | None = None,
    on_event: OnEvent | None = None,
    stop: asyncio.Event | None = None,
    make_client: MakeClient | None = None,
) -> LoadReport:
    """As `run_load`, in the world of `runtime` and without a display."""
    runtime = runtime or Runtime()
    stop = stop or asyncio.Event()
    started_ms, start = runtime.wall_ms(), runtime.monotonic()
    names = await _unless(stop, read_names(settings, runtime))
    tasks: list[asyncio.Task[WorkloadRecord]] = []
    if names is not None:
        async with asyncio.TaskGroup() as group:
            for number in range(settings.clients):
                work = run_client(
                    settings,
                    number,
                    names,
                    runtime=runtime,
                    on_event=on_event,
                    is_stopped=stop.is_set,
                    make_client=make_client,
                )
                tasks.append(group.create_task(work))
    return build_report(
        settings,
        [task.result() for task in tasks],
        started_at=datetime.fromtimestamp(started_ms / 1_000, UTC),
        duration_s=runtime.monotonic() - start,
        is_stopped=stop.is_set(),
    )


async def read_names(settings: LoadSettings, runtime: Runtime | None = None) -> list[str]:
    """The names of all stocks. Raises ValueError when there are none."""
    async with BazaarClient(*settings.urls, patience_s=settings.patience_s, runtime=runtime) as client:
        names = [stock.name async for stock in client.stocks()]
    if not names:
        raise ValueError("this bazaar has no stocks")
    return names


async def run_client(
    settings: LoadSettings,
    number: int,
    names: Sequence[str],
    *,
    runtime: Runtime | None = None,
    on_event: OnEvent | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
    make_client: MakeClient | None = None,
) -> WorkloadRecord:
    """Client `number` of a load, with connections of its own; it starts with another front-end than its neighbour."""
    first = number % len(settings.urls)
    urls = settings.urls[first:] + settings.urls[:first]
    made = (
        BazaarClient(*urls, patience_s=settings.patience_s, runtime=runtime)
        if make_client is None
        else make_client(number, urls)
    )
    async with made as client:
        workload = Workload(
            client,
            random.Random(f"{settings.seed}/{number}"),
            settings.trade_probability,
            settings.iterations,
            names,
            number=number,
            runtime=runtime,
            on_event=on_event,
        )
        return await workload.run(is_stopped)


def build_report(
    settings: LoadSettings,
    records: Sequence[WorkloadRecord],
    *,
    started_at: datetime,
    duration_s: float,
    is_stopped: bool = False,
) -> LoadReport:
    """Put the clients' records together, and check what only all of them can show: no order number was given twice."""
    seconds = {kind: [one for record in records for one in record.latencies.get(kind, ())] for kind in KINDS}
    hits, misses, off = len(seconds["look_up_hit"]), len(seconds["look_up_miss"]), len(seconds["look_up_off"])
    errors = sorted((error for record in records for error in record.errors), key=lambda error: error.at)
    failed = [one for record in records for one in record.failed_checks] + given_twice(records, started_at)
    orders = [acknowledged for record in records for acknowledged in record.acknowledged]
    return LoadReport(
        settings=settings,
        started_at=started_at,
        duration_s=round(duration_s, 3),
        is_stopped=is_stopped,
        passed=not errors and not failed,
        counts=Counts(
            look_ups=hits + misses + off,
            acknowledged=len(orders),
            refused=sum(record.refused for record in records),
            checked=sum(record.checked for record in records),
            wrong=len(failed),
            errors=len(errors),
            retries=sum(record.retries for record in records),
        ),
        cache_hit_ratio=hits / (hits + misses) if hits + misses else None,
        latencies={kind: summarise(values) for kind, values in seconds.items() if values},
        longest_trade=max(
            (record.longest_trade for record in records if record.longest_trade),
            key=lambda trade: trade.ms,
            default=None,
        ),
        errors=errors,
        failed_checks=failed,
        orders=sorted(orders),
        unknown=[trade for record in records for trade in record.unknown],
    )


def given_twice(records: Sequence[WorkloadRecord], at: datetime) -> list[FailedCheck]:
    """A failed check for every acknowledgement whose order number somebody else was given too."""
    times = Counter(acknowledged.number for record in records for acknowledged in record.acknowledged)
    return [
        FailedCheck(
            client=client,
            at=at,
            wrong="number_twice",
            number=acknowledged.number,
            key=acknowledged.key,
            expected="a number of its own",
            found=f"{times[acknowledged.number]} acknowledgements with this number",
        )
        for client, record in enumerate(records)
        for acknowledged in record.acknowledged
        if times[acknowledged.number] > 1
    ]


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, or None when `stop` is set before there is one."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.wait((working, stopping))
    return None if working.cancelled() else working.result()


def _to_all(listeners: Sequence[OnEvent]) -> OnEvent:
    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return tell
