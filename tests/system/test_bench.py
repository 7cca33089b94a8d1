"""The benchmark as it is run: over real processes, and over logs that were never traded."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from client import TradeRefused
from eval.bench.logs import make_stocks, write_databases
from eval.bench.results import Result
from tests.support.cluster import ROOT
from tests.system.conftest import MakeCluster

ORDERS = 1_000


async def test_bazaar_trades_on_and_is_proven_when_its_log_was_made(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    stocks = make_stocks(20)
    await asyncio.to_thread(write_databases, cluster.data_dir, stocks, ORDERS)
    async with cluster:
        assert (await cluster.run("verify"))[1].startswith(f"3 of 3 replicas hold the same {ORDERS:,} orders")
        async with cluster.client() as client:
            assert (await client.look_up(stocks[0].name)).quantity == stocks[0].quantity
            made, new = await client.order(ORDERS), await client.buy(stocks[0].name, 2)
            assert made is not None
            assert not isinstance(new, TradeRefused)
            assert (made.name, made.type, made.quantity) == ("Stock000019", "sell", 1)
            assert new.number == ORDERS + 1
            assert (await client.look_up(stocks[0].name)).quantity == stocks[0].quantity - 2
        verdict = await cluster.verify()
        assert verdict.passed, verdict.problems


@pytest.mark.slow
async def test_look_ups_stand_beside_bare_servers_when_the_benchmark_runs(tmp_path: Path) -> None:
    flags = [
        "--quick",
        "--only",
        "look_up",
        "--connections",
        "32",
        "--seconds",
        "0.2",
        "--json",
        "--out",
        str(tmp_path),
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "eval.bench", *flags), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    result = Result.model_validate_json(output)
    assert json.loads((tmp_path / "bench.json").read_text()) == json.loads(output)
    assert (tmp_path / "bench.png").exists()
    subjects = ("bare_uvicorn", "bare_route", "look_up_cached", "look_up_uncached")
    assert [(each.connections, each.subject) for each in result.samples] == [(32, subject) for subject in subjects]
    assert all(each.requests for each in result.samples)
    assert set(result.samples[2].cpu_us) == {"catalog", "order-1", "order-2", "order-3", "front-end-1"}
    measured = [each.text for each in result.goals if each.measured is not None]
    assert len(measured) == 5, "three ratios to bare servers, and two tails"
