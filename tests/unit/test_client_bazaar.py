"""The library: retries, keys, addresses, errors and patience, against a front-end that misbehaves on purpose."""

import asyncio
import random
import uuid
from decimal import Decimal

import httpx
import pytest

from client import BazaarClient, NotAvailable, OutcomeUnknown, Rejected, StockView, TradeRefused
from client.bazaar import PATIENCE_S
from client.errors import BazaarClientError, Definite, Indefinite
from services.common.models import MAX_QUANTITY, Order
from services.common.runtime import Runtime
from tests.support.fake_front_end import FakeFrontEnd, FakeTime, error

URL = "http://front-end-1"
OTHER_URL = "http://front-end-2"

REFUSED = httpx.ConnectError("refused")
RESET = httpx.ReadError("reset")
SILENT = httpx.ReadTimeout("silent")


def make(
    front_end: FakeFrontEnd, *urls: str, time: FakeTime | None = None, patience_s: float = PATIENCE_S
) -> BazaarClient:
    time = time or FakeTime()
    runtime = Runtime(monotonic=time.monotonic, wall_ms=time.wall_ms, random=random.Random(7))
    return BazaarClient(
        *(urls or (URL,)), patience_s=patience_s, transport=front_end.transport, runtime=runtime, sleep=time.sleep
    )


def hosts(front_end: FakeFrontEnd) -> list[str]:
    return [f"http://{request.url.host}" for request in front_end.requests]


# Results.


@pytest.mark.parametrize(("header", "cache"), [("hit", "hit"), ("miss", "miss"), ("off", "off"), ("odd", "off")])
async def test_stock_has_exact_price_and_cache_result_when_looked_up(header: str, cache: str) -> None:
    front_end = FakeFrontEnd({"GameStart": 7}, cache=header)
    async with make(front_end) as client:
        stock = await client.look_up("GameStart")
    assert stock == StockView("GameStart", Decimal("152.25"), 7, cache)  # type: ignore[arg-type]
    assert str(stock.price) == "152.25"


async def test_stock_names_its_state_when_it_has_changed() -> None:
    async with make(FakeFrontEnd()) as client:
        before = await client.look_up("GameStart")
        await client.buy("GameStart", 1)
        assert (before.etag, (await client.look_up("GameStart")).etag) == ('"1-0"', '"1-1"')


async def test_all_stocks_come_by_name_when_there_are_several_pages() -> None:
    front_end = FakeFrontEnd({f"stock-{i}": i for i in range(7)})
    front_end.page = 3
    async with make(front_end) as client:
        names = [stock.name async for stock in client.stocks()]
    assert names == [f"stock-{i}" for i in range(7)]
    assert len(front_end.requests) == 3


async def test_order_can_be_read_when_a_trade_was_accepted() -> None:
    async with make(FakeFrontEnd()) as client:
        bought = await client.buy("GameStart", 3)
        sold = await client.sell("FishCo", 2)
        assert bought == Order(number=1, name="GameStart", type="buy", quantity=3)
        assert sold == Order(number=2, name="FishCo", type="sell", quantity=2)
        assert await client.order(2) == sold
        assert await client.order(3) is None


async def test_pages_of_orders_follow_each_other_when_asked_for_what_is_after() -> None:
    async with make(FakeFrontEnd()) as client:
        for _ in range(3):
            await client.buy("GameStart", 1)
        first = await client.orders(limit=2)
        second = await client.orders(after=first.next or 0, limit=2)
    assert [order.number for order in first.data] == [1, 2]
    assert [order.number for order in second.data] == [3]
    assert second.next is None


async def test_leader_and_cache_are_seen_when_asked_for() -> None:
    async with make(FakeFrontEnd()) as client:
        assert (await client.leader()).leader == 3
        assert (await client.cache()).capacity == 0


async def test_refusal_is_a_result_when_there_is_not_enough_stock() -> None:
    front_end = FakeFrontEnd({"GameStart": 1})
    async with make(front_end) as client:
        result = await client.buy("GameStart", 2, key="k1")
    assert result == TradeRefused("k1", "GameStart", "buy", 2, "not enough stock")
    assert len(front_end.requests) == 1


# Keys.


async def test_key_is_a_version_7_uuid_of_its_own_when_none_is_given() -> None:
    front_end = FakeFrontEnd()
    time = FakeTime()
    async with make(front_end, time=time) as client:
        await client.buy("GameStart", 1)
        time.now_s += 1
        await client.buy("GameStart", 1)
    first, second = (uuid.UUID(key) for key in front_end.keys)
    assert first.version == second.version == 7
    assert first.variant == uuid.RFC_4122
    assert first < second
    assert first.int >> 80 == 1_800_001_000_000


