"""`bazaar chaos` as an operator runs it, a few rounds of it; and nothing is left when it is interrupted or killed."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.cluster import PATIENCE_S, POLL_EVERY_S, ROOT
from tests.support.ports import free_ports

FIVE_KINDS = {"kill catalog", "kill follower", "pause leader", "kill several", "kill leader"}
FIVE_SEED = 53
CUTS = {"cut leader from all", "cut front-end from catalog", "cut follower from all"}
CUTS_SEED = 174


class Chaos:
    """A run of its own folder: there are its results, its temporary data, and so the names of its processes."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.data = folder / "temporary"
        self.results = folder / "results"

    def processes(self) -> list[psutil.Process]:
        """Every live process of its bazaar."""
        mine = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.data) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    mine.append(process)
        return mine

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - other processes send no event
                await asyncio.sleep(POLL_EVERY_S)

    def has_traded(self) -> bool:
        """Whether its clients have begun: a log of the bazaar says that its cache has a session."""
        return any(b"the cache has a session" in log.read_bytes() for log in self.data.glob("*/logs/front-end-1.log"))

    async def end(self) -> tuple[int, str, str]:
        """Its exit code, stdout and stderr."""
        output, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, output.decode(), errors.decode()


@asynccontextmanager
async def chaos(folder: Path, *flags: str) -> AsyncIterator[Chaos]:
    """`bazaar chaos` with these flags. At the end it must be over, with all that it started."""
    run = Chaos(folder, await _launch(folder, *flags))
    try:
        yield run
        await run.wait_until(lambda: not run.processes())
    finally:
        if run.process.returncode is None:
            run.process.kill()
            await run.process.wait()
        for left in run.processes():
            with suppress(psutil.Error):
                left.kill()


async def _launch(folder: Path, *flags: str) -> asyncio.subprocess.Process:
    (folder / "temporary").mkdir()
    flags += ("--port", str(free_ports()), "--out", str(folder / "results"), "--json")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "eval.chaos", *flags),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder / "temporary")},
        process_group=0,
    )


def assert_passed(run: Chaos, ended: tuple[int, str, str], name: str, kinds: set[str]) -> None:
    code, output, errors = ended
    assert (code, errors) == (0, ""), f"{code}\n{output}\n{errors}"
    report: dict[str, Any] = json.loads(output)
    assert (report["passed"], report["problems"], report["errors"]) == (True, [], [])
    assert {each["kind"] for each in report["rounds"]} == kinds
    assert report["counts"].keys() == {"trade", "look_up", "order"}
    assert json.loads((run.results / f"{name}.json").read_text()) == report
    assert (run.results / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert list(run.data.iterdir()) == [], "its data is gone"


@pytest.mark.slow
async def test_no_client_sees_an_error_when_five_faults_strike(tmp_path: Path) -> None:
    async with chaos(tmp_path, "--rounds", "5", "--seed", str(FIVE_SEED)) as run:
        ended = await run.end()
        assert_passed(run, ended, "chaos", FIVE_KINDS)
        rounds = json.loads(ended[1])["rounds"]
        killed = next(each for each in rounds if each["kind"] == "kill catalog")
        assert killed["downtime_ms"]["catalog"] > 0


@pytest.mark.slow
async def test_no_client_sees_an_error_when_the_network_is_cut(tmp_path: Path) -> None:
    async with chaos(tmp_path, "--rounds", "3", "--seed", str(CUTS_SEED), "--partitions") as run:
        assert_passed(run, await run.end(), "chaos-partitions", CUTS)


@pytest.mark.slow
async def test_rounds_so_far_are_judged_when_chaos_is_interrupted(tmp_path: Path) -> None:
    async with chaos(tmp_path, "--rounds", "1000", "--seed", str(FIVE_SEED)) as run:
        await run.wait_until(run.has_traded)
        run.process.send_signal(signal.SIGINT)
        code, output, errors = await run.end()
        assert code == 130
        assert errors.startswith("stopping after this round")
        report = json.loads(output)
        assert (report["is_stopped"], report["problems"], report["errors"]) == (True, [], [])
        assert len(report["rounds"]) <= 2


@pytest.mark.slow
async def test_no_process_is_left_when_chaos_is_killed(tmp_path: Path) -> None:
    async with chaos(tmp_path, "--rounds", "1000", "--seed", str(FIVE_SEED)) as run:
        await run.wait_until(run.has_traded)
        run.process.kill()
        code, *_ = await run.end()
        assert code == -signal.SIGKILL
