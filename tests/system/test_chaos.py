"""`bazaar chaos` as an operator runs it, a few rounds of it; and nothing is left when it is interrupted or killed."""

import json
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.experiment import Experiment, experiment
from tests.support.ports import free_ports

FIVE_KINDS = {"kill catalog", "kill follower", "pause leader", "kill several", "kill leader"}
FIVE_SEED = 53
CUTS = {"cut leader from all", "cut front-end from catalog", "cut follower from all"}
CUTS_SEED = 174


def chaos(folder: Path, *flags: str) -> AbstractAsyncContextManager[Experiment]:
    """`bazaar chaos` with these flags."""
    return experiment(folder, "eval.chaos", *flags, "--port", str(free_ports()))


def assert_passed(run: Experiment, ended: tuple[int, str, str], name: str, kinds: set[str]) -> None:
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
        await run.wait_until(run.has_begun)
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
        await run.wait_until(run.has_begun)
        run.process.kill()
        code, *_ = await run.end()
        assert code == -signal.SIGKILL
