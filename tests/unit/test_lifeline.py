"""A service and the supervisor that it must not outlive."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]
SERVICE = "from services.common.lifeline import die_with_parent; die_with_parent(); print('on', flush=True); input()"
SUPERVISOR = f"""
import os, subprocess, sys
os.environ["BAZAAR_SUPERVISOR_PID"] = str(os.getpid())
subprocess.run([sys.executable, "-c", {SERVICE!r}])
"""


async def _start(code: str, **environment: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT, env=os.environ | environment
    )


async def test_service_dies_when_its_supervisor_is_killed() -> None:
    supervisor = await _start(SUPERVISOR)
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    assert await asyncio.wait_for(supervisor.stdout.readline(), PATIENCE_S) == b"on\n"
    supervisor.kill()
    # The service has the same standard output, which ends when it is gone; its standard input stays open until then.
    assert await asyncio.wait_for(supervisor.stdout.read(), PATIENCE_S) == b""
    supervisor.stdin.close()
    await supervisor.communicate()


async def test_service_does_not_start_when_its_supervisor_is_gone_already() -> None:
    service = await _start(SERVICE, BAZAAR_SUPERVISOR_PID="1")
    if os.getpid() == 1:
        pytest.skip("this test's own process id is 1")
    output, errors = await asyncio.wait_for(service.communicate(), PATIENCE_S)
    assert (service.returncode, output) == (1, b"")
    assert errors == b"the supervisor, process 1, is gone\n"


async def test_service_starts_when_it_has_no_supervisor() -> None:
    service = await _start(SERVICE)
    output, _ = await asyncio.wait_for(service.communicate(b"\n"), PATIENCE_S)
    assert (service.returncode, output) == (0, b"on\n")