async def test_keys_differ_when_clients_are_made_with_the_default_randomness() -> None:
    async with BazaarClient(URL) as one, BazaarClient(URL) as other:
        assert len({client.new_key() for client in (one, other) for _ in range(1_000)}) == 2_000


@pytest.mark.parametrize("fault", [RESET, SILENT, REFUSED, error(503), error(504), error(500), error(502)], ids=repr)
async def test_same_key_is_sent_again_when_an_attempt_fails(fault: httpx.Response | Exception) -> None:
    front_end = FakeFrontEnd()
    front_end.faults.extend([fault, fault])
    async with make(front_end) as client:
        order = await client.buy("GameStart", 1)
        assert client.retries == 2
    assert isinstance(order, Order)
    assert len(front_end.keys) == 3
    assert len(set(front_end.keys)) == 1


async def test_trade_executes_once_when_its_answer_is_lost() -> None:
    front_end = FakeFrontEnd({"GameStart": 10})
    front_end.do_then_fail.append(RESET)
    async with make(front_end) as client:
        assert await client.buy("GameStart", 1) == Order(number=1, name="GameStart", type="buy", quantity=1)
    assert front_end.stocks == {"GameStart": 9}


async def test_both_get_the_same_order_when_one_key_is_used_twice_at_once() -> None:
    front_end = FakeFrontEnd({"GameStart": 10})
    async with make(front_end) as client:
        one, other = await asyncio.gather(client.buy("GameStart", 1, key="k"), client.buy("GameStart", 1, key="k"))
    assert one == other
    assert front_end.stocks == {"GameStart": 9}


# Addresses.


@pytest.mark.parametrize("fault", [RESET, SILENT, REFUSED, error(503)], ids=repr)
async def test_next_address_is_asked_without_a_pause_when_one_fails(fault: httpx.Response | Exception) -> None:
    front_end, time = FakeFrontEnd(), FakeTime()
    front_end.faults.append(fault)
    async with make(front_end, URL, OTHER_URL + "/", time=time) as client:
        await client.buy("GameStart", 1)
        await client.look_up("GameStart")
    assert hosts(front_end) == [URL, OTHER_URL, OTHER_URL]  # and stays with the one that answered
    assert time.sleeps == [0.0]


async def test_first_address_comes_again_after_a_pause_when_all_failed() -> None:
    front_end, time = FakeFrontEnd(), FakeTime()
    front_end.faults.extend([REFUSED, REFUSED])
    async with make(front_end, URL, OTHER_URL, time=time) as client:
        await client.look_up("GameStart")
    assert hosts(front_end) == [URL, OTHER_URL, URL]
    assert time.sleeps[0] == 0
    assert time.sleeps[1] > 0


async def test_next_address_is_not_skipped_when_two_calls_fail_at_once() -> None:
    front_end, both_are_there = FakeFrontEnd(), asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "front-end-1":
            front_end.faults.append(REFUSED)
            if len(front_end.faults) == 2:
                both_are_there.set()
            await both_are_there.wait()
        return await front_end.handle(request)

    async with BazaarClient(URL, OTHER_URL, "http://front-end-3", transport=httpx.MockTransport(handle)) as client:
        await asyncio.gather(client.look_up("GameStart"), client.look_up("GameStart"))
    assert hosts(front_end) == [URL, URL, OTHER_URL, OTHER_URL]


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://", "http://x?a=b"])
def test_address_is_refused_when_it_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="address of a front-end"):
        BazaarClient(url)


def test_client_is_refused_when_it_has_no_address() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BazaarClient()


# Errors.


@pytest.mark.parametrize("code", [400, 404, 413, 415, 422])
async def test_trade_is_not_retried_when_it_is_rejected(code: int) -> None:
    front_end = FakeFrontEnd()
    front_end.faults.append(error(code, "no"))
    async with make(front_end, URL, OTHER_URL) as client:
        with pytest.raises(Rejected) as caught:
            await client.buy("GameStart", 1)
    assert (caught.value.code, caught.value.message, str(caught.value)) == (code, "no", f"no ({code})")
    assert len(front_end.requests) == 1


async def test_look_up_is_rejected_when_there_is_no_such_stock() -> None:
    async with make(FakeFrontEnd()) as client:
        with pytest.raises(Rejected, match=r"no such stock \(404\)"):
            await client.look_up("Nobody")


