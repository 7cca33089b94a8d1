"""The lab's client: what it does, what it records, and that it finds out a bazaar that lies."""

import asyncio
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import accumulate

import httpx
import pytest

from client import BazaarClient, NotAvailable
from client.load import LoadSettings, build_report, drive, run_load
from client.pace import OpenLoop, Work
from client.record import Acknowledged, Event, WorkloadRecord
from client.workload import Workload
from services.common.runtime import Runtime
from tests.support.fake_front_end import FakeFrontEnd, FakeTime, error
from tests.support.patience import PATIENCE_S

URL = "http://front-end-1"
NAMES = ("GameStart", "FishCo")

Lie = Callable[[httpx.Request, httpx.Response], httpx.Response]


class Liar(FakeFrontEnd):
    """Does everything right, then says something else."""

    def __init__(self, lie: Lie) -> None:
        super().__init__()
        self._lie = lie

    async def handle(self, request: httpx.Request) -> httpx.Response:
        return self._lie(request, await super().handle(request))


def world(front_end: FakeFrontEnd, time: FakeTime | None = None) -> Runtime:
    time = time or FakeTime()
    return Runtime(monotonic=time.monotonic, wall_ms=time.wall_ms, transport=lambda: front_end.transport)


async def work(
    front_end: FakeFrontEnd,
    *,
    p: float = 0.5,
    iterations: int = 50,
    seed: int = 1,
    time: FakeTime | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> WorkloadRecord:
    time = time or FakeTime()
    runtime = world(front_end, time)
    async with BazaarClient(URL, runtime=runtime, sleep=time.sleep) as client:
        workload = Workload(
            client, random.Random(seed), p, iterations, NAMES, number=7, runtime=runtime, on_event=on_event
        )
        return await workload.run()


def settings(**changes: object) -> LoadSettings:
    values = {"urls": (URL,), "clients": 3, "trade_probability": 0.5, "iterations": 20, "seed": 1}
    return LoadSettings.model_validate(values | changes)


# What it does.


async def test_every_acknowledged_order_is_recorded_and_checked_when_the_bazaar_is_honest() -> None:
    front_end = FakeFrontEnd()
    record = await work(front_end)
    assert 10 < len(record.acknowledged) < 40
    assert [acknowledged.order.model_dump() for acknowledged in record.acknowledged] == front_end.orders
    assert [acknowledged.key for acknowledged in record.acknowledged] == front_end.keys
    assert record.checked == len(record.acknowledged)
    assert (record.failed_checks, record.errors, record.unknown) == ([], [], [])
    assert len(record.latencies["look_up_miss"]) == 50
    assert len(record.latencies["trade"]) == len(record.latencies["order_query"]) == record.checked


async def test_trades_are_one_to_five_pieces_of_either_type_when_there_are_many() -> None:
    record = await work(FakeFrontEnd({"GameStart": 10_000, "FishCo": 10_000}), p=1, iterations=200)
    assert {acknowledged.quantity for acknowledged in record.acknowledged} == {1, 2, 3, 4, 5}
    assert {acknowledged.type for acknowledged in record.acknowledged} == {"buy", "sell"}
    assert {acknowledged.name for acknowledged in record.acknowledged} == set(NAMES)
    assert len(record.acknowledged) == 200


async def test_nothing_is_traded_when_the_probability_is_zero() -> None:
    front_end = FakeFrontEnd()
    await work(front_end, p=0)
    assert front_end.keys == []


async def test_nothing_is_traded_when_no_stock_is_left() -> None:
    front_end = FakeFrontEnd({"GameStart": 0, "FishCo": 0})
    await work(front_end, p=1)
    assert front_end.keys == []


async def test_same_choices_are_made_when_the_seed_is_the_same() -> None:
    one, same, other = FakeFrontEnd(), FakeFrontEnd(), FakeFrontEnd()
    for front_end, seed in ((one, 1), (same, 1), (other, 2)):
        await work(front_end, seed=seed)
    assert one.orders == same.orders != other.orders
    assert not set(one.keys) & set(same.keys)


async def test_refusals_are_counted_when_there_is_not_enough_stock() -> None:
    record = await work(FakeFrontEnd({"GameStart": 1, "FishCo": 1}), p=1)
    assert record.refused > 0
    assert len(record.latencies["trade"]) == record.refused + len(record.acknowledged)
    assert record.errors == []


@pytest.mark.parametrize(("cache", "kind"), [("hit", "look_up_hit"), ("miss", "look_up_miss"), ("off", "look_up_off")])
async def test_look_ups_are_told_apart_when_the_cache_says_how_it_answered(cache: str, kind: str) -> None:
    record = await work(FakeFrontEnd(cache=cache), p=0)
    assert list(record.latencies) == [kind]


async def test_it_stops_and_checks_when_it_is_told_to() -> None:
    front_end = FakeFrontEnd()
    async with BazaarClient(URL, transport=front_end.transport) as client:
        workload = Workload(client, random.Random(1), 1.0, 1_000, NAMES)
        record = await workload.run(is_stopped=lambda: len(front_end.orders) == 5)
    assert len(record.acknowledged) == record.checked == 5


async def test_events_tell_the_story_when_somebody_listens() -> None:
    events: list[Event] = []
    record = await work(FakeFrontEnd(), on_event=events.append)
    seen = [event.what for event in events]
    assert seen.count("looked_up") == 50
    assert seen.count("checked") == record.checked
    assert [event.acknowledged for event in events if event.what == "acknowledged"] == record.acknowledged
    assert {event.client for event in events} == {7}


# Errors reach the record, and the loop goes on.


async def test_errors_are_recorded_and_the_loop_goes_on_when_calls_fail() -> None:
    front_end, time, events = FakeFrontEnd(), FakeTime(), list[Event]()
    front_end.faults.append(error(422, "no"))
    record = await work(front_end, time=time, on_event=events.append)
    assert len(record.latencies["look_up_miss"]) == 49
    (seen,) = record.errors
    assert (seen.client, seen.request, seen.kind, seen.message) == (7, "look_up", "Rejected", "no (422)")
    assert seen.at == datetime.fromtimestamp(1_800_001_000, UTC)
    assert [event.error for event in events if event.what == "error"] == [seen]


async def test_trade_is_recorded_as_unknown_when_nobody_can_say_what_became_of_it() -> None:
    front_end = FakeFrontEnd()
    front_end.do_then_fail.extend([error(504)] * 60)
    record = await work(front_end, p=1, iterations=2)
    assert record.errors[0].kind == "OutcomeUnknown"
    assert record.errors[0].seconds == pytest.approx(30, abs=1)
    assert record.unknown[0].key == front_end.keys[0]
    assert record.longest_trade is not None
    assert record.longest_trade.ms == pytest.approx(30_000, abs=1_000)
    assert record.longest_trade.at == record.errors[0].at


async def test_order_does_not_count_as_checked_when_it_cannot_be_read() -> None:
    lie: Lie = lambda request, answer: error(422) if "/orders/" in request.url.path else answer  # noqa: E731
    record = await work(Liar(lie))
    assert record.checked == 0
    assert {seen.request for seen in record.errors} == {"order_query"}
    assert len(record.errors) == len(record.acknowledged)


async def test_retries_are_counted_when_attempts_fail() -> None:
    front_end = FakeFrontEnd()
    front_end.faults.extend([error(503), error(503), None, error(504)])
    assert (await work(front_end)).retries == 3


# A bazaar that lies is found out.


async def test_missing_order_is_wrong_when_it_was_acknowledged() -> None:
    lie: Lie = lambda request, answer: error(404) if request.url.path == "/orders/3" else answer  # noqa: E731
    events: list[Event] = []
    record = await work(Liar(lie), on_event=events.append)
    (failed,) = record.failed_checks
    acknowledged = record.acknowledged[2]
    assert (failed.wrong, failed.number, failed.key, failed.found) == ("missing", 3, acknowledged.key, "nothing")
    assert failed.expected == f"order 3: {acknowledged.type} {acknowledged.quantity} {acknowledged.name}"
    assert [event.failed_check for event in events if event.what == "wrong"] == [failed]
    assert record.checked == len(record.acknowledged)


@pytest.mark.parametrize("change", [{"number": 77}, {"name": "Other"}, {"quantity": 6}], ids=str)
async def test_order_is_wrong_when_its_content_changed(change: dict[str, object]) -> None:
    def lie(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path != "/orders/2":
            return answer
        return httpx.Response(200, json={"data": answer.json()["data"] | change})

    record = await work(Liar(lie))
    assert [(failed.wrong, failed.number) for failed in record.failed_checks] == [("other_content", 2)]


async def test_acknowledgement_is_wrong_when_it_is_of_another_trade() -> None:
    def lie(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.method != "POST" or answer.json()["data"]["number"] != 4:
            return answer
        return httpx.Response(201, json={"data": answer.json()["data"] | {"quantity": 6}})

    record = await work(Liar(lie))
    assert [(failed.wrong, failed.number) for failed in record.failed_checks] == [("answered_other_content", 4)]


def test_both_acknowledgements_are_wrong_when_they_have_one_number() -> None:
    records = [
        WorkloadRecord(
            acknowledged=[Acknowledged(1, "FishCo", "buy", 1, "a"), Acknowledged(2, "FishCo", "buy", 1, "b")]
        ),
        WorkloadRecord(acknowledged=[Acknowledged(1, "FishCo", "buy", 1, "c")]),
    ]
    report = build_report(settings(), records, started_at=datetime.now(UTC), duration_s=1)
    assert [(one.client, one.wrong, one.number, one.key) for one in report.failed_checks] == [
        (0, "number_twice", 1, "a"),
        (1, "number_twice", 1, "c"),
    ]
    assert not report.passed


# Many clients.


async def test_report_adds_up_when_clients_run_together() -> None:
    front_end, events = FakeFrontEnd(), list[Event]()
    report = await drive(settings(), runtime=world(front_end), on_event=events.append)
    counts = report.counts
    assert report.passed
    assert counts.look_ups == 60
    assert counts.acknowledged == counts.checked == len(front_end.orders)
    assert [one.order.model_dump() for one in report.orders] == front_end.orders
    assert {one.key for one in report.orders} <= set(front_end.keys)
    assert {event.client for event in events} == {0, 1, 2}


async def test_clients_start_at_different_front_ends_when_there_are_several() -> None:
    front_end = FakeFrontEnd()
    urls = ("http://front-end-1", "http://front-end-2")
    await drive(settings(urls=urls, clients=2, iterations=3, trade_probability=0), runtime=world(front_end))
    hosts = [request.url.host for request in front_end.requests if request.url.path != "/stocks"]
    assert sorted(hosts) == ["front-end-1"] * 3 + ["front-end-2"] * 3


async def test_load_ends_early_and_checks_when_it_is_stopped() -> None:
    front_end, stop = FakeFrontEnd(), asyncio.Event()

    def on_event(event: Event) -> None:
        if event.what == "acknowledged":
            stop.set()

    report = await drive(settings(iterations=1_000), runtime=world(front_end), on_event=on_event, stop=stop)
    assert report.is_stopped
    assert report.passed
    assert 1 <= report.counts.acknowledged == report.counts.checked <= 3


async def test_load_ends_at_once_when_it_is_stopped_before_anybody_answered() -> None:
    front_end, stop = FakeFrontEnd(), asyncio.Event()

    def refuse(_: httpx.Request) -> Exception:
        stop.set()
        return httpx.ConnectError("refused")

    front_end.faults.extend([refuse] * 1_000)
    async with asyncio.timeout(PATIENCE_S):
        report = await drive(settings(), runtime=Runtime(transport=lambda: front_end.transport), stop=stop)
    assert report.is_stopped
    assert report.counts.look_ups == 0


async def test_load_fails_when_the_names_cannot_be_read() -> None:
    front_end = FakeFrontEnd()
    front_end.faults.append(error(503))
    runtime = Runtime(transport=lambda: front_end.transport)
    with pytest.raises(NotAvailable):
        await drive(settings(patience_s=0.2), runtime=runtime)


async def test_load_is_refused_when_the_bazaar_has_no_stocks() -> None:
    with pytest.raises(ValueError, match="no stocks"):
        await drive(settings(), runtime=world(FakeFrontEnd({})))


@pytest.mark.parametrize(
    ("urls", "clients", "p", "iterations"),
    [([], 1, 0.5, 1), (["nowhere"], 1, 0.5, 1), ([URL], 0, 0.5, 1), ([URL], 1, 1.5, 1), ([URL], 1, 0.5, 0)],
)
async def test_load_is_refused_when_its_settings_make_no_sense(
    urls: list[str], clients: int, p: float, iterations: int
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's own, and the client's
        await run_load(urls, clients, p, iterations, progress=False)


async def test_record_survives_when_it_travels_between_processes() -> None:
    lie: Lie = lambda request, answer: error(404) if request.url.path == "/orders/3" else answer  # noqa: E731
    record = await work(Liar(lie))
    assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301 - our own


# When it does it.


async def test_work_begins_on_time_and_waits_for_nobody_when_the_loop_is_open() -> None:
    time = FakeTime()
    begun: list[tuple[float, float]] = []
    is_answered = asyncio.Event()

    async def work(intended: float) -> None:
        begun.append((intended, time.monotonic()))
        await is_answered.wait()

    def works() -> Iterator[Work]:
        yield from [work] * 4
        is_answered.set()

    start = time.monotonic()
    pace = OpenLoop(10, random.Random(1), monotonic=time.monotonic, sleep=time.sleep)
    await pace.run(works())
    draws = random.Random(1)
    expected = accumulate((draws.expovariate(10) for _ in range(4)), initial=start)
    assert [start, *(intended for intended, _ in begun)] == pytest.approx(list(expected))
    assert all(at >= intended for intended, at in begun)


async def test_latency_counts_from_the_intended_moment_when_the_loop_is_open() -> None:
    time = FakeTime()

    class Late(OpenLoop):
        async def run(self, works: Iterable[Work]) -> None:
            for work in works:
                await work(time.monotonic() - 1.0)

    runtime = world(FakeFrontEnd(), time)
    async with BazaarClient(URL, runtime=runtime, sleep=time.sleep) as client:
        workload = Workload(client, random.Random(1), 1, 5, NAMES, runtime=runtime)
        record = await workload.run(pace=Late(1, random.Random(1)))
    assert [min(record.latencies[kind]) for kind in ("look_up_miss", "order_query")] == pytest.approx([1.0, 1.0])
    assert max(record.latencies["trade"]) < 1.0, "a trade begins when its look-up was answered"
    assert record.checked == len(record.acknowledged) == 5
