"""How long etcd takes no write, as a chaos run measures and shows it."""

import asyncio
import io
from collections.abc import Callable

import httpx
import pytest
from rich.console import Console

from eval.chaos.report import Round, summarise_rounds
from eval.chaos.show import again_table
from eval.hosts.etcd_watch import WRITE_EVERY_S, watching
from services.common.http import make_client
from services.common.runtime import Runtime
from tests.support.fake_time import FakeClock, in_fake_time


def etcd_that(handle: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    return make_client(Runtime(transport=lambda: httpx.MockTransport(handle)))


@in_fake_time
async def test_the_longest_time_without_a_write_is_that_without_an_answer() -> None:
    clock = FakeClock()

    def handle(request: httpx.Request) -> httpx.Response:
        if 1_001.0 < clock() < 1_002.5:
            return httpx.Response(503, json={"error": "no leader", "code": 14})
        return httpx.Response(200, json={"header": {"revision": "1"}, "succeeded": True})

    async with etcd_that(handle) as client, watching(client, ["http://etcd-1", "http://etcd-2"], clock) as watch:
        began = clock()
        await asyncio.sleep(5)
        assert watch.longest_s(began, clock()) == pytest.approx(1.5, abs=2 * WRITE_EVERY_S)
    assert len(asyncio.all_tasks()) == 1


@in_fake_time
async def test_a_watch_that_fails_is_not_taken_for_silence() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise ArithmeticError("a bug")

    with pytest.raises(ExceptionGroup) as caught:
        async with etcd_that(handle) as client, watching(client, ["http://etcd-1"], FakeClock()):
            await asyncio.sleep(1)
    assert caught.group_contains(ArithmeticError)


async def test_nothing_is_watched_when_every_node_is_struck() -> None:
    async with etcd_that(lambda _: httpx.Response(500)) as client, watching(client, []):
        pass
    assert len(asyncio.all_tasks()) == 1


def test_etcd_is_shown_beside_the_trades_where_there_is_one() -> None:
    plain = Round(
        number=1,
        kind="kill host-1",
        hit=["host-1"],
        began_s=0.0,
        undone_s=2.0,
        level_s=8.0,
        longest_ms={},
        trade_waits_ms=[],
        first_trade_ms=2_000.0,
        noticed_ms=None,
        downtime_ms={},
    )
    text = shown(plain.model_copy(update={"no_trade_ms": 1_111.0, "etcd_ms": 1_222.0}))
    assert text.index("no trade") < text.index("no write")
    assert text.index("1,111") < text.index("1,222")
    assert "2,000" not in text
    assert "2,000" in shown(plain)


def shown(round_: Round) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(again_table(summarise_rounds([round_], has_targets=False)))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "\u2026" not in text, "nothing is cut off"
    return text