@pytest.mark.parametrize("name", ["a/b", "ä b?c#d", "%2e", "\ud800", ""])
async def test_look_up_is_rejected_when_the_name_is_odd(name: str) -> None:
    front_end = FakeFrontEnd({})
    front_end.faults.append(error(404))
    async with make(front_end) as client:
        with pytest.raises(Rejected):
            await client.look_up(name)
    assert front_end.requests[0].url.raw_path.count(b"/") == 2
    assert front_end.requests[0].url.query == b""


@pytest.mark.parametrize(
    ("name", "quantity", "key"),
    [("no name", 1, None), ("GameStart", 0, None), ("GameStart", MAX_QUANTITY + 1, None), ("GameStart", 1, "ä")],
)
async def test_nothing_is_sent_when_a_trade_makes_no_sense(name: str, quantity: int, key: str | None) -> None:
    front_end = FakeFrontEnd()
    async with make(front_end) as client:
        with pytest.raises(Rejected):
            await client.buy(name, quantity, key)
    assert front_end.requests == []


@pytest.mark.parametrize("fault", [REFUSED, error(503), error(429)], ids=repr)
async def test_trade_ends_definite_when_every_attempt_was_refused(fault: httpx.Response | Exception) -> None:
    front_end = FakeFrontEnd()
    front_end.faults.extend([fault] * 1_000)
    async with make(front_end, URL, OTHER_URL) as client:
        with pytest.raises(NotAvailable):
            await client.buy("GameStart", 1)


@pytest.mark.parametrize("fault", [RESET, SILENT, error(504), error(500), error(302), httpx.Response(200)], ids=repr)
async def test_trade_stays_indefinite_when_one_attempt_was(fault: httpx.Response | Exception) -> None:
    front_end = FakeFrontEnd()
    front_end.faults.extend([error(503), fault, *[error(503)] * 1_000])
    async with make(front_end) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.buy("GameStart", 1)
    assert caught.value.key == front_end.keys[0]
    assert caught.value.key in str(caught.value)


async def test_trade_is_executed_once_when_it_was_turned_away_at_first() -> None:
    front_end, time = FakeFrontEnd({"GameStart": 10}), FakeTime()
    front_end.faults.extend([error(429, headers={"retry-after": "2"})] * 3)
    async with make(front_end, time=time) as client:
        order = await client.buy("GameStart", 1)
    assert order == Order(number=1, name="GameStart", type="buy", quantity=1)
    assert time.sleeps == [2.0, 2.0, 2.0]
    assert len(set(front_end.keys)) == 1


async def test_outcome_is_learned_when_the_caller_asks_again_with_the_key() -> None:
    front_end = FakeFrontEnd({"GameStart": 10})
    front_end.do_then_fail.extend([error(504)] * 1_000)
    async with make(front_end) as client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.buy("GameStart", 1)
        front_end.do_then_fail.clear()
        order = await client.buy("GameStart", 1, caught.value.key)
    assert order == Order(number=1, name="GameStart", type="buy", quantity=1)
    assert front_end.stocks == {"GameStart": 9}


async def test_trade_is_rejected_when_its_key_is_found_to_be_anothers_after_a_lost_attempt() -> None:
    front_end = FakeFrontEnd()
    async with make(front_end) as client:
        await client.buy("GameStart", 1, key="mine")
        front_end.faults.append(RESET)
        with pytest.raises(Rejected, match=r"another trade \(422\)"):
            await client.buy("GameStart", 2, key="mine")
    assert len(front_end.orders) == 1


async def test_trade_stays_indefinite_when_a_rejection_follows_a_lost_attempt() -> None:
    front_end = FakeFrontEnd()
    front_end.faults.extend([RESET, error(404)])
    async with make(front_end, URL, OTHER_URL) as client:
        with pytest.raises(OutcomeUnknown):
            await client.buy("GameStart", 1)


async def test_refusal_is_final_when_it_follows_a_lost_attempt() -> None:
    front_end = FakeFrontEnd({"GameStart": 0})
    front_end.do_then_fail.append(error(504))
    async with make(front_end) as client:
        assert isinstance(await client.buy("GameStart", 1), TradeRefused)


async def test_read_ends_definite_when_the_connection_keeps_breaking() -> None:
    front_end = FakeFrontEnd()
    front_end.faults.extend([RESET] * 1_000)
    async with make(front_end) as client:
        with pytest.raises(NotAvailable, match="the connection broke, for 30 s"):
            await client.order(1)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"data": {"name": "GameStart"}}', b"\xff"])
async def test_read_is_tried_again_when_the_answer_is_none_of_ours(content: bytes) -> None:
    front_end = FakeFrontEnd()
    front_end.faults.append(httpx.Response(200, content=content))
    async with make(front_end) as client:
        assert (await client.look_up("GameStart")).quantity == 100


