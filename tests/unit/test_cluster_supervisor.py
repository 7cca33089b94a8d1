"""Several supervised processes: order of starting and stopping, and what the operator may ask for."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from services.cluster.child import Child
from services.cluster.errors import CannotDo
from services.cluster.supervisor import Supervisor
from services.common.errors import NotFound
from tests.support.patience import PATIENCE_S

SLEEPER = "import time; time.sleep(60)"
NOTES_ITS_END = """
import signal, sys, time
def end(*_):
    with open(sys.argv[1], "a") as file: file.write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + "." + sys.argv[2], "w").close()
time.sleep(60)
"""

Make = Callable[..., Child]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes children; `ready` says whether they are."""

    def make_child(name: str, script: str = SLEEPER, *, ready: Callable[[], bool] = lambda: True) -> Child:
        async def probe() -> str | None:
            return None if ready() else "not yet"

        command = [sys.executable, "-c", script, str(tmp_path / "end"), name]
        return Child(name, command, log=tmp_path / f"{name}.log", env=os.environ, probe=probe)

    return make_child


def _pids(supervisor: Supervisor) -> list[int]:
    pids = [child.pid for child in supervisor.children.values()]
    assert None not in pids
    return [pid for pid in pids if pid is not None]


async def test_no_process_is_left_when_the_body_ends(make: Make) -> None:
    supervisor = Supervisor([[make("a")], [make("b"), make("c")]])
    async with asyncio.timeout(PATIENCE_S), supervisor.running():
        await supervisor.wait_settled()
        pids = _pids(supervisor)
    assert len(pids) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_no_process_is_left_when_the_body_fails(make: Make) -> None:
    supervisor = Supervisor([[make("a")]])
    pids: list[int] = []

    async def fail() -> None:
        async with asyncio.timeout(PATIENCE_S), supervisor.running():
            await supervisor.wait_settled()
            pids.extend(_pids(supervisor))
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert not psutil.pid_exists(pids[0])


async def test_callers_are_stopped_before_those_they_call(make: Make, tmp_path: Path) -> None:
    names = [["catalog"], ["order-1", "order-2"], ["front-end-1"]]
    groups = [[make(name, NOTES_ITS_END, ready=(tmp_path / f"end.{name}").exists) for name in group] for group in names]
    supervisor = Supervisor(groups)
    async with asyncio.timeout(PATIENCE_S), supervisor.running():
        await supervisor.wait_settled()
        await supervisor.drain()
        assert all(child.state == "down" for child in supervisor.children.values())
    ended = (tmp_path / "end").read_text().split()
    assert ended[0] == "front-end-1"
    assert sorted(ended[1:3]) == ["order-1", "order-2"]
    assert ended[3] == "catalog"


async def test_the_one_without_hope_is_named(make: Make) -> None:
    supervisor = Supervisor([[make("a")], [make("b", "raise SystemExit(1)", ready=lambda: False)]])
    async with asyncio.timeout(PATIENCE_S), supervisor.running():
        hopeless = await supervisor.wait_hopeless()
        assert hopeless.name == "b"


async def test_the_names_are_told_when_the_operator_names_none_of_them(make: Make) -> None:
    with pytest.raises(NotFound, match="a, b"):
        await Supervisor([[make("a")], [make("b")]]).act("c", "kill")


async def test_the_host_is_told_when_a_service_runs_on_another_one(make: Make) -> None:
    supervisor = Supervisor([[make("a")]], elsewhere={"order-3": "b"})
    with pytest.raises(CannotDo, match="order-3 runs on host b: do it there"):
        await supervisor.act("order-3", "kill")


async def test_nothing_is_started_again_when_the_bazaar_is_being_stopped(make: Make) -> None:
    supervisor = Supervisor([[make("a")]])
    async with asyncio.timeout(PATIENCE_S), supervisor.running():
        await supervisor.wait_settled()
        await supervisor.drain()
        with pytest.raises(CannotDo, match="being stopped"):
            await supervisor.act("a", "start")


async def test_the_operator_does_to_a_service_what_he_asks_for(make: Make) -> None:
    told: list[str] = []
    supervisor = Supervisor([[make("a")]], announce=lambda name, text: told.append(f"{name} {text}"))
    async with asyncio.timeout(PATIENCE_S), supervisor.running():
        await supervisor.wait_settled()
        assert [(await supervisor.act("a", action)).state for action in ("pause", "resume", "kill")] == [
            "paused", "running", "down",
        ]  # fmt: skip
        assert (await supervisor.act("a", "start")).pid is not None
    assert told == [
        "a was paused by the operator", "a goes on", "a was killed by the operator and stays down",
        "a was started by the operator",
    ]  # fmt: skip


async def test_process_is_another_one_when_it_was_restarted(make: Make, tmp_path: Path) -> None:
    supervisor = Supervisor([[make("a", NOTES_ITS_END, ready=(tmp_path / "end.a").exists), make("b")]])
    async with asyncio.timeout(PATIENCE_S), supervisor.running():
        await supervisor.wait_settled()
        (a, b) = _pids(supervisor)
        child = await supervisor.act("a", "restart")
        assert child.pid not in {a, None}
        assert supervisor.children["b"].pid == b
        assert (tmp_path / "end").read_text() == "a\n", "it was not asked to end, but killed"
