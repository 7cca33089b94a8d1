"""Metrics: every request is counted by its route, and strangers cannot make them grow."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.samples import Sample
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from services.common.app import make_app
from services.common.errors import NotFound, Unavailable
from services.common.metrics import CountRequests, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def app(metrics: Metrics) -> FastAPI:
    made = make_app("test", ready=lambda: None, metrics=metrics)

    @made.get("/stocks/{name}")
    async def stock(name: str) -> dict[str, str]:
        if name == "none":
            raise NotFound
        if name == "later":
            raise Unavailable
        if name == "crash":
            raise RuntimeError
        return {"name": name}

    @made.post("/stocks/{name}")
    async def change(name: str) -> dict[str, str]:
        return {"name": name}

    return made


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


def counted(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    """Requests by route, method and status."""
    return {
        (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
        for sample in _samples(metrics)
        if sample.name == "bazaar_request_seconds_count"
    }


def _samples(metrics: Metrics) -> Iterator[Sample]:
    for family in metrics.registry.collect():
        yield from family.samples


async def test_requests_are_counted_by_template_method_and_status(metrics: Metrics, client: httpx.AsyncClient) -> None:
    with capture_logs():
        for name in ("a", "b", "none", "later", "crash"):
            await client.get(f"/stocks/{name}")
    await client.post("/stocks/a")
    assert counted(metrics) == {
        ("/stocks/{name}", "GET", "200"): 2,
        ("/stocks/{name}", "GET", "404"): 1,
        ("/stocks/{name}", "GET", "503"): 1,
        ("/stocks/{name}", "GET", "500"): 1,
        ("/stocks/{name}", "POST", "200"): 1,
    }


async def test_one_label_is_shared_when_paths_are_unknown(metrics: Metrics, client: httpx.AsyncClient) -> None:
    for i in range(50):
        await client.request(["GET", "POST", "BREW"][i % 3], f"/nonsense/{i}")
    assert counted(metrics) == {("unknown", "any", "404"): 50}


async def test_nothing_grows_when_methods_are_made_up(metrics: Metrics, client: httpx.AsyncClient) -> None:
    for i in range(50):
        await client.request(f"METHOD{i}", "/stocks/a")
    assert sum(counted(metrics).values()) == 50
    assert len(counted(metrics)) == 1


async def test_a_request_is_counted_when_it_was_too_large_or_not_routed(
    metrics: Metrics, client: httpx.AsyncClient
) -> None:
    await client.post("/stocks/a", content=b"x" * 65_537)
    assert counted(metrics) == {("unknown", "any", "413"): 1}


async def test_text_names_help_type_and_seconds(client: httpx.AsyncClient) -> None:
    await client.get("/stocks/a")
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE bazaar_request_seconds histogram" in response.text
    labels = 'cache="",listener="public",method="GET",route="/stocks/{name}",status="200"'
    assert f"bazaar_request_seconds_count{{{labels}}} 1.0" in response.text
    assert 'bazaar_requests_in_flight{listener="public"} 1.0' in response.text, "the one that asks"


def test_applications_count_apart_and_may_use_the_same_names() -> None:
    first, second = Metrics(), Metrics()
    for metrics in (first, second):
        metrics.counter("bazaar_trades_total", "Trades", ("type",))
        metrics.gauge("bazaar_sessions", "Sessions")
    first.registry.get_sample_value("bazaar_sessions")
    assert b"bazaar_trades_total" in second.render()
    with pytest.raises(ValueError, match="Duplicated"):
        first.gauge("bazaar_sessions", "again")


async def test_counters_come_out_with_their_labels() -> None:
    metrics = Metrics()
    metrics.counter("bazaar_trades_total", "Trades", ("type",)).labels("buy").inc(3)
    assert b'bazaar_trades_total{type="buy"} 3.0' in metrics.render()


async def test_nothing_is_in_flight_when_a_request_broke_off(metrics: Metrics) -> None:
    async def broken(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ConnectionError

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        return

    request = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(ConnectionError):
        await CountRequests(broken, metrics, "public")(request, receive, send)
    assert metrics.registry.get_sample_value("bazaar_requests_in_flight", {"listener": "public"}) == 0
    assert counted(metrics) == {("unknown", "any", "200"): 1}


async def test_what_is_no_request_is_passed_on_uncounted(metrics: Metrics) -> None:
    seen = []

    async def inner(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {}

    async def send(_: Message) -> None:
        return

    await CountRequests(inner, metrics, "public")({"type": "lifespan"}, receive, send)
    assert seen == ["lifespan"]
    assert counted(metrics) == {}