async def test_rejection_has_a_message_when_the_error_has_another_shape() -> None:
    front_end = FakeFrontEnd()
    front_end.faults.append(httpx.Response(404, text="<html>"))
    async with make(front_end) as client:
        with pytest.raises(Rejected, match="without a message"):
            await client.look_up("GameStart")


def test_every_error_is_final_definite_or_indefinite() -> None:
    assert issubclass(NotAvailable, Definite)
    assert issubclass(OutcomeUnknown, Indefinite)
    assert {kind.__name__ for kind in BazaarClientError.__subclasses__()} == {"Rejected", "Definite", "Indefinite"}


# Patience.


async def test_call_ends_within_patience_when_nobody_ever_answers() -> None:
    front_end, time = FakeFrontEnd(), FakeTime()
    front_end.faults.extend([error(503)] * 1_000)
    async with make(front_end, time=time) as client:
        with pytest.raises(NotAvailable):
            await client.buy("GameStart", 1)
    assert PATIENCE_S - 1 < time.now_s - 1_000 <= PATIENCE_S
    assert 25 < len(front_end.requests) < 80


async def test_call_ends_within_patience_when_attempts_take_time() -> None:
    front_end, time = FakeFrontEnd(), FakeTime()

    def slow(_: httpx.Request) -> httpx.Response:
        time.now_s += 10
        return error(504)

    front_end.faults.extend([slow] * 10)
    async with make(front_end, time=time) as client:
        with pytest.raises(OutcomeUnknown):
            await client.buy("GameStart", 1)
    assert len(front_end.requests) == 3


async def test_pauses_grow_to_a_limit_when_attempts_keep_failing() -> None:
    front_end, time = FakeFrontEnd(), FakeTime()
    front_end.faults.extend([REFUSED] * 1_000)
    async with make(front_end, time=time) as client:
        with pytest.raises(NotAvailable):
            await client.look_up("GameStart")
    assert 0.025 <= time.sleeps[0] <= 0.05
    assert 0.4 <= time.sleeps[4] <= 0.8
    assert max(time.sleeps) <= 1
    assert len(set(time.sleeps)) > len(time.sleeps) - 3  # jitter


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(("header", "wait_s"), [("2", 2.0), ("3600", 5.0), ("9" * 5_000, 5.0)])
async def test_pause_is_as_long_as_asked_for_within_reason_when_there_is_a_retry_after(
    code: int, header: str, wait_s: float
) -> None:
    front_end, time = FakeFrontEnd(), FakeTime()
    front_end.faults.append(error(code, headers={"retry-after": header}))
    async with make(front_end, time=time) as client:
        await client.look_up("GameStart")
    assert time.sleeps == [wait_s]


@pytest.mark.parametrize("header", ["-1", "soon", "", "1e3", "²"])
async def test_pause_is_short_when_the_retry_after_is_no_number(header: str) -> None:
    front_end, time = FakeFrontEnd(), FakeTime()
    front_end.faults.append(httpx.Response(503, headers=[(b"retry-after", header.encode("latin-1"))]))
    async with make(front_end, time=time) as client:
        await client.look_up("GameStart")
    assert time.sleeps[0] <= 0.05


async def test_one_attempt_is_made_when_patience_is_short() -> None:
    front_end = FakeFrontEnd()
    front_end.faults.append(REFUSED)
    async with make(front_end, patience_s=0.3) as client:
        with pytest.raises(NotAvailable):
            await client.look_up("GameStart")
        await client.look_up("GameStart")


async def test_attempt_is_given_up_when_the_front_end_is_silent() -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    async with BazaarClient(URL, transport=Silent(), patience_s=0.02) as client:
        with pytest.raises(OutcomeUnknown, match="no answer in time"):
            await client.buy("GameStart", 1)
        with pytest.raises(NotAvailable):
            await client.look_up("GameStart")


# The real transport.


async def serve(answer: bytes | None) -> tuple[asyncio.Server, str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        if answer is None:
            writer.transport.abort()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_refused_connection_is_definite_when_the_transport_is_the_real_one() -> None:
    server, url = await serve(None)
    server.close()
    await server.wait_closed()
    async with BazaarClient(url, patience_s=0.4) as client:
        with pytest.raises(NotAvailable, match="refused"):
            await client.buy("GameStart", 1)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"hello there\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
    ],
)
async def test_broken_connection_is_indefinite_when_the_transport_is_the_real_one(answer: bytes | None) -> None:
    server, url = await serve(answer)
    async with server, BazaarClient(url, patience_s=0.4) as client:
        with pytest.raises(OutcomeUnknown):
            await client.buy("GameStart", 1)
