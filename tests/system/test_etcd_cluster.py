"""A real etcd of three nodes: it goes on when one is lost, and the tests' own tools for breaking it work."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio

from tests.support.etcd_calls import PUT, RANGE, encode, read, write
from tests.support.etcd_cluster import ROOT, EtcdCluster, require_etcd
from tests.support.patience import PATIENCE_S

ASK_S = 1.0

# Starts a cluster, tells the ids of its processes, and waits until it is killed.
STARTER = """
import asyncio, sys
from pathlib import Path
from tests.support.etcd_cluster import EtcdCluster

async def main():
    async with EtcdCluster(Path(sys.argv[1])) as etcd:
        print(*etcd.pids, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest_asyncio.fixture(loop_scope="session")
async def etcd(tmp_path: Path) -> AsyncIterator[EtcdCluster]:
    """Three nodes."""
    require_etcd()
    async with EtcdCluster(tmp_path / "etcd") as cluster:
        yield cluster


async def put(etcd: EtcdCluster, value: bytes, *names: str) -> None:
    """Write through the first of these nodes that does it; a call may be lost together with the leader."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for name in names:
                try:
                    answer = await etcd.call(name, PUT, write(b"k", value), timeout_s=ASK_S)
                except httpx.TransportError:
                    continue
                if answer.status_code == 200:
                    return


async def value_at(etcd: EtcdCluster, name: str) -> Any:
    await etcd.wait_healthy(name)
    answer = (await etcd.call(name, RANGE, read(b"k"))).json()
    return answer["kvs"][0]["value"] if "kvs" in answer else None


async def test_writes_go_on_and_none_is_lost_when_each_node_is_killed_in_turn(etcd: EtcdCluster) -> None:
    first = await etcd.leader()
    for name in [first, *(each for each in etcd.nodes if each != first)]:
        others = [each for each in etcd.nodes if each != name]
        await put(etcd, b"before " + name.encode(), *others)
        await etcd.kill(name)
        assert await value_at(etcd, others[0]) == encode(b"before " + name.encode())
        await put(etcd, b"without " + name.encode(), *others)
        assert await etcd.leader() != name
        await etcd.start(name)
        assert await value_at(etcd, name) == encode(b"without " + name.encode())


async def test_another_node_leads_when_the_leader_is_paused(etcd: EtcdCluster) -> None:
    old = await etcd.leader()
    others = [each for each in etcd.nodes if each != old]
    etcd.pause(old)
    await put(etcd, b"1", *others)
    assert await etcd.leader() != old
    with pytest.raises(httpx.ReadTimeout):
        await etcd.call(old, RANGE, read(b"k"), timeout_s=ASK_S)
    etcd.resume(old)
    assert await value_at(etcd, old) == encode(b"1")


async def test_every_node_says_the_same_when_the_outcome_of_a_write_was_unknown(etcd: EtcdCluster) -> None:
    leader = await etcd.leader()
    others = [each for each in etcd.nodes if each != leader]
    for name in others:
        etcd.pause(name)
    written, linearizable, serializable = await asyncio.gather(
        etcd.call(leader, PUT, write(b"k", b"perhaps")),
        etcd.call(leader, RANGE, read(b"k")),
        etcd.call(leader, RANGE, read(b"k", serializable=True)),
    )
    assert written.status_code >= 500, "there is no majority"
    assert linearizable.status_code >= 500
    assert serializable.status_code == 200
    for name in others:
        etcd.resume(name)
    await put(etcd, b"later", leader)
    assert {await value_at(etcd, name) for name in etcd.nodes} == {encode(b"later")}


async def test_nothing_is_lost_when_all_are_killed_and_started_again(etcd: EtcdCluster) -> None:
    await put(etcd, b"1", *etcd.nodes)
    for name in ("etcd-1", "etcd-2"):
        await etcd.kill(name)
    for name in etcd.nodes:
        await etcd.restart(name)
    assert {await value_at(etcd, name) for name in etcd.nodes} == {encode(b"1")}


async def test_no_node_is_left_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    require_etcd()
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARTER, str(tmp_path / "etcd")),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert starter.stdout is not None
    nodes = [psutil.Process(int(pid)) for pid in (await starter.stdout.readline()).split()]
    assert [each.name() for each in nodes] == ["etcd"] * 3
    starter.send_signal(signal.SIGKILL)
    await starter.wait()
    _, left = await asyncio.to_thread(psutil.wait_procs, nodes, timeout=PATIENCE_S)
    assert left == []
