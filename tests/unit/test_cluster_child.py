"""One supervised process over its lives, with real processes that do little."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest

from services.cluster import child as child_module
from services.cluster.child import Child, describe_status
from services.cluster.errors import CannotDo
from services.cluster.service_log import MAX_LOG_BYTES, last_critical, tail
from tests.support.patience import PATIENCE_S

SLEEPER = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


class Told:
    """What was announced; every word can be awaited."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._came = asyncio.Condition()

    def __call__(self, name: str, text: str) -> None:
        self.lines.append(f"{name} {text}")

        async def notify() -> None:
            async with self._came:
                self._came.notify_all()

        self._task = asyncio.ensure_future(notify())

    async def wait(self, words: str, times: int = 1) -> None:
        def is_told() -> bool:
            return sum(words in line for line in self.lines) >= times

        async with asyncio.timeout(PATIENCE_S), self._came:
            await self._came.wait_for(is_told)


Make = Callable[..., Child]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def make(tmp_path: Path, told: Told) -> AsyncIterator[Make]:
    """Makes a child from a script and supervises it until the test ends."""
    async with AsyncExitStack() as stack:

        def make_child(script: str, *, restart: bool = True, ready: bool = True) -> Child:
            async def probe() -> str | None:
                return None if ready else "not yet"

            child = Child(
                "it",
                [sys.executable, "-c", script],
                log=tmp_path / "logs" / "it.log",
                env=os.environ,
                probe=probe,
                restart=restart,
                announce=told,
            )
            task = asyncio.create_task(child.supervise())

            async def end() -> None:
                await child.kill()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

            stack.push_async_callback(end)
            return child

        yield make_child


async def _running(child: Child) -> int:
    async with asyncio.timeout(PATIENCE_S):
        await child.settled.wait()
    assert child.state == "running"
    assert child.pid is not None
    return child.pid


def _state(child: Child) -> str:
    return child.state


async def test_it_runs_when_its_probe_says_so(make: Make) -> None:
    child = make(SLEEPER)
    assert psutil.pid_exists(await _running(child))
    assert child.uptime_s is not None


async def test_it_is_starting_until_it_is_ready(make: Make) -> None:
    child = make(SLEEPER, ready=False)
    await child.start()
    assert child.state == "starting"


async def test_it_is_started_again_when_it_was_killed_from_outside(make: Make, told: Told) -> None:
    child = make(SLEEPER)
    pid = await _running(child)
    os.kill(pid, signal.SIGKILL)
    await told.wait("is running again")
    assert child.pid not in {pid, None}
    assert child.restarts == 1
    assert told.lines[0] == "it died (killed by SIGKILL); starting it again in 0.05 s"


async def test_the_wait_grows_while_it_keeps_dying_at_once(make: Make, told: Told) -> None:
    child = make("raise SystemExit(1)", ready=False)
    await told.wait("died", times=5)
    assert [line.rpartition(" in ")[2] for line in told.lines[:5]] == ["0.05 s", "0.1 s", "0.2 s", "0.4 s", "0.8 s"]
    assert child.hopeless.is_set()


async def test_the_wait_is_short_again_when_it_was_ready(make: Make, told: Told) -> None:
    child = make(SLEEPER)
    for life in range(1, 4):
        await told.wait("is running again", times=life - 1)
        os.kill(await _running(child), signal.SIGKILL)
        await told.wait("died", times=life)
    assert all(line.endswith("0.05 s") for line in told.lines if "died" in line)
    assert not child.hopeless.is_set()


async def test_the_wait_has_a_longest(make: Make, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "LONGEST_WAIT_S", 0.08)
    make("raise SystemExit(1)", ready=False)
    await told.wait("0.08 s", times=2)


async def test_it_stays_down_when_it_ends_with_status_3(make: Make, told: Told) -> None:
    line = '{"event": "integrity failure", "reason": "two logs differ", "level": "critical"}'
    child = make(f"import sys; print('noise'); print('''{line}''', file=sys.stderr); sys.exit(3)", ready=False)
    await told.wait("failed and stays down")
    assert child.state == "failed"
    assert child.reason == "integrity failure: two logs differ"
    assert child.pid is None
    assert child.settled.is_set()


