"""An experiment from its first bazaar to its result: block after block, run after run."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from client.errors import BazaarClientError
from client.latency import LatencySummary, summarise
from client.load import LoadReport, LoadSettings, build_report, read_names
from client.record import WorkloadRecord
from eval.bench.commit import commit_ms
from eval.latency.bazaars import Bazaar, bazaar, mode_of, switch, used
from eval.latency.client import Job
from eval.latency.clients import Clients, Seen, started
from eval.latency.results import AnyKind, CacheMode, LatencySettings, Rest, Result, Run
from eval.latency.schedule import Block, Condition, schedule
from eval.machine import describe_machine
from services.cluster.errors import CannotDo

MOST_PROBLEMS = 20  # more are not noted: they have one cause
LOOK_UPS = ("look_up_hit", "look_up_miss", "look_up_off")


class Experiment:
    """One experiment. on_step: told in words what is done next."""

    def __init__(self, settings: LatencySettings) -> None:
        self.on_step: Callable[[str], None] = lambda _: None
        self.result = Result(
            command=settings.command,
            machine=describe_machine(),
            started_at=datetime.now(UTC),
            settings=settings,
        )
        self._began = time.monotonic()

    @property
    def steps(self) -> int:
        """How often `on_step` is called."""
        return sum(len(block.conditions) for block in schedule(self.result.settings))

    async def run(self) -> Result:
        """Try every condition in every repetition. Raises CannotDo when that is not possible."""
        settings = self.result.settings
        async with AsyncExitStack() as stack:
            if settings.switch_cache:
                stack.push_async_callback(switch, settings.switch_cache, "on")
            elif settings.urls:
                settings = settings.model_copy(update={"caches": (await mode_of(settings.urls),)})
                self.result.settings = settings
            clients = await stack.enter_async_context(started(settings.clients))
            for block in schedule(settings):
                await self._block(block, clients)
        self.result.duration_s = round(time.monotonic() - self._began, 1)
        self.result.passed = not self.result.problems
        return self.result

    async def _block(self, block: Block, clients: Clients) -> None:
        settings = self.result.settings
        if not settings.urls:
            self.result.commits_ms.append(round(await asyncio.to_thread(commit_ms), 4))
        async with bazaar(settings, block.cache) as visited:
            try:
                names = await read_names(_load_settings(settings, visited, block.conditions[0]))
            except (BazaarClientError, ValueError) as error:
                raise CannotDo(f"{', '.join(visited.urls)}: {error}") from error
            await self._rest(block, visited)
            for number, condition in enumerate(block.conditions, start=1):
                self.on_step(_words(block, condition, f"{number} of {len(block.conditions)}"))
                await clients.prepare(jobs(settings, visited.urls, condition, names))
                before = await visited.meter()
                seen = await clients.run()
                usage = used(before, await visited.meter())
                report = _report(settings, visited, condition, seen)
                self._note(problems_of(report, block.cache), _words(block, condition, "clients"))
                self.result.runs.append(
                    Run(
                        repetition=block.repetition,
                        cache=block.cache,
                        **condition._asdict(),
                        duration_s=report.duration_s,
                        counts=report.counts,
                        of_all=summaries(seen.records),
                        of_clients=[summaries([record]) for record in seen.records],
                        usage=usage,
                    )
                )
            verdict = await visited.verify()
        if verdict is not None:
            self.result.verified.append(verdict.summary)
            self._note(verdict.problems, f"repetition {block.repetition}, cache {block.cache}, verify")

    async def _rest(self, block: Block, visited: Bazaar) -> None:
        """Watch for a while what the bazaar uses when nobody asks it anything."""
        before = await visited.meter()
        if before is None:
            return
        await asyncio.sleep(self.result.settings.rest_s)
        usage = used(before, await visited.meter())
        assert usage is not None
        self.result.rests.append(Rest(repetition=block.repetition, cache=block.cache, usage=usage))

    def _note(self, problems: Sequence[str], where: str) -> None:
        room = MOST_PROBLEMS - len(self.result.problems)
        self.result.problems += [f"{where}: {problem}" for problem in problems[: max(room, 0)]]


def jobs(settings: LatencySettings, urls: tuple[str, ...], condition: Condition, names: Sequence[str]) -> list[Job]:
    """What each client is to do. Together they warm up with every stock once, so that the cache is full."""
    return [
        Job(
            urls=urls,
            number=number,
            seed=condition.seed,
            trade_probability=condition.trade_probability,
            iterations=settings.iterations,
            names=list(names),
            warm_up=list(names[number :: settings.clients]) or [names[0]],
            round_trip_s=condition.round_trip_ms / 1_000,
            per_second=None if settings.rate is None else settings.rate / settings.clients,
        )
        for number in range(settings.clients)
    ]


def summaries(records: Sequence[WorkloadRecord]) -> dict[AnyKind, LatencySummary]:
    """Latencies by kind of request, and of all look-ups together."""
    seconds: dict[AnyKind, list[float]] = {}
    for record in records:
        for kind, values in record.latencies.items():
            seconds.setdefault(kind, []).extend(values)
            if kind in LOOK_UPS:
                seconds.setdefault("look_up", []).extend(values)
    return {kind: summarise(values) for kind, values in sorted(seconds.items())}


def _load_settings(settings: LatencySettings, visited: Bazaar, condition: Condition) -> LoadSettings:
    return LoadSettings(
        urls=visited.urls,
        clients=settings.clients,
        trade_probability=condition.trade_probability,
        iterations=settings.iterations,
        seed=condition.seed,
    )


def _report(settings: LatencySettings, visited: Bazaar, condition: Condition, seen: Seen) -> LoadReport:
    return build_report(
        _load_settings(settings, visited, condition), seen.records, started_at=seen.started_at, duration_s=seen.seconds
    )


def problems_of(report: LoadReport, cache: CacheMode) -> list[str]:
    """Every wrong answer and every error that reached a client, in words."""
    counts = report.counts
    problems = [f"order {each.number}: expected {each.expected}, found {each.found}" for each in report.failed_checks]
    problems += [f"{each.request} ({each.subject}): {each.kind}: {each.message}" for each in report.errors]
    if counts.checked != counts.acknowledged:
        problems.append(f"{counts.acknowledged:,} orders acknowledged, but {counts.checked:,} checked")
    if (cache == "off") != ("look_up_off" in report.latencies):
        problems.append(f"the cache was to be {cache}, and was not")
    return problems


def _words(block: Block, condition: Condition, what: str) -> str:
    distance = f", {condition.round_trip_ms:g} ms away" if condition.round_trip_ms else ""
    return (
        f"repetition {block.repetition}, cache {block.cache}, p = {condition.trade_probability:.0%}{distance}, {what}"
    )
