"""Placing and reading orders through a front-end: answers, keys, and what a customer sees when replicas fail."""

import asyncio
import uuid

import httpx
import pytest

from services.common.models import TradeResult
from services.common.timing import REQUEST_S
from tests.support.fake_bazaar import FakeBazaar
from tests.support.fake_time import in_fake_time, until

CREATED = {"data": {"number": 1, "name": "GameStart", "type": "buy", "quantity": 3}}


def error_code(response: httpx.Response) -> int:
    """The code of an error in the one shape; it is also the status."""
    error = response.json()
    assert set(error) == {"error"}
    assert set(error["error"]) == {"code", "message"}
    assert error["error"]["code"] == response.status_code
    code: int = error["error"]["code"]
    return code


@in_fake_time
async def test_order_is_answered_201_with_its_location_and_can_be_read_there() -> None:
    async with FakeBazaar().running() as bazaar:
        response = await bazaar.buy(3)
        assert (response.status_code, response.json()) == (201, CREATED)
        assert response.headers["location"] == "/orders/1"
        read = await bazaar.client.get(response.headers["location"])
        assert (read.status_code, read.json()) == (200, CREATED)


@in_fake_time
async def test_key_is_made_when_the_customer_sent_none() -> None:
    async with FakeBazaar().running() as bazaar:
        first, second = await bazaar.buy(), await bazaar.buy()
        keys = [response.headers["idempotency-key"] for response in (first, second)]
        assert keys[0] != keys[1]
        assert [uuid.UUID(key).version for key in keys] == [7, 7]
        assert "idempotency-replayed" not in first.headers


@in_fake_time
async def test_same_key_and_trade_give_the_same_order_again() -> None:
    async with FakeBazaar().running() as bazaar:
        first, second = await bazaar.buy(3, "my-key"), await bazaar.buy(3, "my-key")
        assert (second.status_code, second.json()) == (201, first.json())
        assert second.headers["location"] == "/orders/1"
        assert "idempotency-replayed" not in first.headers
        assert second.headers["idempotency-replayed"] == "true"
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "my-key"


@in_fake_time
async def test_same_key_twice_at_once_gives_one_order_to_both() -> None:
    async with FakeBazaar().running() as bazaar:
        first, second = await asyncio.gather(bazaar.buy(3, "my-key"), bazaar.buy(3, "my-key"))
        assert first.json() == second.json() == CREATED
        assert len(bazaar.log.orders) == 1


@in_fake_time
async def test_replay_is_not_told_when_the_retry_was_ours() -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.fault(3, "does_then_resets")
        response = await bazaar.buy(3)
        assert (response.status_code, response.json()) == (201, CREATED)
        assert "idempotency-replayed" not in response.headers


@in_fake_time
@pytest.mark.parametrize(
    ("result", "code"),
    [("refused", 409), ("other_content", 422), ("unknown_stock", 404)],
)
async def test_final_outcomes_carry_the_key(result: TradeResult, code: int) -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.replicas[3].result = result
        response = await bazaar.buy(1, "my-key")
        assert error_code(response) == code
        assert response.headers["idempotency-key"] == "my-key"
        assert "retry-after" not in response.headers


@in_fake_time
async def test_key_of_another_trade_is_refused() -> None:
    async with FakeBazaar().running() as bazaar:
        await bazaar.buy(1, "my-key")
        assert error_code(await bazaar.buy(2, "my-key")) == 422


@in_fake_time
async def test_trade_that_was_certainly_not_executed_is_answered_503_with_its_key() -> None:
    async with FakeBazaar().running() as bazaar:
        for replica_id in bazaar.replicas:
            bazaar.fault(replica_id, "refuses")
        began = bazaar.clock()
        response = await bazaar.buy()
        assert error_code(response) == 503
        assert response.headers["retry-after"] == "1"
        assert uuid.UUID(response.headers["idempotency-key"]).version == 7
        assert bazaar.clock() - began <= REQUEST_S


