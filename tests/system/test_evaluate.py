"""`bazaar evaluate` as it is run, with very few requests; and nothing is left when it is interrupted."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from eval.latency.results import Result
from tests.support.cluster import PATIENCE_S, POLL_EVERY_S, ROOT
from tests.support.system_bazaar import Bazaar


async def launch(folder: Path, *flags: str) -> asyncio.subprocess.Process:
    """`bazaar evaluate`; the data of its bazaars is below `folder`, so they can be found by their names."""
    (folder / "temporary").mkdir()
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cluster", "evaluate", *flags, "--out", str(folder / "results"), "--json"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder / "temporary")},
        process_group=0,
    )


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every live process of a bazaar whose data is below `folder`."""
    mine = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(folder / "temporary") in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                mine.append(process)
    return mine


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - other processes send no event
            await asyncio.sleep(POLL_EVERY_S)


async def result_of(process: asyncio.subprocess.Process) -> Result:
    """What it printed; it must have ended well, and said nothing else."""
    output, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, ""), output.decode()
    return Result.model_validate_json(output)


@pytest.mark.slow
async def test_both_modes_are_measured_and_every_order_is_checked_when_latency_is_evaluated(tmp_path: Path) -> None:
    flags = ("latency", "--quick", "--p", "1", "--iterations", "8", "--clients", "2")
    result = await result_of(await launch(tmp_path, *flags))
    assert Result.model_validate_json((tmp_path / "results" / "latency.json").read_text()) == result
    assert {each.name for each in (tmp_path / "results").iterdir()} == {"latency.json", "latency.png", "cache.png"}
    assert result.command == f"bazaar evaluate {' '.join(flags)}"
    on, off = sorted(result.runs, key=lambda run: run.cache, reverse=True)
    assert on.counts.look_ups == off.counts.look_ups == 16
    assert all(each.counts.checked == each.counts.acknowledged > 0 for each in (on, off))
    assert off.of_all.keys() == {"look_up", "look_up_off", "trade", "order_query"}
    assert off.of_all["look_up"].count == sum(each["look_up"].count for each in off.of_clients) == 16
    assert off.usage is not None
    assert off.usage.catalog_look_ups == 16, "each look-up reaches the catalog"
    assert len(result.verified) == len(result.commits_ms) == 2
    assert not processes_of(tmp_path)
    assert list((tmp_path / "temporary").iterdir()) == []


async def test_running_bazaar_is_measured_as_it_is_when_its_address_is_given(bazaar: Bazaar, tmp_path: Path) -> None:
    flags: list[str] = ["latency", "--quick", "--p", "0.5", "--iterations", "6", "--clients", "2", "--rate", "200"]
    for url in bazaar.cluster.urls:
        flags += ["--url", url]
    result = await result_of(await launch(tmp_path, *flags))
    assert [(each.cache, each.usage) for each in result.runs] == [("on", None)]
    assert (result.settings.caches, result.settings.rate, result.rests) == (("on",), 200.0, [])
    assert not (tmp_path / "results" / "cache.png").exists()


async def test_nothing_is_left_and_nothing_written_when_it_is_interrupted(tmp_path: Path) -> None:
    process = await launch(tmp_path, "latency", "--iterations", "100000", "--p", "0")

    def is_visited() -> bool:
        logs = (tmp_path / "temporary").glob("*/logs/front-end-1.log")
        return any(b"the leader now" in log.read_bytes() for log in logs)

    await wait_until(is_visited)
    process.send_signal(signal.SIGINT)
    output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (130, b"", b"")
    await wait_until(lambda: not processes_of(tmp_path))
    assert not (tmp_path / "results").exists()


async def test_wrong_usage_is_told_in_a_word(tmp_path: Path) -> None:
    process = await launch(tmp_path, "latency", "--switch-cache", "true")
    output, errors = await process.communicate()
    assert (process.returncode, output) == (2, b"")
    assert b"--switch-cache needs --url" in errors
    assert b"Traceback" not in errors
