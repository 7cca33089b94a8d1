"""The API's description, held against what a running bazaar does."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from services.common.http import SECRET_HEADER
from tests.support.cluster import ROOT
from tests.support.system_bazaar import Bazaar

SEED = 7
EXAMPLES = 60  # of each operation, beside those that schemathesis derives from the description: about 20 s in all


async def schemathesis(url: str, folder: Path) -> tuple[int, str]:
    """Run it with all its checks; gives its exit status and what it says."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("st")),
        *("run", f"{url}/openapi.json", "--checks", "all", "--max-examples", str(EXAMPLES), "--seed", str(SEED)),
        *("--continue-on-failure", "--no-color"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,  # it leaves notes there
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.slow
async def test_schemathesis_finds_nothing_when_it_tries_all_that_is_described(bazaar: Bazaar, tmp_path: Path) -> None:
    paths = (await bazaar.http.get(f"{bazaar.url}/openapi.json")).json()["paths"]
    operations = sum(len(methods) for methods in paths.values())

    status, output = await schemathesis(bazaar.url, tmp_path)

    assert (status, "No issues found" in output) == (0, True), output
    assert f"Tested: {operations}" in output, output
    metrics = (await bazaar.http.get(f"{bazaar.url}/metrics")).text
    for route in ("/orders", "/orders/{number}", "/stocks/{name}", "/cache/{name}"):
        assert f'route="{route}",status="20' in metrics, f"{route} was never answered with what it is there for"


async def test_internal_listeners_describe_nothing_when_they_are_asked_with_the_secret(bazaar: Bazaar) -> None:
    topology = bazaar.cluster.topology
    headers = {SECRET_HEADER: (bazaar.cluster.data_dir / "secret").read_text().strip()}
    for url in [topology.control, *(each.internal_url for each in topology.services)]:
        for path in ("/openapi.json", "/docs", "/docs/assets/swagger-ui-bundle.js", "/redoc"):
            answer = await bazaar.http.get(url + path, headers=headers)
            assert answer.status_code == 404, (url, path)
