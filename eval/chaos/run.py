"""A chaos run from the start of its bazaar to the verdict."""

import asyncio
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from eval.chaos.faults import Blow, Faults
from eval.chaos.judge import problems_on_disk
from eval.chaos.load import Crowd, trading
from eval.chaos.network import Network
from eval.chaos.report import Report, Round, between, first_trade_ms, longest_ms, summarise_rounds, wait_ms
from eval.chaos.scenarios import Scenario, draw
from eval.machine import describe_machine
from eval.processes import Failed, Processes, free_block, running
from eval.witness import History
from services.cluster.audit import verify_cluster
from services.cluster.topology import Settings, plan

QUIET_OPERATIONS = 20  # of each client, after the last fault
REST_S = 30.0  # for the heads to be equal in the end


@dataclass(frozen=True)
class ChaosSettings:
    """What was asked for."""

    rounds: int
    seed: int
    clients: int
    front_ends: int
    partitions: bool
    port: int | None = None

    @property
    def command(self) -> str:
        """The command line that does the same."""
        flags = f"--rounds {self.rounds} --seed {self.seed} --clients {self.clients} --front-ends {self.front_ends}"
        return f"bazaar chaos {flags}" + (" --partitions" if self.partitions else "")


@dataclass
class Run:
    """What a run is made of, while it goes on."""

    settings: ChaosSettings
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    on_scenario: Callable[[Scenario], None] = lambda _: None
    on_round: Callable[[Round], None] = lambda _: None
    history: History = field(default_factory=History)
    rounds: list[Round] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    verify: str = "not reached"
    report: Report | None = None
    kept: Path | None = None  # the data folder of a run that failed
    started: float = field(default_factory=time.monotonic)  # the load, once it has
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def run(self) -> None:
        """Do all rounds, or those until `stop` is set, and judge. Raises CannotDo when there is no bazaar to break."""
        data_dir = Path(tempfile.mkdtemp(prefix="bazaar-chaos-"))
        try:
            quiet_since = await self._rage(data_dir)
            cluster = plan(Settings(front_ends=self.settings.front_ends))
            self.problems += problems_on_disk(data_dir, cluster, self.history.operations, quiet_since)
            self.report = self._report()
            if not self.report.passed:
                self.kept = data_dir
                _write_history(data_dir / "history.jsonl", self.history)
        finally:
            if self.kept is None:
                shutil.rmtree(data_dir, ignore_errors=True)

    async def _rage(self, data_dir: Path) -> float:
        """The part in which there is a bazaar; gives the moment since which all was quiet."""
        async with self._bazaar(data_dir) as (processes, network):
            urls = [service.url for service in processes.cluster.of("front-end")]
            async with trading(urls, self.settings.clients, self.history, self.settings.seed) as crowd:
                self.started = time.monotonic()
                quiet_since = float("inf")
                try:
                    await self._rounds(Faults(processes, network), crowd)
                    quiet_since = time.monotonic()
                    await crowd.everybody_done(QUIET_OPERATIONS)
                except Failed as failure:
                    self.problems.append(str(failure))
            verdict = await verify_cluster(processes.cluster, processes.client, REST_S)
            self.verify = verdict.summary
            self.problems += [f"verify: {problem}" for problem in verdict.problems]
            return quiet_since

    async def _rounds(self, faults: Faults, crowd: Crowd) -> None:
        scenarios = draw(self.settings.seed, self.settings.front_ends, partitions=self.settings.partitions)
        for number, scenario in enumerate(islice(scenarios, self.settings.rounds), start=1):
            if self.stop.is_set():
                return
            self.on_scenario(scenario)
            await crowd.everybody_done()
            wall, now = time.time(), time.monotonic()
            blow = await faults.strike(scenario)
            await crowd.everybody_done()
            struck_at = wall + blow.began - now
            self.rounds.append(self._round(number, scenario, blow, faults.noticed_ms(struck_at)))
            self.on_round(self.rounds[-1])

    def _round(self, number: int, scenario: Scenario, blow: Blow, noticed_ms: float | None) -> Round:
        operations = between(self.history.operations, blow.began, blow.level)
        return Round(
            number=number,
            kind=scenario.kind,
            hit=blow.hit,
            began_s=round(blow.began - self.started, 3),
            undone_s=round(blow.undone - self.started, 3),
            level_s=round(blow.level - self.started, 3),
            longest_ms=longest_ms(operations),
            trade_waits_ms=[wait_ms(each) for each in operations if each.kind == "trade"],
            first_trade_ms=first_trade_ms(self.history.operations, blow.began),
            noticed_ms=noticed_ms,
            downtime_ms={name: round(seconds * 1_000, 1) for name, seconds in blow.downtime_s.items()},
        )

    @asynccontextmanager
    async def _bazaar(self, data_dir: Path) -> AsyncIterator[tuple[Processes, Network | None]]:
        """A running bazaar, and the network between its processes when that is to be cut."""
        port = self.settings.port or free_block()
        wanted = Settings(port=port, front_ends=self.settings.front_ends)
        network = Network(plan(wanted)) if self.settings.partitions else None
        try:
            routes = await network.open() if network is not None else {}
            async with running(wanted.model_copy(update={"routes": routes}), data_dir) as processes:
                yield processes, network
        finally:
            if network is not None:
                await network.close()

    def _report(self) -> Report:
        operations, errors = self.history.operations, self.history.errors
        return Report(
            command=self.settings.command,
            seed=self.settings.seed,
            machine=describe_machine(),
            started_at=self.started_at,
            duration_s=round(time.monotonic() - self.started, 1),
            is_stopped=self.stop.is_set(),
            passed=not self.problems and not errors,
            counts=dict(Counter(each.kind for each in operations)),
            verify=self.verify,
            problems=self.problems,
            errors=errors,
            summaries=summarise_rounds(self.rounds, has_targets=not self.settings.partitions),
            rounds=self.rounds,
        )


def _write_history(path: Path, history: History) -> None:
    """All operations, one a line, for whoever looks into a run that failed."""
    with path.open("w", encoding="utf-8") as file:
        for operation in history.operations:
            file.write(json.dumps(asdict(operation)) + "\n")
