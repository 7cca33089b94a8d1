"""One process of a host over all its lives: started, killed, paused; an end that nobody asked for is noted."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from eval.processes import Failed
from services.cluster.service_log import open_log, tail

LAST_LINES = 10


class HostProcess:
    """The process of one part of a bazaar. `pid` is None while it is down."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.is_paused = False
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Its id, also when it has ended by itself."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it, with the data that it has."""
        assert self._process is None, f"{self.name} runs already"
        with open_log(self.log) as output:
            # In a session of its own: Ctrl-C reaches whoever breaks things, alone.
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )

    async def kill(self) -> None:
        """SIGKILL, and wait for the end; nothing when it is down."""
        await self._end(signal.SIGKILL)

    async def stop(self, patience_s: float) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._end(signal.SIGTERM)
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self.send(number)
        self.send(signal.SIGCONT)  # one that is paused hears nothing else
        await self._process.wait()
        self._process, self.is_paused = None, False

    def pause(self) -> None:
        """SIGSTOP."""
        self.send(signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)
        self.is_paused = False

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has just ended hears nothing."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def ended(self) -> None:
        """Return when it has ended, or is down."""
        if self._process is not None:
            await self._process.wait()

    def check(self) -> None:
        """Raise Failed when it has ended by itself: this is a verdict."""
        if self._process is not None and self._process.returncode is not None:
            last = "\n".join(tail(self.log)[-LAST_LINES:])
            raise Failed(f"{self.name} ended by itself, with status {self._process.returncode}:\n{last}")
