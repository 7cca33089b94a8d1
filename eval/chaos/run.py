"""A chaos run from the start of its bazaar to the verdict."""

import asyncio
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from eval.chaos.faults import Blow
from eval.chaos.load import Crowd, trading
from eval.chaos.report import (
    Report,
    Round,
    between,
    everybody_ms,
    first_trade_ms,
    longest_ms,
    no_trade_ms,
    summarise_rounds,
    wait_ms,
)
from eval.chaos.scenarios import Scenario
from eval.chaos.stage import OneMachine, Stage, World
from eval.machine import describe_machine
from eval.processes import Failed
from eval.witness import History

QUIET_OPERATIONS = 20  # of each client, after the last fault


@dataclass(frozen=True)
class ChaosSettings:
    """What was asked for. command: the command line that does the same; name: of the result's files."""

    rounds: int
    seed: int
    clients: int
    command: str
    name: str = "chaos"


def on_one_machine(
    rounds: int, seed: int, clients: int, front_ends: int, port: int | None, *, partitions: bool
) -> "Run":
    """A run on the processes of one `bazaar up`."""
    flags = f"--rounds {rounds} --seed {seed} --clients {clients} --front-ends {front_ends}"
    command = f"bazaar chaos {flags}" + (" --partitions" if partitions else "")
    settings = ChaosSettings(rounds, seed, clients, command, "chaos-partitions" if partitions else "chaos")
    return Run(settings, OneMachine(seed, front_ends, port, partitions=partitions))


@dataclass
class Run:
    """What a run is made of, while it goes on."""

    settings: ChaosSettings
    stage: Stage
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
            self.problems += self.stage.problems_on_disk(data_dir, self.history.operations, quiet_since)
            self.report = self._report()
            if not self.report.passed:
                self.kept = data_dir
                _write_history(data_dir / "history.jsonl", self.history)
        finally:
            if self.kept is None:
                shutil.rmtree(data_dir, ignore_errors=True)

    async def _rage(self, data_dir: Path) -> float:
        """The part in which there is a bazaar; gives the moment since which all was quiet."""
        settings, stage = self.settings, self.stage
        async with stage.bazaar(data_dir) as world:
            async with trading(
                world.urls, settings.clients, self.history, settings.seed, stage.patience_s, stage.readers
            ) as crowd:
                self.started = time.monotonic()
                quiet_since = float("inf")
                try:
                    await self._rounds(world, crowd)
                    quiet_since = time.monotonic()
                    await crowd.everybody_done(QUIET_OPERATIONS)
                except Failed as failure:
                    self.problems.append(str(failure))
            self.verify, problems = await world.verify()
            self.problems += [f"verify: {problem}" for problem in problems]
            return quiet_since

    async def _rounds(self, world: World, crowd: Crowd) -> None:
        for number, scenario in enumerate(islice(self.stage.scenarios(), self.settings.rounds), start=1):
            if self.stop.is_set():
                return
            self.on_scenario(scenario)
            await crowd.everybody_done()
            wall, now = time.time(), time.monotonic()
            blow = await world.strike(scenario)
            await crowd.everybody_traded(blow.began)
            struck_at = wall + blow.began - now
            self.rounds.append(self._round(number, scenario, blow, world.noticed_ms(struck_at)))
            self._check_bound(self.rounds[-1], blow)
            self.on_round(self.rounds[-1])

    def _check_bound(self, each: Round, blow: Blow) -> None:
        """Everybody trades again in time: after the fault, or once all is level where nobody could trade before."""
        bound_s = self.stage.bound_s
        if bound_s is None or each.everybody_ms is None:
            return
        waited_s = each.everybody_ms / 1_000 - (blow.level - blow.began if blow.is_total else 0.0)
        if waited_s > bound_s:
            self.problems.append(f"K9: round {each.number}, {each.kind}: a client did not trade for {waited_s:.1f} s")

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
            everybody_ms=everybody_ms(self.history.operations, blow.began),
            no_trade_ms=no_trade_ms(self.history.operations, blow.began, blow.level),
            etcd_ms=blow.etcd_ms,
            noticed_ms=noticed_ms,
            downtime_ms={name: round(seconds * 1_000, 1) for name, seconds in blow.downtime_s.items()},
        )

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
            summaries=summarise_rounds(self.rounds, has_targets=self.stage.has_targets),
            rounds=self.rounds,
        )


def _write_history(path: Path, history: History) -> None:
    """All operations, one a line, for whoever looks into a run that failed."""
    with path.open("w", encoding="utf-8") as file:
        for operation in history.operations:
            file.write(json.dumps(asdict(operation)) + "\n")
