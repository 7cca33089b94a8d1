"""What must not get out: the internal secret, and the idempotency keys.

Whoever knows the secret may do anything. Whoever knows a key can send it again, and so read, or spend, another
customer's trade. So neither stands in a log, in the metrics, in cluster.json, in a command line, in an environment, or
in what the supervisor says, also not at level debug and when things go wrong.
"""

from collections.abc import Iterator

import httpx
import psutil
import pytest

from services.common.http import SECRET_HEADER
from tests.support.cluster import Cluster
from tests.support.hostile_table import FAMILIES, GOOD
from tests.support.system_hostile import send
from tests.system.conftest import MakeCluster
from tests.system.test_public import concrete, internal_calls

MARK = "told-nobody"


async def trade_in_every_way(http: httpx.AsyncClient, cluster: Cluster) -> None:
    """Keys that are accepted, refused, repeated, used for something else, and none at all."""
    for number, url in enumerate(cluster.urls):
        headers = {"Idempotency-Key": f"{MARK}-{number}"}
        for quantity, status in ((1, 201), (1, 201), (2, 422)):
            answer = await http.post(f"{url}/orders", json={**GOOD, "quantity": quantity}, headers=headers)
            assert answer.status_code == status
        for key, quantity, status in (("refused", 1_000_000, 409), ("is none", 1, 422), ("bad", -1, 422)):
            headers = {"Idempotency-Key": f"{MARK}-{key}-{number}"}
            answer = await http.post(f"{url}/orders", json={**GOOD, "quantity": quantity}, headers=headers)
            assert answer.status_code == status
        for bad in FAMILIES["key"]:
            await send(url, bad.request)


async def abuse_internal_calls(http: httpx.AsyncClient, cluster: Cluster, secret: str) -> None:
    """Every internal call with the secret: as nonsense, with a key in it, and with the secret where it has no place."""
    headers = {SECRET_HEADER: secret}
    for kind, calls in internal_calls().items():
        urls = [cluster.topology.control] if kind == "control" else [
            each.internal_url for each in cluster.topology.services if each.kind == kind
        ]  # fmt: skip
        for method, path in calls:
            if kind == "control" and method == "POST":
                continue  # kills
            for url in urls:
                for body in (b"{", b'{"key":"%b"}' % MARK.encode(), secret.encode()):
                    await http.request(method, url + concrete(path), headers=headers, content=body)
                await http.request(method, url + concrete(path), headers={SECRET_HEADER: f"{secret}x"})
                await http.get(f"{url}/{secret}?after={secret}", headers=headers)
    for url in cluster.urls:
        await http.get(f"{url}/stocks/{secret}?after={secret}", headers=headers)


async def break_things(http: httpx.AsyncClient, cluster: Cluster) -> None:
    """A trade whose leader is killed, one whose catalog hangs, and a replica whose file is no database."""
    await cluster.kill(await cluster.leader())
    headers = {"Idempotency-Key": f"{MARK}-killed"}
    assert (await http.post(f"{cluster.urls[0]}/orders", json=GOOD, headers=headers)).status_code == 201
    await cluster.pause("catalog")
    headers = {"Idempotency-Key": f"{MARK}-paused"}
    assert (await http.post(f"{cluster.urls[0]}/orders", json=GOOD, headers=headers)).status_code == 504
    await cluster.resume("catalog")
    await cluster.kill("order-1")
    cluster.delete_database("order-1")
    cluster.database("order-1").write_bytes(b"this is no database" * 1_000)
    await cluster.start("order-1")
    await cluster.wait_for_state("order-1", "failed")


def places(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    """Everything that others may come to see, by name."""
    for path in (*(cluster.data_dir / "logs").iterdir(), cluster.output, cluster.data_dir / "cluster.json"):
        yield str(path), path.read_bytes()
    for process in psutil.process_iter():
        try:
            if str(cluster.data_dir) in (line := process.cmdline()):
                yield f"process {process.pid}", " ".join([*line, *process.environ().values()]).encode()
        except psutil.Error:
            continue  # it has ended, or is another user's


async def metrics(http: httpx.AsyncClient, cluster: Cluster) -> list[tuple[str, bytes]]:
    """What each listener tells anybody, by address."""
    found = []
    for url in {url for each in cluster.topology.services for url in (each.url, each.internal_url)}:
        for path in ("/metrics", "/readyz"):
            try:
                found.append((url + path, (await http.get(url + path)).content))
            except httpx.ConnectError:
                continue  # the one that failed, or was killed
    return found


@pytest.mark.slow
async def test_secret_and_keys_are_nowhere_when_much_goes_wrong_at_level_debug(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAZAAR_LOG_LEVEL", "debug")
    async with make_cluster(front_ends=2) as cluster, httpx.AsyncClient(timeout=60) as http:
        secret = (cluster.data_dir / "secret").read_text().strip()
        await trade_in_every_way(http, cluster)
        await abuse_internal_calls(http, cluster, secret)
        await break_things(http, cluster)
        _, output, errors = await cluster.run("status", "--json")
        seen = [*places(cluster), *await metrics(http, cluster), ("bazaar status", (output + errors).encode())]
        await cluster.shut_down()
        seen += places(cluster)  # also what was said at the end
    assert len(seen) > 25
    assert any(b'"level": "debug"' in content for _, content in seen), "the level reaches the services"
    for place, content in seen:
        assert secret.encode() not in content, f"{place} tells the secret"
        assert MARK.encode() not in content, f"{place} tells a key"
        assert b"surprise" not in content, f"{place} tells a key that was none"
