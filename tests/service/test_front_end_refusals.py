"""Trades that are all refused: beyond a limit they are turned away before anybody is asked."""

import asyncio

from tests.support.fake_bazaar import FakeBazaar
from tests.support.fake_time import in_fake_time

TOO_MANY = 101  # more than there are


def limited() -> FakeBazaar:
    return FakeBazaar(refused_trades_per_s=0.5, refused_trades_burst=3)


def entries(bazaar: FakeBazaar) -> int:
    """How many trades were decided."""
    return len(bazaar.log.decided)


@in_fake_time
async def test_trade_is_turned_away_unasked_when_too_many_before_it_were_refused() -> None:
    async with limited().running() as bazaar:
        codes = [(await bazaar.buy(TOO_MANY)).status_code for _ in range(3)]
        asked = sum(len(replica.batches) for replica in bazaar.replicas.values())
        answer = await bazaar.buy(1, "mine-1")

        assert codes == [409, 409, 409]
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert answer.json()["error"]["code"] == 429
        assert answer.headers["idempotency-key"] == "mine-1"
        assert sum(len(replica.batches) for replica in bazaar.replicas.values()) == asked
        assert "bazaar_trades_turned_away_total 1.0" in (await bazaar.client.get("/metrics")).text


@in_fake_time
async def test_trade_is_executed_when_the_wait_that_was_told_is_over() -> None:
    async with limited().running() as bazaar:
        for _ in range(3):
            await bazaar.buy(TOO_MANY)
        answer = await bazaar.buy(1, "mine-1")
        await asyncio.sleep(int(answer.headers["retry-after"]))
        again = await bazaar.buy(1, "mine-1")

        assert again.status_code == 201
        assert "idempotency-replayed" not in again.headers


@in_fake_time
async def test_accepted_trades_and_replays_do_not_count() -> None:
    async with limited().running() as bazaar:
        assert [(await bazaar.buy(1)).status_code for _ in range(10)] == [201] * 10
        assert [(await bazaar.buy(TOO_MANY, "refused-1")).status_code for _ in range(10)] == [409] * 10
        assert entries(bazaar) == 11
        assert [(await bazaar.buy(TOO_MANY)).status_code for _ in range(3)] == [409, 409, 429]


@in_fake_time
async def test_trades_that_cost_no_entry_do_not_count() -> None:
    async with limited().running() as bazaar:
        await bazaar.buy(1, "mine-1")
        for _ in range(5):
            assert (await bazaar.buy(2, "mine-1")).status_code == 422
            assert (await bazaar.buy(1, name="nothing")).status_code == 404
        assert (await bazaar.buy(1)).status_code == 201


@in_fake_time
async def test_look_ups_are_answered_when_trades_are_turned_away() -> None:
    async with limited().running() as bazaar:
        assert [(await bazaar.buy(TOO_MANY)).status_code for _ in range(4)] == [409, 409, 409, 429]
        assert await bazaar.look_up("GameStart") == (100, "miss")
        assert (await bazaar.client.get("/orders")).status_code == 200


@in_fake_time
async def test_every_refusal_is_an_answer_when_there_is_no_limit() -> None:
    async with FakeBazaar(refused_trades_per_s=0, refused_trades_burst=1).running() as bazaar:
        assert [(await bazaar.buy(TOO_MANY)).status_code for _ in range(20)] == [409] * 20