async def test_it_runs_again_when_it_had_failed_and_the_operator_starts_it(
    make: Make, told: Told, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    child = make(f"import os, sys, time; os.path.exists({str(mark)!r}) and time.sleep(60); sys.exit(3)")
    await told.wait("failed")
    mark.touch()
    await child.start()
    assert child.pid is not None
    assert child.state in {"starting", "running"}
    assert child.reason is None


async def test_it_stays_down_when_nothing_is_to_be_restarted(make: Make, told: Told) -> None:
    child = make("raise SystemExit(5)", restart=False, ready=False)
    await told.wait("exit status 5")
    assert child.state == "down"
    assert child.reason == "exit status 5"
    assert child.settled.is_set()


async def test_it_stays_down_when_the_operator_killed_it(make: Make) -> None:
    child = make(SLEEPER)
    pid = await _running(child)
    await child.kill()
    assert not psutil.pid_exists(pid)
    assert (child.state, child.pid, child.reason) == ("down", None, "killed by the operator")
    await child.start()
    assert child.pid is not None


async def test_it_stays_down_when_it_is_killed_between_two_lives(
    make: Make, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "FIRST_WAIT_S", 60.0)
    child = make("raise SystemExit(1)", ready=False)
    await told.wait("died")
    await child.kill()
    assert child.state == "down"
    await child.start()  # at once, not after a minute
    assert len(told.lines) <= 2


async def test_no_process_is_left_when_it_is_killed_while_it_is_being_started(make: Make, told: Told) -> None:
    child = make(SLEEPER)
    await asyncio.sleep(0)  # the start is under way, and there is no process id yet
    assert child.pid is None
    await child.kill()
    assert (child.state, child.pid) == ("down", None)
    assert told.lines == []


async def test_it_stands_still_when_paused_and_goes_on_when_resumed(make: Make) -> None:
    child = make(SLEEPER)
    pid = await _running(child)
    await child.pause()
    assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
    assert _state(child) == "paused"
    await child.resume()
    assert _state(child) == "running"
    await child.resume()  # once more does no harm
    assert child.pid == pid


async def test_it_can_be_killed_when_paused(make: Make) -> None:
    child = make(SLEEPER)
    await _running(child)
    await child.pause()
    await child.kill()
    assert child.state == "down"


async def test_it_ends_by_itself_when_paused_and_stopped(make: Make) -> None:
    child = make(SLEEPER)
    await _running(child)
    await child.pause()
    async with asyncio.timeout(PATIENCE_S):
        await child.stop(grace_s=60)
    assert child.state == "down"


async def test_it_is_killed_when_it_does_not_stop_in_time(make: Make) -> None:
    child = make(STUBBORN)
    await _running(child)
    async with asyncio.timeout(PATIENCE_S):
        await child.stop(grace_s=0.05)
    assert child.state == "down"


@pytest.mark.parametrize("action", ["pause", "resume"])
async def test_the_operator_is_told_when_there_is_nothing_to_pause(make: Make, action: str) -> None:
    child = make(SLEEPER)
    await _running(child)
    await child.kill()
    with pytest.raises(CannotDo, match="bazaar start it"):
        await getattr(child, action)()


async def test_starting_does_nothing_when_it_runs(make: Make) -> None:
    child = make(SLEEPER)
    pid = await _running(child)
    await child.start()
    assert child.pid == pid


async def test_a_command_that_does_not_exist_is_a_death(tmp_path: Path, told: Told) -> None:
    async def probe() -> str | None:
        return None

    child = Child(
        "it", [str(tmp_path / "no such program")], log=tmp_path / "it.log", env={}, probe=probe, announce=told
    )
    task = asyncio.create_task(child.supervise())
    await told.wait("could not be started: No such file or directory")
    await child.kill()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_its_output_goes_to_its_log_and_a_large_log_is_put_aside(make: Make, told: Told, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "it.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    make("print('out'); import sys; print('err', file=sys.stderr)", restart=False)
    await told.wait("stays down")
    assert sorted(log.read_text().split()) == ["err", "out"]
    assert (tmp_path / "logs" / "it.log.1").stat().st_size == MAX_LOG_BYTES + 1


def test_the_tail_of_a_log_is_short_and_begins_where_it_is_told(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\nnew\n")
    assert tail(log) == ["old", "new"]
    assert tail(log, 4) == ["new"]
    assert tail(tmp_path / "none") == []


def test_the_last_critical_line_is_found_among_others() -> None:
    lines = ['{"level": "critical", "event": "a"}', "text", "[1]", '{"level": "info", "event": "b"}', "5"]
    assert last_critical(lines) == "a"
    assert last_critical(lines[1:]) is None


def test_exit_statuses_are_told_in_words() -> None:
    assert [describe_status(each) for each in (0, 1, 4, -9, -200, "no such file")] == [
        "exit status 0", "exit status 1", "no room on the disk: make room", "killed by SIGKILL",
        "killed by signal 200", "no such file",
    ]  # fmt: skip
