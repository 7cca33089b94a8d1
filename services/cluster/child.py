"""One service's process over all its lives: started, watched, started again, stopped.

    starting -> running        its /readyz answered 200
    paused                     stopped by a signal, whoever sent it
    down                       killed and kept down, or between two lives
    failed                     ended with status 3: the data contradict each other; never started again by itself

Everything here happens in one event loop. What an operator asks for (`_wanted`) and what the process does (`_process`)
are kept apart; `supervise` is the only place that brings the second in line with the first, so a command that comes in
the middle of a start or of a death needs no case of its own.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel

from services.cluster.errors import CannotDo
from services.cluster.service_log import last_critical, open_log, tail
from services.common.errors import FAILED_STATUS, NO_ROOM_STATUS

State = Literal["starting", "running", "paused", "down", "failed"]

STRIKES = {signal.SIGKILL: "was killed", signal.SIGSTOP: "was paused", signal.SIGTERM: "was stopped"}


class Strike(BaseModel):
    """The last blow to a process, in words, and when it fell, in milliseconds since 1970."""

    at_ms: int
    how: str


Probe = Callable[[], Awaitable[str | None]]
"""Asks the process whether it is ready: None when it is, else what is missing, in words."""

Announce = Callable[[str, str], None]
"""Tells the operator about a service: its name, what happened."""

FIRST_WAIT_S = 0.05  # before the first new start
LONGEST_WAIT_S = 2.0  # doubled up to this while the process keeps dying at once
AT_ONCE_S = 2.0  # a life shorter than this, and never ready, is "at once"
HOPELESS = 5  # so many first lives that end by themselves, never ready, and `up` gives up
PROBE_EVERY_S = 0.05
SIGNAL_PATIENCE_S = 2.0


class Child:
    """The process of one service."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        later_command: Sequence[str] | None = None,
        log: Path,
        env: Mapping[str, str],
        probe: Probe,
        restart: bool = True,
        announce: Announce = lambda _name, _text: None,
    ) -> None:
        self.name = name
        self.log = log
        self.restarts = 0
        self.missing: str | None = None  # what /readyz misses, while starting
        self.reason: str | None = None  # why it failed or is down
        self.strike: Strike | None = None
        self.settled = asyncio.Event()  # ready for the first time, or known not to become so
        self.hopeless = asyncio.Event()  # never ready, and ends by itself again and again
        self._early_deaths = 0
        self._command = list(command)
        self._later_command = list(later_command or command)  # once it has been ready
        self._env = dict(env)
        self._probe = probe
        self._restart = restart
        self._announce = announce
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._alive = asyncio.Event()
        self._gone = asyncio.Event()
        self._gone.set()
        self._hurry = asyncio.Event()  # ends the wait between two lives
        self._process: asyncio.subprocess.Process | None = None
        self._began = 0.0
        self._is_ready = False
        self._was_ready = False
        self._is_failed = False
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id, None while there is no process."""
        return self._process.pid if self._process is not None else None

    @property
    def state(self) -> State:
        """See the module."""
        if self._process is None:
            return "failed" if self._is_failed else "down"
        if is_stopped(self._process.pid):
            return "paused"
        return "running" if self._is_ready else "starting"

    @property
    def uptime_s(self) -> float | None:
        """Seconds since this life began."""
        return None if self._process is None else time.monotonic() - self._began

    async def supervise(self) -> None:
        """Keep the process as it is wanted, until cancelled."""
        wait_s = FIRST_WAIT_S
        while True:
            await self._wanted.wait()
            self._hurry.clear()
            began = time.monotonic()
            status = await self._live_once()
            if not self._wanted.is_set():
                continue
            self._note_strike("failed" if status == FAILED_STATUS else f"died ({describe_status(status)})")
            if status == FAILED_STATUS or not self._restart:
                self._give_up(status)
                continue
            if self._is_ready or time.monotonic() - began >= AT_ONCE_S:
                wait_s = FIRST_WAIT_S
            self._note_death(status, wait_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hurry.wait()
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            self.restarts += 1

    async def kill(self) -> None:
        """End the process at once and keep it down."""
        self._keep_down("killed by the operator")
        self._signal(signal.SIGKILL)
        await self._gone.wait()

    async def stop(self, grace_s: float) -> None:
        """Ask the process to end; after `grace_s` end it. It stays down."""
        self._keep_down("stopped")
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a paused process hears nothing else
        try:
            async with asyncio.timeout(grace_s):
                await self._gone.wait()
        except TimeoutError:
            await self.kill()

    async def start(self) -> None:
        """Start the process again, also when it had failed."""
        if self._process is None:
            self._is_failed = False
            self.reason = None
            self._wanted.set()
            self._hurry.set()
        await self._wait_for(self._alive.is_set, "did not start")

    async def pause(self) -> None:
        """Stop the process where it stands. Raises CannotDo when there is none."""
        self._must_live()
        self._signal(signal.SIGSTOP)
        await self._wait_for(lambda: self.state in {"paused", "down", "failed"}, "did not stop")

    async def resume(self) -> None:
        """Let a paused process go on. Raises CannotDo when there is none."""
        self._must_live()
        self._signal(signal.SIGCONT)
        await self._wait_for(lambda: self.state != "paused", "did not go on")

    def _must_live(self) -> None:
        if self._process is None:
            raise CannotDo(f"{self.name} is {self.state}: start it with: bazaar start {self.name}")

    async def _wait_for(self, done: Callable[[], bool], complaint: str) -> None:
        try:
            async with asyncio.timeout(SIGNAL_PATIENCE_S):
                while not done():  # noqa: ASYNC110 - the kernel sends no event for a stopped process of ours
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise CannotDo(f"{self.name} {complaint} within {SIGNAL_PATIENCE_S:.0f} s; see {self.log}") from None

    def _keep_down(self, reason: str) -> None:
        self._wanted.clear()
        self._hurry.set()
        self.settled.set()
        if not self._is_failed:
            self.reason = reason

    def _signal(self, number: signal.Signals) -> None:
        # Not Popen.send_signal: it reaps the process, and then asyncio never learns its exit status.
        if self._process is not None and self._process.returncode is None:
            if number in STRIKES:
                self._note_strike(STRIKES[number])
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def _note_strike(self, how: str) -> None:
        self.strike = Strike(at_ms=time.time_ns() // 1_000_000, how=how)

    async def _live_once(self) -> int | str:
        """One life; gives the exit status, negative for a signal, or why there was no life."""
        self._gone.clear()
        self._is_ready = False
        self.missing = None
        try:
            try:
                self._process = await self._spawn()
            except OSError as error:
                return f"could not be started: {error.strerror}"
            self._began = time.monotonic()
            self.reason = None
            self._alive.set()
            if not self._wanted.is_set():  # killed while it was being started
                self._signal(signal.SIGKILL)
            watch = asyncio.create_task(self._watch())
            try:
                return await self._process.wait()
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
        finally:
            if self._process is not None and self._process.returncode is None:
                self._signal(signal.SIGKILL)
                await self._process.wait()
            self._process = None
            self._alive.clear()
            self._gone.set()

    async def _spawn(self) -> asyncio.subprocess.Process:
        with open_log(self.log) as log:
            self._log_start = log.tell()
            # A process group of its own: Ctrl-C in the terminal reaches the supervisor alone, which drains in order.
            return await asyncio.create_subprocess_exec(
                *(self._later_command if self._was_ready else self._command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                process_group=0,
            )

    async def _watch(self) -> None:
        """Ask until the process is ready for the first time in this life."""
        while (missing := await self._probe()) is not None:
            self.missing = missing
            await asyncio.sleep(PROBE_EVERY_S)
        self.missing = None
        if self._was_ready:
            self._announce(self.name, "is running again")
        self._is_ready = self._was_ready = True
        self.settled.set()

    def _give_up(self, status: int | str) -> None:
        self._wanted.clear()
        self.settled.set()
        if status == FAILED_STATUS:
            self._is_failed = True
            self.reason = self._last_words() or f"see {self.log}"
            self._announce(self.name, f"failed and stays down: {self.reason}")
        else:
            self.reason = describe_status(status)
            self._announce(self.name, f"died ({self.reason}) and stays down; start it with: bazaar start {self.name}")

    def _note_death(self, status: int | str, wait_s: float) -> None:
        self.reason = describe_status(status)
        if not self._was_ready and not (isinstance(status, int) and status < 0):
            self._early_deaths += 1
            if self._early_deaths >= HOPELESS:
                self.hopeless.set()
        self._announce(self.name, f"died ({self.reason}); starting it again in {wait_s:.2g} s")

    def _last_words(self) -> str | None:
        """The last critical log line of this life, in words."""
        return last_critical(tail(self.log, self._log_start))


def is_stopped(pid: int) -> bool:
    """Whether this process is stopped by a signal."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def describe_status(status: int | str) -> str:
    """An exit status in words: `killed by SIGKILL`, `exit status 1`."""
    if isinstance(status, str):
        return status
    if status == NO_ROOM_STATUS:
        return "no room on the disk: make room"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
