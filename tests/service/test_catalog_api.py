"""The catalog's internal API, route by route, over ASGI with replicas and front-ends that are fakes."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from services.common.digest import empty_head
from services.common.http import SECRET_HEADER
from services.common.models import (
    CatalogStatus,
    GenerationAnswer,
    Head,
    SessionRequest,
    Stock,
    StockAnswer,
    StocksAnswer,
)
from services.common.wire import MAX_MESSAGE_BYTES
from tests.support.catalog_entries import STOCKS, buy, chain, head_of, request, sell
from tests.support.catalog_replica import LogReplica
from tests.support.catalog_world import SECRET, CatalogWorld, Gate, Process, in_catalog_time
from tests.support.fake_time import until

START = empty_head(STOCKS)

ROUTES = [
    ("GET", "/status"),
    ("GET", "/generation"),
    ("GET", "/stocks"),
    ("GET", "/stocks/GameStart"),
    ("POST", "/decide"),
    ("POST", "/sessions/open"),
    ("POST", "/sessions/renew"),
    ("POST", "/sessions/end"),
]
OPEN = {"/livez", "/readyz", "/metrics"}


def error_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    body = json.loads(response.content)
    assert set(body) == {"error"}
    assert body["error"]["code"] == status
    message = body["error"]["message"]
    assert isinstance(message, str)
    return message


async def wait_until_decides(process: Process, world: CatalogWorld) -> None:
    """Past the lease that a rebuilt catalog waits."""
    await process.trade(world.leader, buy("first", 1, name="FishCo"))


# Routes.


@in_catalog_time
async def test_status_and_generation_are_told_when_a_bazaar_is_new(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        assert await process.call("/status", CatalogStatus) == CatalogStatus(
            generation=1, base=0, head=START, sessions=0
        )
        assert await process.call("/generation", GenerationAnswer) == GenerationAnswer(generation=1, stocks=STOCKS)
    assert not world.ended_with


@in_catalog_time
async def test_stocks_are_told_with_the_head_of_the_same_moment(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        assert await process.call("/stocks", StocksAnswer) == StocksAnswer(generation=1, head=START, stocks=STOCKS)
        await process.trade(world.leader, buy("a", 30), buy("b", 1_000))
        changed = Stock(name="GameStart", price=1_599, quantity=70, version=1)
        assert await process.call("/stocks/GameStart", StockAnswer) == StockAnswer(generation=1, head=2, stock=changed)
        stocks = await process.call("/stocks", StocksAnswer)
        assert stocks == StocksAnswer(generation=1, head=world.leader.head, stocks=[STOCKS[0], changed])


@pytest.mark.parametrize(
    "name", ["Unknown", "gamestart", "GameStart%00", "%2e%2e", "GameStart ", "'", "x" * 10_000, "%ff"]
)
@in_catalog_time
async def test_404_when_a_stock_is_unknown(tmp_path: Path, name: str) -> None:
    async with CatalogWorld(tmp_path).running() as process:
        assert error_of(await process.client.get(f"/stocks/{name}"), 404) == "there is no such stock"


@in_catalog_time
async def test_sessions_open_renew_and_end(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        opened = await process.session("open", holder)
        assert (opened.generation, opened.outcome, opened.floor) == (1, "opened", 0)
        assert (await process.call("/status", CatalogStatus)).sessions == 1
        assert (await process.session("open", holder)).outcome == "no_session", "an id is opened once"
        assert (await process.session("renew", holder)).outcome == "renewed"
        assert (await process.session("end", holder)).outcome == "ended"
        assert (await process.session("renew", holder)).outcome == "no_session"
        assert (await process.session("end", holder)).outcome == "ended"
        assert (await process.call("/status", CatalogStatus)).sessions == 0


@in_catalog_time
async def test_renewal_is_busy_while_an_invalidation_is_unanswered(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        await wait_until_decides(process, world)
        assert (await process.session("open", holder)).floor == 1
        gate = holder.before["/invalidate"] = Gate()
        trading = asyncio.create_task(process.trade(world.leader, buy("a")))
        await gate.reached.wait()
        assert (await process.session("renew", holder)).outcome == "busy"
        gate.open()
        await trading
        assert (await process.session("renew", holder)).outcome == "renewed"
    assert holder.floors == [{"GameStart": 2}]


@in_catalog_time
async def test_opening_is_refused_when_the_front_end_does_not_confirm_or_has_no_address(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    holder = world.front_end()
    async with world.running() as process:
        assert (await process.session("open", holder, "an old copy")).outcome == "no_session"
        for url in ("", "http://[::1", "http://10.0.0.9:1"):
            response = await process.post("/sessions/open", SessionRequest(session="s", url=url))
            assert response.json()["outcome"] == "no_session"


BAD_MESSAGES: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"hello",
    "no UTF-8": b'{"session": "\xff"}',
    "another message": b'{"outcome": "mine"}',
    "an array": b"[]",
    "200,000 brackets": b"[" * 200_000,
    "a number for a text": b'{"session": 1, "url": "u"}',
}


@pytest.mark.parametrize("body", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
@in_catalog_time
async def test_422_without_echo_when_a_message_is_none_of_ours(tmp_path: Path, body: bytes) -> None:
    async with CatalogWorld(tmp_path).running() as process:
        for method, path in ROUTES:
            if method == "POST":
                assert error_of(await process.client.post(path, content=body), 422) == "this is no message of ours"


@pytest.mark.parametrize(
    "change",
    [
        {"head": {"position": 1.0, "number": 0, "digest": "d"}},
        {"head": None},
        {"fsynced": "0"},
        {"generation": True},
        {"trades": [{"key": "", "name": "GameStart", "type": "buy", "quantity": 1}]},
        {"trades": [{"key": "a b", "name": "GameStart", "type": "buy", "quantity": 1}]},
        {"trades": [{"key": "a", "name": "GameStart", "type": "buy", "quantity": 0}]},
        {"trades": [{"key": "a", "name": "GameStart", "type": "buy", "quantity": 1_000_001}]},
        {"trades": [{"key": "a", "name": "GameStart\n", "type": "buy", "quantity": 1}]},
        {"trades": [{"key": "a\n", "name": "GameStart", "type": "buy", "quantity": 1}]},
        {"trades": {}},
    ],
    ids=str,
)
@in_catalog_time
async def test_422_and_nothing_decided_when_a_decide_is_out_of_bounds(
    tmp_path: Path, change: dict[str, object]
) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        body = json.dumps({**world.leader.ask().model_dump(), **change})
        error_of(await process.client.post("/decide", content=body), 422)
        assert (await process.call("/status", CatalogStatus)).head == START
    assert not world.ended_with


@in_catalog_time
async def test_422_and_nothing_decided_when_one_trade_is_of_an_unknown_stock(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        response = await process.post("/decide", world.leader.ask(buy("a"), buy("b", name="Unknown")))
        assert error_of(response, 422) == "there is no such stock"
        assert (await process.call("/status", CatalogStatus)).head == START
        assert await process.quantity() == 100
    assert not world.ended_with


@in_catalog_time
async def test_404_and_405_when_there_is_no_such_route(tmp_path: Path) -> None:
    async with CatalogWorld(tmp_path).running() as process:
        for path in ("/", "/orders", "/docs", "/openapi.json", "/redoc", "/sessions", "/stocks/", "/status/"):
            error_of(await process.client.get(path), 404)
        for method, path in ROUTES:
            response = await process.client.request("DELETE", path)
            error_of(response, 405)
            assert response.headers["allow"] == method


@in_catalog_time
async def test_413_when_a_message_is_too_large(tmp_path: Path) -> None:
    async with CatalogWorld(tmp_path).running() as process:
        error_of(await process.client.post("/decide", content=b" " * (MAX_MESSAGE_BYTES + 1)), 413)


@in_catalog_time
async def test_the_largest_batch_is_decided(tmp_path: Path) -> None:
    """1,000 trades with keys that JSON makes twice as long."""
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        trades = [buy('"' * 58 + f"{i:06}", 1_000_000) for i in range(1_000)]
        told = await process.trade(world.leader, *trades)
        assert len(told.entries) == 1_000
        assert (await process.call("/status", CatalogStatus)).head == world.leader.head


# The secret.


@in_catalog_time
async def test_403_on_every_path_but_three_when_the_secret_is_missing_or_wrong(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    async with world.running() as process:
        known = {getattr(route, "path", "") for route in process.app.routes}
        paths = (
            {path for _, path in ROUTES} | known | {"/", "/nonsense", "/docs", "/openapi.json", "/livez/", "/%2Fstatus"}
        )
        assert len(paths) > 10
        body = world.leader.ask(buy("a")).model_dump_json()
        for headers in ({}, {SECRET_HEADER: "wrong"}, {SECRET_HEADER: ""}, {SECRET_HEADER: SECRET[:-1]}):
            process.client.headers = httpx.Headers(headers)
            for path in paths - OPEN:
                for method in ("GET", "POST"):
                    response = await process.client.request(method, path, content=body)
                    assert SECRET not in error_of(response, 403)
            for path in OPEN:
                assert (await process.client.get(path)).status_code == 200
        process.client.headers = httpx.Headers({SECRET_HEADER: SECRET})
        assert (await process.call("/status", CatalogStatus)).head == START


# Coming up.


@in_catalog_time
async def test_readiness_names_the_replicas_that_are_waited_for(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    for replica_id in (1, 3):
        world.network.fault(world.replicas[replica_id].url, "hangs")
    async with world.running(ready=False) as process:

        async def missing() -> str:
            return error_of(await process.client.get("/readyz"), 503)

        await until(lambda: process.catalog.missing() == "no generation yet: waiting for order-1, order-3")
        assert await missing() == "no generation yet: waiting for order-1, order-3"
        world.network.fault(world.replicas[3].url, None)
        await until(lambda: process.catalog.missing() == "no generation yet: waiting for order-1")
        assert (await process.client.get("/livez")).status_code == 200
        assert await process.call("/status", CatalogStatus) == CatalogStatus(
            generation=None, base=0, head=None, sessions=0
        )
        for method, path in ROUTES[1:]:
            body = request(buy("a"), head=START) if path == "/decide" else SessionRequest(session="s", url="u")
            response = await process.client.request(method, path, content=body.model_dump_json())
            assert "waiting for order-1" in error_of(response, 503)
            assert response.headers["retry-after"] == "1"
        world.network.fault(world.replicas[1].url, None)
        await until(lambda: process.catalog.missing() is None)
        assert (await process.client.get("/readyz")).json() == {"status": "ready"}
    assert not world.ended_with


@in_catalog_time
async def test_a_request_of_before_the_start_leaves_no_trace(tmp_path: Path) -> None:
    world = CatalogWorld(tmp_path)
    world.network.fault(world.replicas[1].url, "refuses")
    async with world.running(ready=False) as process:
        error_of(await process.post("/decide", request(buy("a"), head=START)), 503)
        world.network.fault(world.replicas[1].url, None)
        await until(lambda: process.catalog.missing() is None)
        assert (await process.decide(world.leader.ask())).entries == []


@in_catalog_time
async def test_status_3_when_the_logs_contradict_each_other(tmp_path: Path) -> None:
    logs = [chain([sell("a"), sell("b")]), chain([sell("a"), sell("x"), sell("y")])]
    world = CatalogWorld(tmp_path, *(LogReplica(i, 1, log) for i, log in enumerate(logs, start=1)))
    async with world.running(ready=False) as process:
        await until(lambda: world.ended_with)
        assert world.ended_with == [3]
        error_of(await process.client.get("/readyz"), 503)
        assert process.disk.works == ["load"], "nothing was saved"
    async with world.running(ready=False):
        await until(lambda: len(world.ended_with) == 2)
    assert world.ended_with == [3, 3], "and it is found again at the next start"


@pytest.mark.parametrize("content", [None, "", "name,price\n", "name,price\nA,x\n", "\x00"])
@in_catalog_time
async def test_status_3_and_no_generation_given_when_a_new_bazaar_cannot_read_its_stocks(
    tmp_path: Path, content: str | None
) -> None:
    world = CatalogWorld(tmp_path)
    if content is None:
        world.stocks_file.unlink()
    else:
        world.stocks_file.write_text(content)
    async with world.running(ready=False):
        await until(lambda: world.ended_with)
    assert world.ended_with == [3]
    assert all(replica.generation is None for replica in world.replicas.values())


@in_catalog_time
async def test_the_head_after_a_rebuild_is_that_of_the_longest_log(tmp_path: Path) -> None:
    log = chain([sell(f"k{i}") for i in range(5)])
    world = CatalogWorld(tmp_path, LogReplica(1, 8, log[:2]), LogReplica(2, 8, log), LogReplica(3))
    async with world.running() as process:
        status = await process.call("/status", CatalogStatus)
        assert status == CatalogStatus(generation=9, base=0, head=head_of(log), sessions=0)
        assert await process.quantity() == 105
        assert (await process.decide(world.replicas[1].ask())).entries == log[2:]
        assert status.head == Head(position=5, number=5, digest=log[4].digest)
