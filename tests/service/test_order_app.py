"""One replica over HTTP: every route, who may call it, when it answers, and what it does with nonsense."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.common.database import DatabaseLocked
from services.common.digest import empty_head
from services.common.errors import IntegrityFailure
from services.common.http import SECRET_HEADER
from services.common.models import (
    MAX_ENTRIES,
    AdoptRequest,
    AppendRequest,
    LeaderNotice,
    Message,
    Stock,
    Trade,
    TradesRequest,
)
from services.common.settings import OrderSettings
from services.common.timing import LEVEL_S, LOOK_EVERY_S
from services.common.wire import MAX_MESSAGE_BYTES
from services.order.app import create_app
from services.order.replica import MAX_FRONT_ENDS, Replica
from services.order.store import LogStore
from tests.support.fake_time import in_fake_time, until
from tests.support.order_chain import STOCKS, Chain, make_trade
from tests.support.order_peers import DecidingCatalog, TakingFollower
from tests.support.order_world import CATALOG, Outside, plain_logs, replica_url

SECRET = "a-secret-of-the-tests"
OPEN = ["/livez", "/readyz", "/metrics"]

HEAD = empty_head(STOCKS)
ADOPT = AdoptRequest(generation=1, stocks=STOCKS)
APPEND = AppendRequest(generation=1, before=HEAD, entries=[])
TRADES = TradesRequest(time_left=1.0, trades=[make_trade("a")])
NOTICE = LeaderNotice(front_end="front-end-1", leader=3)

ROUTES: list[tuple[str, str, Message | None]] = [
    ("GET", "/status", None),
    ("GET", "/generation", None),
    ("POST", "/adopt", ADOPT),
    ("POST", "/append", APPEND),
    ("GET", "/entries?after=0", None),
    ("POST", "/trades", TRADES),
    ("GET", "/orders/1", None),
    ("GET", "/orders", None),
    ("POST", "/leader", NOTICE),
]


class Served:
    """Replica 3 behind its API, with a catalog and two followers; it starts without a generation."""

    def __init__(self, folder: Path) -> None:
        self.outside = Outside()
        self.catalog = DecidingCatalog()
        self.followers = {i: TakingFollower() for i in (1, 2)}
        self.outside.network.serve(CATALOG, self.catalog.handle)
        for i, follower in self.followers.items():
            self.outside.network.serve(replica_url(i), follower.handle)
        settings = OrderSettings(
            data_dir=folder, replica_id=3, catalog=[CATALOG], replicas={i: replica_url(i) for i in (1, 2, 3)}
        )
        self.app = create_app(settings, self.outside.runtime, SECRET)
        self.replica: Replica = self.app.state.replica
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://order-3", headers={SECRET_HEADER: SECRET})

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path)

    async def post(self, path: str, message: Message) -> httpx.Response:
        return await self.send("POST", path, message)

    async def send(
        self, method: str, path: str, message: Message | None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        content = None if message is None else message.model_dump_json()
        sent = {"content-type": "application/json", **(headers or {})}
        return await self.client.request(method, path, content=content, headers=sent)

    async def trade(self, *trades: Trade, seconds: float = 10.0) -> list[dict[str, Any]]:
        response = await self.post("/trades", TradesRequest(time_left=seconds, trades=list(trades)))
        assert response.status_code == 200, response.text
        outcomes: list[dict[str, Any]] = response.json()["outcomes"]
        return outcomes


@asynccontextmanager
async def served(folder: Path, *, level: bool = True) -> AsyncIterator[Served]:
    made = Served(folder)
    made.catalog.is_starting = not level
    with plain_logs():
        async with made.client, made.app.router.lifespan_context(made.app):
            if level:
                await until(lambda: made.replica.missing() is None)
            else:
                await asyncio.sleep(0.001)
            yield made


def _error(response: httpx.Response, code: int) -> str:
    """The message of an error in the one shape."""
    assert response.status_code == code, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert body["error"]["code"] == code
    message: str = body["error"]["message"]
    return message


# Who may call.


@in_fake_time
async def test_403_and_nothing_is_done_when_the_secret_is_not_known(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        del made.client.headers[SECRET_HEADER]
        for secret in (None, "", "wrong", SECRET + "x", SECRET[:-1], SECRET.upper()):
            headers = {} if secret is None else {SECRET_HEADER: secret}
            for method, path, message in ROUTES:
                assert "secret" in _error(await made.send(method, path, message, headers), 403)
        assert made.replica.log.head.position == 0
        assert made.replica.status().role == "follower"
        assert made.catalog.asked == []


@in_fake_time
async def test_operators_need_no_secret_when_they_look_at_health_and_metrics(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        del made.client.headers[SECRET_HEADER]
        for path in OPEN:
            assert (await made.get(path)).status_code == 200
        assert 'path="/status"' not in (await made.get("/metrics")).text
        for path in ("/docs", "/openapi.json", "/", "/status/", "//status", "/livez/", "/nothing"):
            _error(await made.get(path), 403)


@in_fake_time
async def test_404_when_there_is_no_such_page(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        for path in ("/docs", "/openapi.json", "/redoc", "/", "/status/", "/orders/", "/orders/1/", "/nothing"):
            _error(await made.get(path), 404)


@in_fake_time
async def test_405_with_the_methods_when_a_read_is_sent_as_something_else(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        for path in ("/status", "/generation", "/entries", "/orders", "/orders/1"):
            for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
                response = await made.send(method, path, None)
                _error(response, 405)
                assert response.headers["allow"] == "GET"


# Without a generation.


@in_fake_time
async def test_only_status_and_what_gives_a_generation_is_answered_when_there_is_none(tmp_path: Path) -> None:
    async with served(tmp_path, level=False) as made:
        answered = {"/status", "/generation", "/leader"}  # the notice only changes what is shown
        for method, path, message in ROUTES:
            if path in answered:
                assert (await made.send(method, path, message)).status_code == 200
            elif path != "/adopt":
                response = await made.send(method, path, message)
                assert _error(response, 503) == "no generation"
                assert response.headers["retry-after"] == "1"
        assert (await made.post("/adopt", ADOPT)).status_code == 200


@in_fake_time
async def test_readiness_says_what_is_missing_when_a_replica_starts(tmp_path: Path) -> None:
    async with served(tmp_path, level=False) as made:
        assert _error(await made.get("/readyz"), 503) == "no generation yet: the catalog gives it"
        assert (await made.get("/livez")).json() == {"status": "alive"}
        assert (await made.get("/generation")).json() == {"generation": None, "stocks": []}
        assert (await made.post("/adopt", ADOPT)).status_code == 200
        assert _error(await made.get("/readyz"), 503) == "not level with the catalog"
        made.catalog.is_starting = False
        await until(lambda: made.replica.follower.link.is_level)
        assert (await made.get("/readyz")).json() == {"status": "ready"}
        made.catalog.is_starting = True
        await asyncio.sleep(LEVEL_S + 0.1)
        assert _error(await made.get("/readyz"), 503) == "not level with the catalog"


# Each route.


@in_fake_time
async def test_status_tells_head_level_and_role(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        status = (await made.get("/status")).json()
        assert 0 <= status.pop("level_age") <= 0.5
        empty = {"position": 0, "number": 0, "digest": HEAD.digest}
        known = {"replica_id": 3, "generation": 1, "role": "follower", "level": True}
        assert status == {**known, "head": empty}
        await made.trade(make_trade("a"), make_trade("b", quantity=1_000))
        head = (await made.get("/status")).json()["head"]
        assert (head["position"], head["number"]) == (2, 1)


@in_fake_time
async def test_the_role_follows_what_front_ends_selected(tmp_path: Path) -> None:
    async with served(tmp_path) as made:

        async def notice(front_end: str, leader: int) -> str:
            response = await made.post("/leader", LeaderNotice(front_end=front_end, leader=leader))
            role: str = response.json()["role"]
            return role

        assert await notice("front-end-1", 3) == "leader"
        assert await notice("front-end-2", 2) == "leader"
        assert await notice("front-end-1", 2) == "follower"
        for i in range(MAX_FRONT_ENDS + 50):
            await notice(f"stranger-{i}", 2)
        assert len(made.replica._selected_by) == MAX_FRONT_ENDS
        assert await notice("front-end-1", 3) == "leader"
        assert await notice("another", 3) == "leader"
        assert await notice("front-end-1", 1) == "follower"


@in_fake_time
async def test_a_leader_looks_at_its_followers_at_once_and_again_and_a_follower_at_nobody(tmp_path: Path) -> None:
    async with served(tmp_path) as made:

        def looks() -> list[int]:
            return [made.outside.network.count(replica_url(i), "/append") for i in (1, 2)]

        await made.post("/leader", LeaderNotice(front_end="front-end-1", leader=2))
        await asyncio.sleep(4.4 * LOOK_EVERY_S)
        assert looks() == [0, 0]
        for _ in range(2):
            await made.post("/leader", NOTICE)
            await asyncio.sleep(0.01)
            assert looks() == [1, 1]
        await asyncio.sleep(4 * LOOK_EVERY_S)
        assert min(looks()) > 2


@in_fake_time
async def test_trades_are_answered_in_the_order_of_the_request(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        outcomes = await made.trade(
            make_trade("a", quantity=60),
            make_trade("b", quantity=60),
            make_trade("a", quantity=60),
            make_trade("a", quantity=61),
            make_trade("c", name="Unknown"),
            make_trade("d", kind="sell", quantity=7, name="BoarCo"),
        )
        results = [(outcome["result"], outcome["number"], outcome["replayed"]) for outcome in outcomes]
        assert results == [
            ("accepted", 1, False),
            ("refused", None, False),
            ("accepted", 1, False),
            ("other_content", None, False),
            ("unknown_stock", None, False),
            ("accepted", 2, False),
        ]
        assert (await made.trade(make_trade("b", quantity=60)))[0] == {
            "result": "refused",
            "number": None,
            "replayed": True,
        }
        assert await made.trade() == []
        assert made.catalog.asked == [["a", "b", "d"]]


@in_fake_time
async def test_all_trades_of_a_request_are_answered_in_time_when_the_catalog_hangs(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        await made.trade(make_trade("old"))
        made.outside.network.fault(CATALOG, "hangs")
        began = made.outside.clock()
        outcomes = await made.trade(make_trade("old"), make_trade("a"), make_trade("b"), seconds=3)
        assert [outcome["result"] for outcome in outcomes] == ["accepted", "unknown", "unknown"]
        assert made.outside.clock() - began == pytest.approx(3)


@in_fake_time
async def test_entries_and_orders_are_handed_out_in_pages(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        trades = [make_trade(f"key-{i}", kind="sell") for i in range(MAX_ENTRIES + 5)]
        assert {outcome["result"] for outcome in await made.trade(*trades)} == {"accepted"}
        entries = (await made.get("/entries?after=0")).json()
        assert [entry["position"] for entry in entries["entries"]] == list(range(1, MAX_ENTRIES + 1))
        assert entries["head"]["position"] == MAX_ENTRIES + 5
        assert len((await made.get(f"/entries?after={MAX_ENTRIES}&limit=3")).json()["entries"]) == 3
        page = (await made.get("/orders")).json()
        assert (len(page["orders"]), page["next"]) == (100, 100)
        page = (await made.get(f"/orders?after=1000&limit={MAX_ENTRIES}")).json()
        assert ([order["number"] for order in page["orders"]], page["next"]) == ([1001, 1002, 1003, 1004, 1005], None)
        assert (await made.get("/orders/7")).json()["order"] == {
            "number": 7,
            "name": "GameStart",
            "type": "sell",
            "quantity": 1,
        }
        assert (await made.get("/orders/1006")).json() == {"generation": 1, "order": None}


@in_fake_time
async def test_appending_and_adopting_work_over_http(tmp_path: Path) -> None:
    chain = Chain()
    chain.add(3)
    async with served(tmp_path) as made:
        made.catalog.is_starting = True
        request = AppendRequest(generation=1, before=chain.head(0), entries=chain.entries)
        assert (await made.post("/append", request)).json() == {
            "generation": 1,
            "outcome": "taken",
            "head": chain.head().model_dump(),
        }
        adopt = AdoptRequest(generation=2, stocks=STOCKS)
        expected = {"generation": 2, "outcome": "adopted", "head": chain.head().model_dump()}
        assert (await made.post("/adopt", adopt)).json() == expected
        assert (await made.post("/adopt", adopt)).json() == expected
        assert (await made.post("/adopt", ADOPT)).json() == {**expected, "outcome": "refused"}
        assert (await made.post("/append", request)).json()["outcome"] == "other_generation"
        stocks = [stock.model_dump() for stock in STOCKS]
        assert (await made.get("/generation")).json() == {"generation": 2, "stocks": stocks}


# Nonsense.


def _change(message: Message, path: str, value: Any) -> str:
    """The message as JSON, with one member changed; a path that ends in `+` adds it."""
    body = json.loads(message.model_dump_json())
    *parts, last = path.removesuffix("+").split(".")
    target = body
    for part in parts:
        target = target[int(part) if part.isdigit() else part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(body)


def _entry() -> AppendRequest:
    chain = Chain()
    return APPEND.model_copy(update={"entries": chain.add()})


NONSENSE = [
    ("/adopt", ""),
    ("/adopt", "{"),
    ("/adopt", "[]"),
    ("/adopt", "null"),
    ("/adopt", _change(ADOPT, "generation", "1")),
    ("/adopt", _change(ADOPT, "generation", 1.5)),
    ("/adopt", _change(ADOPT, "generation", None)),
    ("/adopt", _change(ADOPT, "stocks", ...)),
    ("/adopt", _change(ADOPT, "stocks.0.name", "")),
    ("/append", _change(APPEND, "generation", True)),
    ("/append", _change(APPEND, "before", None)),
    ("/append", _change(_entry(), "entries.0.type", "hold")),
    ("/append", _change(_entry(), "entries.0.quantity", 0)),
    ("/append", _change(_entry(), "entries.0.key", "a b")),
    ("/append", _change(_entry(), "entries.0.digest", ...)),
    ("/trades", _change(TRADES, "time_left", "soon")),
    ("/trades", _change(TRADES, "trades.0.quantity", 1_000_001)),
    ("/trades", _change(TRADES, "trades.0.quantity", 1.0)),
    ("/trades", _change(TRADES, "trades.0.key", "x" * 65)),
    ("/trades", _change(TRADES, "trades.0.key", "")),
    ("/leader", _change(NOTICE, "leader", None)),
]


def test_422_and_nothing_changes_when_a_message_is_none_of_ours(tmp_path: Path) -> None:
    @in_fake_time
    async def run() -> None:
        async with served(tmp_path, level=False) as made:
            await made.post("/adopt", ADOPT)
            for path, content in NONSENSE:
                message = _error(await made.client.post(path, content=content), 422)
                assert message == "this is no message of ours", content
            for body in (b"\xff\xfe", b'{"generation": 1, "generation": 2}', b"[" * 100_000):
                _error(await made.client.post("/adopt", content=body), 422)
            assert made.replica.log.generation == 1
            assert made.replica.log.head.position == 0
            assert made.replica._selected_by == {}
            assert made.outside.ended_with == []

    run()


@in_fake_time
async def test_413_when_a_message_is_far_too_long(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        _error(await made.client.post("/append", content=b" " * (MAX_MESSAGE_BYTES + 1)), 413)
        stocks = [Stock(name=f"stock-{i}", price=1, quantity=1) for i in range(20_000)]
        assert (await made.post("/adopt", AdoptRequest(generation=2, stocks=stocks))).status_code == 200


@in_fake_time
async def test_422_when_a_page_makes_no_sense(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        for query in ("after=-1", "after=x", f"after={2**63}", "after=", "after=0&limit=0", "after=0&limit=1001"):
            for path in ("/entries", "/orders"):
                _error(await made.get(f"{path}?{query}"), 422)
        _error(await made.get("/entries?limit=5"), 422)


@in_fake_time
async def test_there_is_no_order_when_its_number_makes_no_sense(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        await made.trade(make_trade("a"))
        for number in (0, -1, 2**63 - 1, 2**63, -(2**63) - 1, 10**40, -(10**40)):
            assert (await made.get(f"/orders/{number}")).json() == {"generation": 1, "order": None}
        for text in ("abc", "1.5", "%00", "1%20x", "None"):
            _error(await made.get(f"/orders/{text}"), 422)
        assert made.outside.ended_with == []


@pytest.mark.parametrize("way", ["a trade", "an order", "entries"])
def test_the_process_ends_for_good_when_its_database_cannot_be_read(tmp_path: Path, way: str) -> None:
    @in_fake_time
    async def run() -> None:
        async with served(tmp_path) as made:
            await made.trade(make_trade("a"))

            def broken(*_: object) -> None:
                raise IntegrityFailure("this page is damaged")

            with pytest.MonkeyPatch.context() as patch:
                for name in ("find", "order", "after"):
                    patch.setattr(made.replica.log._store, name, broken)
                if way == "a trade":
                    response = await made.post("/trades", TRADES)
                else:
                    response = await made.get("/orders/1" if way == "an order" else "/entries?after=0")
                assert "damaged" not in _error(response, 500)
                assert made.outside.ended_with[0] == 3

    run()


# Beginning and end.


@in_fake_time
async def test_a_second_replica_is_refused_on_the_same_database(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        with pytest.raises(DatabaseLocked):
            Served(tmp_path)
        assert (await made.trade(make_trade("a")))[0]["result"] == "accepted"


@in_fake_time
async def test_everything_is_there_when_a_replica_starts_again(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        await made.trade(make_trade("a"), make_trade("b"))
        entries = made.catalog.inventory.after(0)
    store = LogStore(tmp_path / "order-3.db")
    assert store.after(0, 10) == entries
    store.close()
    again = Served(tmp_path)
    again.catalog = DecidingCatalog(entries=entries)
    again.outside.network.serve(CATALOG, again.catalog.handle)
    async with again.client, again.app.router.lifespan_context(again.app):
        await until(lambda: again.replica.missing() is None)
        assert (await again.trade(make_trade("a")))[0] == {"result": "accepted", "number": 1, "replayed": True}
        assert (await again.trade(make_trade("c")))[0] == {"result": "accepted", "number": 3, "replayed": False}


@in_fake_time
async def test_a_replica_stops_cleanly_when_an_fsync_and_trades_are_under_way(tmp_path: Path) -> None:
    made = Served(tmp_path)
    async with made.client:
        async with made.app.router.lifespan_context(made.app):
            await until(lambda: made.replica.missing() is None)
            made.outside.disk.hold()
            trading = asyncio.ensure_future(made.trade(make_trade("a"), make_trade("b"), seconds=2))
            await until(lambda: made.replica.log.head.position == 2)
            await asyncio.sleep(0.1)
            asyncio.get_running_loop().call_later(0.5, made.outside.disk.release)
        outcomes = await trading
    assert [outcome["result"] for outcome in outcomes] == ["unknown", "unknown"] or outcomes[0]["number"] == 1
    assert made.outside.ended_with == []
    store = LogStore(tmp_path / "order-3.db")
    assert [entry.key for entry in store.after(0, 10)] == ["a", "b"]
    store.close()
