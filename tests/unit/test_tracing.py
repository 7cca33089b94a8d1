"""Spans: which requests have one, whose child it is, and what a shared trip is linked to."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from services.common import tracing
from services.common.app import make_app
from services.common.batching import Batcher
from services.common.direct import direct
from services.common.http import SECRET_HEADER, Peer, make_client
from services.common.metrics import Metrics
from services.common.models import Message
from services.common.runtime import Runtime

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
SECRET = "s" * 32


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider.get_tracer("test"))
    yield exporter
    tracing.use(None)


def make(secret: str | None = None) -> FastAPI:
    made = make_app("test", ready=lambda: None, metrics=Metrics(), secret=secret)

    @direct(made, "GET", "/direct/{name}")
    async def answer(_: Request) -> Response:
        return Response("{}")

    @made.get("/crash")
    async def crash() -> None:
        raise LookupError

    return made


@pytest.fixture
async def public(spans: InMemorySpanExporter) -> AsyncIterator[httpx.AsyncClient]:
    assert not spans.get_finished_spans()
    transport = httpx.ASGITransport(make(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


async def test_public_request_begins_a_trace_also_when_its_route_is_direct(
    public: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    await public.get("/direct/a")
    span = only(spans)
    assert (span.name, span.kind, span.parent) == ("GET /direct/{name}", SpanKind.SERVER, None)
    assert span.attributes is not None
    assert span.attributes["http.route"] == "/direct/{name}"
    assert span.attributes["http.response.status_code"] == 200


async def test_public_request_continues_the_trace_that_it_brings(
    public: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    await public.get("/direct/a", headers={"traceparent": TRACEPARENT})
    parent = only(spans).parent
    assert parent is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (TRACE, CALLER)


async def test_span_is_an_error_when_the_request_crashed(
    public: httpx.AsyncClient, spans: InMemorySpanExporter
) -> None:
    await public.get("/crash")
    assert not only(spans).status.is_ok


async def test_no_span_is_made_of_checks_and_metrics(public: httpx.AsyncClient, spans: InMemorySpanExporter) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
        await public.get(path, headers={"traceparent": TRACEPARENT})
    assert not spans.get_finished_spans()


async def test_internal_request_is_a_span_only_when_its_callers_was(spans: InMemorySpanExporter) -> None:
    transport = httpx.ASGITransport(make(SECRET))
    async with httpx.AsyncClient(transport=transport, base_url="http://t", headers={SECRET_HEADER: SECRET}) as client:
        await client.get("/direct/a")
        assert not spans.get_finished_spans()
        await client.get("/direct/a", headers={"traceparent": TRACEPARENT})
        assert only(spans).kind is SpanKind.SERVER


class Nothing(Message):
    """An empty message."""


async def test_shared_call_belongs_to_the_first_trace_and_is_linked_to_the_others(spans: InMemorySpanExporter) -> None:
    """Two requests share a call to another service, whose span continues the call's."""
    inner = make()
    runtime = Runtime(transport=lambda: httpx.ASGITransport(inner))
    async with make_client(runtime) as client:
        peer = Peer(client, "http://inner")

        async def send(batch: list[None]) -> Sequence[None]:
            await peer.call("/direct/a", Nothing, timeout_s=5.0)
            return batch

        batcher: Batcher[None, None] = Batcher(send, max_batch=10)
        outer = make_app("outer", ready=lambda: None, metrics=Metrics())

        @direct(outer, "GET", "/shared")
        async def shared(_: Request) -> Response:
            await batcher.submit(None)
            return Response()

        async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://outer") as caller:
            await asyncio.gather(*(caller.get("/shared") for _ in range(2)))
    found = spans.get_finished_spans()
    (call,) = [span for span in found if span.kind is SpanKind.CLIENT]
    requests = [span for span in found if span.name == "GET /shared"]
    (continued,) = [span for span in found if span.name == "GET /direct/{name}"]
    first, second = sorted(requests, key=lambda span: span.start_time or 0)
    assert call.parent is not None
    assert call.parent.span_id == first.context.span_id
    assert [link.context.span_id for link in call.links] == [second.context.span_id]
    assert continued.parent is not None
    assert continued.parent.span_id == call.context.span_id


@pytest.mark.parametrize(
    ("environment", "is_wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_spans_are_made_only_when_the_environment_names_an_exporter(
    environment: dict[str, str], is_wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_wanted() is is_wanted
