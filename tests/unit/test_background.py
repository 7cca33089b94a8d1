"""The end of a process comes whatever the state of its disk."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio
from services.common.background import background
from services.common.errors import IntegrityFailure
from services.common.logs import set_up_logs
from services.common.runtime import Runtime

async def fail():
    raise {error}("as the test wants it")

async def main():
    async with background(Runtime(), fail()):
        await asyncio.sleep(60)

set_up_logs("test")
asyncio.run(main())
"""


@pytest.mark.parametrize(("error", "status"), [("RuntimeError", 1), ("IntegrityFailure", 3)])
@pytest.mark.parametrize("stderr", ["/dev/null", "/dev/full"])
def test_the_process_ends_when_background_work_fails(error: str, status: int, stderr: str) -> None:
    with Path(stderr).open("w", encoding="utf-8") as file:
        command = [sys.executable, "-c", SCRIPT.format(error=error)]
        done = subprocess.run(command, stderr=file, timeout=50, check=False)

    assert done.returncode == status
