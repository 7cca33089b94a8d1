"""A crash experiment from the start of its bazaar to the verdict."""

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from client.latency import percentile
from client.load import LoadReport, LoadSettings
from client.record import Request
from eval.chaos.judge import problems_on_disk
from eval.chaos.report import between, first_trade_ms, longest_ms, wait_ms
from eval.crash.files import Comparison, compare_files
from eval.crash.plan import Phase, Strike, Times, draw
from eval.crash.report import Kill, Report, Round, Seen, answer
from eval.crash.session import MANY, Session
from eval.crash.strike import Striker
from eval.crash.timeline import bins, strips
from eval.history import Kind, Operation
from eval.machine import describe_machine
from eval.processes import Failed, Processes, free_block, running
from eval.witness import History
from services.cluster.audit import verify_cluster
from services.cluster.topology import Cluster, Settings

KIND_OF: dict[Request, Kind] = {"stocks": "look_up", "look_up": "look_up", "trade": "trade", "order_query": "order"}
REST_S = 30.0  # for the heads to be equal after a round


@dataclass(frozen=True)
class CrashSettings:
    """What was asked for."""

    seed: int
    rounds: int = 12
    clients: int = 5
    p: float = 0.4
    times: Times = field(default_factory=Times)
    command: str = "bazaar evaluate crash"


@dataclass
class Run:
    """What a run is made of, while it goes on."""

    settings: CrashSettings
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    on_strike: Callable[[Strike], None] = lambda _: None
    on_round: Callable[[Round], None] = lambda _: None
    history: History = field(default_factory=History)
    rounds: list[Round] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    verify: str = "not reached"
    files: Comparison | None = None
    report: Report | None = None
    kept: Path | None = None  # the data folder of a run that failed
    started: float = 0.0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def run(self) -> None:
        """Do all rounds, or those until `stop` is set, and judge. Raises CannotDo when there is no bazaar."""
        data_dir = Path(tempfile.mkdtemp(prefix="bazaar-crash-"))
        try:
            # What dies stays down: the experiment brings it back.
            async with running(Settings(port=free_block(), restart="never"), data_dir) as processes:
                self.started = time.monotonic()
                try:
                    await self._rounds(processes)
                except Failed as failure:
                    self.problems.append(str(failure))
            self._judge(data_dir, processes.cluster)
            self.report = self._report()
            self.kept = None if self.report.passed else data_dir
        finally:
            if self.kept is None:
                shutil.rmtree(data_dir, ignore_errors=True)

    def _judge(self, data_dir: Path, cluster: Cluster) -> None:
        """The services have ended: what their files hold now is what is left."""
        self.problems += problems_on_disk(data_dir, cluster, self.history.operations)
        self.files = compare_files(data_dir, [each.name for each in cluster.of("order")])

    async def _rounds(self, processes: Processes) -> None:
        striker = Striker(processes)
        for strike in draw(self.settings.seed, self.settings.rounds, self.settings.times):
            if self.stop.is_set():
                return
            self.on_strike(strike)
            self.rounds.append(await self._round(strike, processes, striker))
            self.on_round(self.rounds[-1])

    async def _round(self, strike: Strike, processes: Processes, striker: Striker) -> Round:
        settings = self.settings
        load = LoadSettings(
            urls=(processes.cluster.of("front-end")[0].url,),
            clients=settings.clients,
            trade_probability=settings.p,
            iterations=MANY,
            seed=settings.seed + strike.number,
        )
        session, began = Session(load, self.history), time.monotonic()
        async with session.at_work():
            await session.work(strike.lead_s)
            if strike.phase == "check":
                await session.begin_check(strike.checked)
            killed = await striker.kill(strike.role)
            await self._while_it_is_down(strike, session)
            noticed_ms, selected_ms = await striker.noticed(killed)
            returned = await striker.bring_back(killed.victim)
            if strike.phase == "trades":
                await session.work(strike.rest_s)
            load_report = await session.end()
        ended = time.monotonic()
        files = await self._at_rest(strike.number, processes)
        operations = session.operations
        return Round(
            number=strike.number,
            phase=strike.phase,
            began_s=self._seconds(began),
            killed_s=self._seconds(killed.at),
            started_s=self._seconds(returned.started),
            level_s=self._seconds(returned.level),
            ended_s=self._seconds(ended),
            kill=Kill(
                victim=killed.victim,
                was_leader=killed.was_leader,
                noticed_ms=noticed_ms,
                selected_ms=selected_ms,
                first_ms=first_ms(operations, killed.at, strike.phase),
            ),
            back=returned.back,
            seen=seen(load_report, operations, killed.at, returned.level),
            verify=self.verify,
            files=files,
            strips=strips(operations, killed.at),
        )

    async def _while_it_is_down(self, strike: Strike, session: Session) -> None:
        if strike.phase == "trades":
            await session.work(strike.down_s)
        else:
            await asyncio.gather(session.end(), asyncio.sleep(strike.down_s))

    async def _at_rest(self, number: int, processes: Processes) -> Comparison:
        """No client is at work: prove what is there, by way of the services and in the files."""
        verdict = await verify_cluster(processes.cluster, processes.client, REST_S)
        self.verify = verdict.summary
        self.problems += [f"round {number}: verify: {problem}" for problem in verdict.problems]
        names = [each.name for each in processes.cluster.of("order")]
        return await asyncio.to_thread(compare_files, processes.data_dir, names)

    def _seconds(self, moment: float) -> float:
        return round(moment - self.started, 3)

    def _report(self) -> Report:
        settings = self.settings
        answers = answer(self.rounds, self.files)
        is_clean = not self.problems and not self.history.errors
        return Report(
            command=settings.command,
            seed=settings.seed,
            machine=describe_machine(),
            started_at=self.started_at,
            duration_s=round(time.monotonic() - self.started, 1),
            is_stopped=self.stop.is_set(),
            passed=is_clean and answers.files_are_the_same and all(each.passed for each in self.rounds),
            clients=settings.clients,
            p=settings.p,
            problems=self.problems,
            errors=self.history.errors,
            verify=self.verify,
            files=self.files,
            answers=answers,
            rounds=self.rounds,
            timeline=bins(self.history.operations, self.started),
        )


def first_ms(operations: Sequence[Operation], killed: float, phase: Phase) -> float | None:
    """From the kill until something that was sent after it was answered: a trade, or an order query in a check."""
    if phase == "trades":
        return first_trade_ms(operations, killed)
    ends = [each.ended for each in operations if each.kind == "order" and each.began >= killed and each.status]
    return round((min(ends) - killed) * 1_000, 1) if ends else None


def seen(report: LoadReport, operations: Sequence[Operation], killed: float, level: float) -> Seen:
    """What the clients saw in one round; moments are monotonic seconds."""
    counts = report.counts
    waits = sorted(wait_ms(each) for each in operations if each.kind == "trade" and each.ended < killed)
    return Seen(
        look_ups=counts.look_ups,
        acknowledged=counts.acknowledged,
        refused=counts.refused,
        checked=counts.checked,
        wrong=counts.wrong,
        errors=dict(Counter(KIND_OF[each.request] for each in report.errors)),
        retries=counts.retries,
        longest_ms=longest_ms(between(operations, killed, level)),
        usual_ms=percentile(waits, 99) if waits else None,
    )