@in_fake_time
async def test_trade_that_may_have_been_executed_is_answered_504_with_its_key() -> None:
    async with FakeBazaar().running() as bazaar:
        for replica_id in bazaar.replicas:
            bazaar.fault(replica_id, "hangs")
        response = await bazaar.buy()
        assert error_code(response) == 504
        assert "retry-after" not in response.headers
        for replica_id in bazaar.replicas:
            bazaar.fault(replica_id, None)
        again = await bazaar.buy(1, response.headers["idempotency-key"])
        assert (again.status_code, len(bazaar.log.orders)) == (201, 1)


@in_fake_time
async def test_crash_is_answered_500_with_the_key_and_without_the_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeBazaar().running() as bazaar:

        async def crash(_: object) -> None:
            raise ZeroDivisionError("secret of the inside")

        monkeypatch.setattr(bazaar.front_end.forwarder, "trade", crash)
        response = await bazaar.buy(1, "my-key")
        assert error_code(response) == 500
        assert response.headers["idempotency-key"] == "my-key"
        assert "secret" not in response.text


@in_fake_time
async def test_trades_beyond_the_limit_are_answered_503_and_those_within_it_are_served() -> None:
    async with FakeBazaar(max_trades=2).running() as bazaar:
        release = asyncio.Event()
        bazaar.replicas[3].before_trades = release.wait
        tasks = [asyncio.create_task(bazaar.buy()) for _ in range(2)]
        await bazaar.replicas[3].arrived.wait()
        response = await bazaar.buy()
        assert error_code(response) == 503
        assert "idempotency-key" in response.headers
        release.set()
        assert [(await task).status_code for task in tasks] == [201, 201]


@in_fake_time
@pytest.mark.parametrize("fault", ["refuses", "resets", "hangs", "does_then_resets"])
async def test_customer_sees_no_error_when_the_leader_fails(fault: str) -> None:
    async with FakeBazaar().running() as bazaar:
        bazaar.fault(3, fault)
        responses = await asyncio.gather(*(bazaar.buy(1, f"key-{number}") for number in range(10)))
        assert {response.status_code for response in responses} == {201}
        assert sorted(response.json()["data"]["number"] for response in responses) == list(range(1, 11))
        assert (await bazaar.client.get("/orders/10")).status_code == 200


@in_fake_time
async def test_orders_are_listed_by_number_in_pages() -> None:
    async with FakeBazaar().running() as bazaar:
        for number in range(5):
            await bazaar.buy(number + 1)
        page = (await bazaar.client.get("/orders?limit=2")).json()
        assert [order["number"] for order in page["data"]] == [1, 2]
        assert page["next"] == 2
        page = (await bazaar.client.get("/orders?after=4")).json()
        assert page == {"data": [{"number": 5, "name": "GameStart", "type": "buy", "quantity": 5}], "next": None}
        assert (await bazaar.client.get(f"/orders?after={2**63 - 1}")).json() == {"data": [], "next": None}


@in_fake_time
async def test_order_that_does_not_exist_is_not_found() -> None:
    async with FakeBazaar().running() as bazaar:
        assert error_code(await bazaar.client.get("/orders/1")) == 404
        assert error_code(await bazaar.client.get(f"/orders/{2**63 - 1}")) == 404


@in_fake_time
async def test_order_query_is_answered_503_when_no_replica_answers() -> None:
    async with FakeBazaar().running() as bazaar:
        for replica_id in bazaar.replicas:
            bazaar.fault(replica_id, "refuses")
        for path in ("/orders/1", "/orders"):
            response = await bazaar.client.get(path)
            assert error_code(response) == 503
            assert response.headers["retry-after"] == "1"


@in_fake_time
async def test_nothing_is_left_over_when_the_front_end_stops_with_trades_under_way() -> None:
    bazaar = FakeBazaar()
    async with bazaar.running():
        bazaar.replicas[3].before_trades = asyncio.Event().wait
        trade = asyncio.create_task(bazaar.buy())
        await bazaar.replicas[3].arrived.wait()
    trade.cancel()
    await asyncio.gather(trade, return_exceptions=True)
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
