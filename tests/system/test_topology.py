"""A bazaar on two hosts with TLS between them: one of them dies and comes back, and customers notice nothing."""

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from services.cluster.topology import port_of
from services.common.tls import TlsFiles
from tests.support.etcd_cluster import EtcdCluster, require_etcd
from tests.support.hosts import Hosts
from tests.support.patience import PATIENCE_S


@pytest_asyncio.fixture(loop_scope="session")
async def hosts(tmp_path: Path) -> AsyncIterator[Hosts]:
    made = Hosts(tmp_path)
    await made.bazaar("certs", "--topology", str(made.topology), "--out", str(tmp_path / "tls"))
    async with made.running():
        yield made


@pytest.mark.slow
async def test_nothing_is_lost_when_the_host_with_the_leader_is_killed_and_comes_back(hosts: Hosts) -> None:
    await hosts.make_leader_of_b()
    async with hosts.trading() as traders:
        await hosts.b.kill_supervisor()  # its services die with it
        await traders.more(10)
        assert await hosts.a.leader() in {"order-1", "order-2"}
        await _shows_the_other_host_down(hosts)
        await hosts.b.start_up()
        await traders.more(10)
    await hosts.check()
    await _each_host_shows_both(hosts)
    await _a_service_is_killed_where_it_runs(hosts)
    await _nobody_is_let_in_without_a_certificate(hosts)
    await hosts.b.wait_ready()
    await hosts.check()


@pytest.mark.slow
async def test_trades_go_on_when_the_host_with_the_preferred_catalog_is_killed_and_etcd_has_the_state(
    tmp_path: Path,
) -> None:
    require_etcd()
    tls = tmp_path / "tls"
    etcd = EtcdCluster(tmp_path / "etcd", size=1, tls=TlsFiles(tls / "a.crt", tls / "a.key", tls / "authority.crt"))
    addresses = ",".join(url.removeprefix("https://") for url in etcd.urls)
    hosts = Hosts(tmp_path, f"etcds://{addresses}")
    await hosts.bazaar("certs", "--topology", str(hosts.topology), "--out", str(tls))
    async with etcd:
        async with hosts.running():
            async with hosts.trading() as traders:
                await hosts.a.kill_supervisor()
                await traders.more(10)
                status = await hosts.b.status()
                assert {each.name for each in status.services if each.state == "running"} == {
                    "catalog-2", "order-3", "front-end-2",
                }  # fmt: skip
                assert status.health.condition == "degraded"
                await hosts.a.start_up()
                await traders.more(10)
            await hosts.check()
        believing = ssl.create_default_context(cafile=tls / "authority.crt")
        async with httpx.AsyncClient(verify=believing, trust_env=False) as nobody:
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                await nobody.get(etcd.urls[0] + "/version")


@pytest.mark.slow
async def test_no_trade_fails_when_certificates_are_renewed_under_load(hosts: Hosts) -> None:
    keys = sorted((hosts.folder / "tls").glob("[ab].key"))
    before = [key.read_bytes() for key in keys]
    async with hosts.trading() as traders:
        await hosts.bazaar("certs", "--topology", str(hosts.topology), "--out", str(hosts.folder / "tls"), "--force")
        assert not set(before) & {key.read_bytes() for key in keys}
        for host, count in ((hosts.a, 4), (hosts.b, 2)):
            code, output, errors = await host.run("restart")
            assert (code, errors) == (0, ""), output
            assert output.count("restarted: ") == count, "its own services, one by one"
            await traders.more(5)  # and no customer has seen an error: `more` would say so
    await hosts.check()


async def _shows_the_other_host_down(hosts: Hosts) -> None:
    shown = {each["name"]: each for each in (await hosts.a.run_json("status"))["services"]}
    assert {name for name, each in shown.items() if each["host"] == "b"} == {"order-3", "front-end-2"}
    assert shown["order-3"]["state"] == "down"
    assert shown["order-3"]["reason"] == "does not answer from here"
    assert shown["order-1"]["state"] == "running"


async def _each_host_shows_both(hosts: Hosts) -> None:
    for host in (hosts.a, hosts.b):
        await host.wait_ready()
        code, output, _ = await host.run("status")
        assert code == 0
        lines = {words[0]: words[1:] for line in output.splitlines() if (words := line.split())}
        assert {name: words[:2] for name, words in lines.items() if "-" in name or name == "catalog"} == {
            "catalog": ["a", "running"],
            "order-1": ["a", "running"],
            "order-2": ["a", "running"],
            "order-3": ["b", "running"],
            "front-end-1": ["a", "running"],
            "front-end-2": ["b", "running"],
        }
        code, output, _ = await host.run("verify", "--json")
        assert (code, json.loads(output)["passed"]) == (0, True)


async def _a_service_is_killed_where_it_runs(hosts: Hosts) -> None:
    code, _, errors = await hosts.a.run("kill", "order-3")
    assert code == 1
    assert "order-3 runs on host b: do it there" in errors
    code, _, _ = await hosts.b.run("kill", "order-3")
    assert code == 0
    code, _, _ = await hosts.b.run("start", "order-3")
    assert code == 0
    await hosts.b.wait_for_state("order-3", "running")


async def _nobody_is_let_in_without_a_certificate(hosts: Hosts) -> None:
    secret = {"x-bazaar-secret": (hosts.folder / "tls" / "secret").read_text()}
    for service in hosts.a.topology.services:
        assert service.internal_url.startswith("https://127.0.0."), service
        address = service.internal_url.removeprefix("https://")
        async with httpx.AsyncClient(verify=False, headers=secret, timeout=PATIENCE_S) as stranger:  # noqa: S501
            with pytest.raises(httpx.HTTPError):
                await stranger.get(f"https://{address}/status")
            with pytest.raises(httpx.HTTPError):
                await stranger.get(f"http://{address}/status")
    log = (hosts.a.data_dir / "logs" / "catalog.log").read_text()
    assert "peer did not return a certificate" in log
    assert "http request" in log
    for path in (hosts.folder / "tls").glob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600
    ports = [port_of(each.internal_url) for each in hosts.a.topology.services]
    assert len(set(ports)) == len(ports)
