"""An experiment of `eval` as a process of its own, and everything that it starts."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from tests.support.cluster import POLL_EVERY_S, ROOT
from tests.support.patience import PATIENCE_S


class Experiment:
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
        """Return when the condition holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - other processes send no event
                await asyncio.sleep(POLL_EVERY_S)

    def has_begun(self) -> bool:
        """Whether its bazaar can be used: a log says that its cache has a session, or that there is a leader."""
        words = (b"the cache has a session", b"is the leader now")
        logs = [log.read_bytes() for log in self.data.glob("*/logs/front-end-1.log")]
        return any(word in log for log in logs for word in words)

    async def end(self) -> tuple[int, str, str]:
        """Its exit code, stdout and stderr."""
        output, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, output.decode(), errors.decode()


@asynccontextmanager
async def experiment(folder: Path, module: str, *flags: str, has_results: bool = True) -> AsyncIterator[Experiment]:
    """`python -m module` with these flags. At the end it must be over, with all that it started."""
    out = ("--out", str(folder / "results")) if has_results else ()
    run = Experiment(folder, await _launch(folder, module, *flags, *out))
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


async def _launch(folder: Path, module: str, *flags: str) -> asyncio.subprocess.Process:
    (folder / "temporary").mkdir()
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *flags, "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder / "temporary")},
        process_group=0,
    )
