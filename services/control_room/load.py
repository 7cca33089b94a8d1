"""The load control: runs the real load client, as a process of its own, one at a time and never without an end."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import Field

from services.cluster.errors import CannotDo
from services.common.models import Input, Message

MOST_CLIENTS = 50
LONGEST_S = 600
CHECKING_S = 60.0  # for the clients to check all their orders at the end
EARLY = "it was stopped before it had begun"
ENDLESS = 1_000_000  # look-ups of each client: the time is over long before


class LoadRequest(Input):
    """So many clients for so many seconds; each trades with probability `p` after a look-up."""

    clients: int = Field(5, ge=1, le=MOST_CLIENTS)
    p: Annotated[float, Field(ge=0, le=1)] = 0.4
    seconds: int = Field(60, ge=1, le=LONGEST_S)


class LoadView(Message):
    """The load as it is; `result` is what the last one found, `passed` None while that is not known."""

    state: Literal["idle", "running", "checking"] = "idle"
    request: LoadRequest | None = None
    result: str | None = None
    passed: bool | None = None


Tell = Callable[[LoadView, str | None], None]


class LoadControl:
    """Starts and stops the load. `tell` is called with each new view, and what happened if that is worth a sentence."""

    def __init__(self, urls: Sequence[str], env: Mapping[str, str], tell: Tell = lambda _view, _text: None) -> None:
        self.view = LoadView()
        self._urls = urls
        self._env = env
        self._tell = tell
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, request: LoadRequest) -> LoadView:
        """Start a load. Raises CannotDo while one runs."""
        if self._task is not None and not self._task.done():
            raise CannotDo("a load runs already; stop it first")
        self._stop.clear()
        text = f"started: {request.clients} clients, p = {request.p:g}, {request.seconds} s"
        self._become(LoadView(state="running", request=request), text)
        self._task = asyncio.create_task(self._run(request))
        return self.view

    def stop(self) -> LoadView:
        """Tell the clients to come to an end; they check their orders first."""
        self._stop.set()
        return self.view

    async def close(self) -> None:
        """End the load at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def command(self, request: LoadRequest) -> list[str]:
        """The command line of the load client."""
        flags = ["--clients", str(request.clients), "--p", f"{request.p:.6f}", "--iterations", str(ENDLESS), "--json"]
        return [sys.executable, "-m", "client", *(part for url in self._urls for part in ("--url", url)), *flags]

    async def _run(self, request: LoadRequest) -> None:
        process = await asyncio.create_subprocess_exec(
            *self.command(request),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=self._env,
            process_group=0,
        )
        reading = asyncio.create_task(process.communicate())
        try:
            output = await self._read(request, process, reading)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
            await asyncio.gather(reading, process.wait(), return_exceptions=True)
        was_early = not output and self.view.state == "checking" and process.returncode != -signal.SIGKILL
        report = LoadView(request=request, result=EARLY) if was_early else read_report(output, request)
        self._become(report, f"ended: {report.result}")

    def _become(self, view: LoadView, text: str | None = None) -> None:
        self.view = view
        self._tell(view, text)

    async def _read(
        self, request: LoadRequest, process: asyncio.subprocess.Process, reading: "asyncio.Task[tuple[bytes, bytes]]"
    ) -> bytes:
        """What the load client prints, after its time, or after it was told to stop."""
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((reading, stopping), timeout=request.seconds, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                self._become(self.view.model_copy(update={"state": "checking"}))
                process.send_signal(signal.SIGINT)
                await asyncio.wait((reading,), timeout=CHECKING_S)
        finally:
            stopping.cancel()
        return reading.result()[0] if reading.done() else b""


def read_report(output: bytes, request: LoadRequest) -> LoadView:
    """The load client's report in one line."""
    try:
        report: dict[str, Any] = json.loads(output)
        counts: dict[str, int] = report["counts"]
        result = (
            f"{counts['look_ups']:,} look-ups, {counts['acknowledged']:,} orders acknowledged, "
            f"{counts['checked']:,} checked, {counts['wrong']:,} wrong, {counts['errors']:,} errors"
        )
        passed = bool(report["passed"])
    except (ValueError, KeyError, TypeError):
        return LoadView(request=request, result="the load client gave no report", passed=False)
    return LoadView(request=request, result=result, passed=passed)
