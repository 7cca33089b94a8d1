"""Bad inputs at the public port of a running bazaar: each is refused at once, and changes nothing."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.hostile_table import FAMILIES, GOOD, GOOD_BODY, Bad, other_methods, post, request
from tests.support.serving import Client, connection
from tests.support.system_bazaar import Bazaar
from tests.support.system_evidence import MOST_STOCK, CatalogFile, Row, read_catalog
from tests.support.system_hostile import UNFINISHED, WAIT_S, fault, send
from tests.system.conftest import MakeCluster

AT_ONCE = 10


def port_of(url: str) -> int:
    """The port of a front-end."""
    port = urlsplit(url).port
    assert port is not None
    return port


async def state(bazaar: Bazaar) -> tuple[list[Row], CatalogFile]:
    """All that a bad input could have changed."""
    return await bazaar.log(), read_catalog(bazaar.cluster.database("catalog"))


def faults_in_logs(bazaar: Bazaar) -> int:
    """How often a service found itself at fault; whoever could bring that about could fill the logs."""
    names = [each.name for each in bazaar.cluster.topology.services]
    return sum(event["level"] in {"error", "critical"} for name in names for event in bazaar.cluster.events(name))


async def refuse(bazaar: Bazaar, bads: Sequence[Bad]) -> None:
    """Send each to every front-end: all must be refused as they should, and leave everything as it was."""
    before, faults = await state(bazaar), faults_in_logs(bazaar)
    for start in range(0, len(bads), AT_ONCE):
        some = bads[start : start + AT_ONCE]
        for url in bazaar.cluster.urls:
            for bad, answer in zip(
                some, await asyncio.gather(*(send(url, each.request) for each in some)), strict=True
            ):
                assert fault(bad, answer) is None, f"{fault(bad, answer)}: {bad.request[:300]!r} got {answer.raw!r}"
    assert await state(bazaar) == before
    assert faults_in_logs(bazaar) == faults


@pytest.mark.parametrize("family", FAMILIES)
async def test_input_is_refused_and_changes_nothing_when_it_is_bad(bazaar: Bazaar, family: str) -> None:
    await refuse(bazaar, FAMILIES[family])


async def test_405_with_allow_when_a_path_does_not_have_the_method(bazaar: Bazaar) -> None:
    described = (await bazaar.http.get(f"{bazaar.url}/openapi.json")).json()["paths"]
    listed = {
        path.replace("{number}", "1").replace("{name}", "IBM"): {method.upper() for method in methods}
        for path, methods in described.items()
    }
    listed |= {"/docs": {"GET"}, "/openapi.json": {"GET", "HEAD"}, "/docs/assets/swagger-ui.css": {"GET", "HEAD"}}
    assert len(listed) > 10
    await refuse(bazaar, [bad for path, methods in listed.items() for bad in other_methods(path, methods)])


async def send_for_ever(client: Client, data: bytes) -> None:
    """Send and never stop; ends with a ConnectionError."""
    while True:
        await client.send(data)
        await asyncio.sleep(0)


async def test_413_and_then_the_end_when_a_chunked_body_has_none(bazaar: Bazaar) -> None:
    chunk = b"400\r\n" + b" " * 0x400 + b"\r\n"
    before = await state(bazaar)
    async with asyncio.timeout(WAIT_S), connection(port_of(bazaar.url)) as client:
        await client.send(post(b"", "Transfer-Encoding: chunked").replace(b"Connection: close\r\n", b""))
        await client.send(chunk * 65)
        assert await client.error() == 413
        with pytest.raises(ConnectionError):
            await send_for_ever(client, chunk)
    assert await state(bazaar) == before


@pytest.mark.slow
async def test_connections_are_closed_when_they_fall_silent(bazaar: Bazaar) -> None:
    """They may take 9 s, so this takes as long; others are served meanwhile."""
    nothing = b""
    half_heads = (b"GET", *UNFINISHED[1:2], request("GET", "/stocks/IBM")[:-2])
    half_bodies = (post(b"{", length=50), post(b"5\r\n{", "Transfer-Encoding: chunked"), post(b"", length=50))
    after_another = request("GET", "/stocks/IBM").replace(b"Connection: close\r\n", b"") + b"GET /stocks"
    before = await state(bazaar)

    async def silence(first: bytes) -> int:
        """The status of the last answer, 0 for none; the server has closed."""
        answer = await send(bazaar.url, first)
        return int(answer.raw.rpartition(b"HTTP/1.1 ")[2][:3] or 0)

    async with asyncio.timeout(WAIT_S):
        waiting = [asyncio.create_task(silence(each)) for each in (nothing, *half_heads, *half_bodies, after_another)]
        async with bazaar.customer(bazaar.url) as customer:
            await customer.look_up("IBM")
        assert not any(each.done() for each in waiting[:1]), "a connection is not closed before it is given a chance"
        assert await asyncio.gather(*waiting) == [0, *[408] * (len(waiting) - 1)]
    assert await state(bazaar) == before


async def test_one_order_is_placed_when_a_key_is_sent_many_times_at_once(bazaar: Bazaar) -> None:
    before, _ = await state(bazaar)
    urls = bazaar.cluster.urls * 5
    headers = {"Idempotency-Key": "many-at-once"}

    answers = await asyncio.gather(*(bazaar.http.post(f"{url}/orders", json=GOOD, headers=headers) for url in urls))
    other = await bazaar.http.post(f"{bazaar.url}/orders", json={**GOOD, "quantity": 2}, headers=headers)

    assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
    assert other.status_code == 422
    after, _ = await state(bazaar)
    assert [row.key for row in after[len(before) :]] == ["many-at-once"]


async def test_quantities_are_the_same_when_a_trade_cannot_be(bazaar: Bazaar) -> None:
    rows, catalog = await state(bazaar)
    name = "IBM"
    too_many = {**GOOD, "name": name, "quantity": min(catalog.stocks[name].quantity + 1, 1_000_000)}

    unknown = await bazaar.http.post(f"{bazaar.url}/orders", json={**GOOD, "name": "Nobody"})
    refused = await bazaar.http.post(f"{bazaar.url}/orders", json=too_many)

    assert (unknown.status_code, refused.status_code) == (404, 409)
    assert "Nobody" not in unknown.text
    rows_after, catalog_after = await state(bazaar)
    assert catalog_after.stocks == catalog.stocks
    assert [row.number for row in rows_after[len(rows) :]] == [None], "a refused trade is an entry without a number"


async def test_409_when_a_sale_would_pass_what_a_stock_may_be(make_cluster: MakeCluster, tmp_path: Path) -> None:
    stocks = tmp_path / "stocks.csv"
    stocks.write_text(f"name,price,quantity\nIBM,1.00,{MOST_STOCK - 1}\n")
    async with make_cluster("--catalog", str(stocks), replicas=1) as cluster, cluster.client() as client:
        answers = [await send(cluster.urls[0], post(GOOD_BODY.replace(b"buy", b"sell"))) for _ in range(2)]
        assert [answer.status for answer in answers] == [201, 409]
        assert (await client.look_up("IBM")).quantity == MOST_STOCK
