"""`bazaar chaos --hosts` as an operator runs it, a few rounds; nothing is left when it is interrupted or killed."""

import asyncio
import json
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest

from eval.hosts.ground import check_namespaces
from services.cluster.errors import CannotDo
from tests.support.etcd_cluster import require_etcd
from tests.support.experiment import Experiment, experiment
from tests.support.patience import PATIENCE_S

THREE_KINDS = ["cut host-3 out", "kill host-2", "pause host-1"]
THREE_SEED = 5028
TWO_KINDS = ["pause etcd leader", "kill host-1"]
TWO_SEED = 506
HOLDERS = 3


def require_namespaces() -> None:
    """Skip the test where there are none."""
    try:
        check_namespaces()
    except CannotDo as error:
        pytest.skip(error.message)


def hosts(folder: Path, *flags: str) -> AbstractAsyncContextManager[Experiment]:
    """`bazaar chaos --hosts` with these flags."""
    require_etcd()
    return experiment(folder, "eval.chaos", "--hosts", *flags)


def has_begun(run: Experiment) -> bool:
    """Whether its bazaar can be used."""
    logs = [log.read_bytes() for log in run.data.glob("*/host-*/front-end-*.log")]
    return any(b"is the leader now" in log for log in logs)


def assert_passed(run: Experiment, ended: tuple[int, str, str], kinds: list[str]) -> dict[str, Any]:
    code, output, errors = ended
    assert (code, errors) == (0, ""), f"{code}\n{output}\n{errors}"
    report: dict[str, Any] = json.loads(output)
    assert (report["passed"], report["problems"], report["errors"]) == (True, [], [])
    assert [each["kind"] for each in report["rounds"]] == kinds
    assert report["counts"].keys() == {"trade", "look_up", "order"}
    assert report["verify"].startswith("3 of 3 replicas hold the same")
    assert report["verify"].endswith("through 2 catalogs")
    assert json.loads((run.results / "hosts.json").read_text()) == report
    assert (run.results / "hosts.png").read_bytes().startswith(b"\x89PNG")
    assert list(run.data.iterdir()) == [], "its data is gone"
    return report


@pytest.mark.slow
async def test_nothing_is_lost_and_trades_go_on_when_each_host_is_lost_in_turn(tmp_path: Path) -> None:
    require_namespaces()
    async with hosts(tmp_path, "--rounds", "3", "--seed", str(THREE_SEED)) as run:
        report = assert_passed(run, await run.end(), THREE_KINDS)
        assert all(each["everybody_ms"] >= each["first_trade_ms"] > 0 for each in report["rounds"])
        assert report["rounds"][1]["downtime_ms"].keys() == {"etcd-2", "catalog-2", "order-2", "front-end-2"}


@pytest.mark.slow
async def test_hosts_are_lost_without_namespaces_when_that_is_asked_for(tmp_path: Path) -> None:
    async with hosts(tmp_path, "--rounds", "2", "--seed", str(TWO_SEED), "--no-namespaces") as run:
        assert_passed(run, await run.end(), TWO_KINDS)


@pytest.mark.slow
async def test_nothing_is_left_when_it_is_interrupted(tmp_path: Path) -> None:
    require_namespaces()
    async with hosts(tmp_path, "--rounds", "1000", "--seed", str(THREE_SEED)) as run:
        await run.wait_until(lambda: has_begun(run))
        started = psutil.Process(run.process.pid).children()
        run.process.send_signal(signal.SIGINT)
        code, output, errors = await run.end()
        assert code == 130
        assert errors.startswith("stopping after this round")
        report = json.loads(output)
        assert (report["is_stopped"], report["problems"], report["errors"]) == (True, [], [])
        await assert_gone(started)


@pytest.mark.slow
async def test_no_process_and_no_network_is_left_when_it_is_killed(tmp_path: Path) -> None:
    require_namespaces()
    async with hosts(tmp_path, "--rounds", "1000", "--seed", str(THREE_SEED)) as run:
        await run.wait_until(lambda: has_begun(run))
        started = psutil.Process(run.process.pid).children()
        run.process.kill()
        code, *_ = await run.end()
        assert code == -signal.SIGKILL
        await assert_gone(started)


async def assert_gone(started: list[psutil.Process]) -> None:
    """What it had started is over, what holds the namespaces as well."""
    assert len(started) >= HOLDERS + 1
    _, left = await asyncio.to_thread(psutil.wait_procs, started, timeout=PATIENCE_S)
    assert left == []
