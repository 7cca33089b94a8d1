"""OpenTelemetry spans, when the standard environment (`OTEL_EXPORTER_OTLP_ENDPOINT`) names where to send them.

A public request begins a trace, or continues that of its `traceparent`. Inside, a request is a span only when its
caller's was: reports, health checks and renewals are not. A call that many requests share belongs to the trace of the
first one, and is linked to the spans of the others. Without an exporter all of this costs a comparison.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, ContextVar
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.logs import get_log

log = get_log(__name__)

QUIET = ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json")
MOST_LINKS = 100

_NOTHING: AbstractContextManager[None] = nullcontext()
_tracer: Tracer | None = None
_others: ContextVar[tuple[SpanContext, ...]] = ContextVar("others", default=())


def is_wanted() -> bool:
    """Whether the environment names an exporter."""
    has_endpoint = any(os.getenv(f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT") for signal in ("", "TRACES_"))
    is_off = os.getenv("OTEL_SDK_DISABLED", "").lower() == "true" or os.getenv("OTEL_TRACES_EXPORTER") == "none"
    return has_endpoint and not is_off


def set_up_tracing(service: str) -> None:
    """Send the spans of this process where the environment says; the rest is opentelemetry's own environment."""
    if not is_wanted():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        log.warning("an exporter of traces is named, but the extra `tracing` is not installed: there are none")
        return
    resource = Resource.create({"service.name": f"bazaar-{service}", "service.namespace": "bazaar"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    use(provider.get_tracer("bazaar"))


def use(tracer: Tracer | None) -> None:
    """From here on spans are made with `tracer`; None for none."""
    global _tracer  # noqa: PLW0603 - a process has one, as it has one log
    _tracer = tracer


def is_on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


def calling(method: str, url: str) -> AbstractContextManager[None]:
    """A span around a call to another service, when there is one around this."""
    if _tracer is None or not trace.get_current_span().get_span_context().is_valid:
        return _NOTHING
    return _call_span(_tracer, method, url)


def injected() -> Mapping[str, str]:
    """The headers that make the other side's span continue this one."""
    headers: dict[str, str] = {}
    if _tracer is not None:
        propagate.inject(headers)
    return headers


def share(trip: Context, contexts: Sequence[Context]) -> None:
    """The calls made in `trip` are made for the requests of all these contexts."""
    if _tracer is not None:
        found = {span.span_id: span for each in contexts for span in each.run(_spans)}
        trip.run(_others.set, tuple(found.values())[:MOST_LINKS])


def _spans() -> tuple[SpanContext, ...]:
    current = trace.get_current_span().get_span_context()
    return (current, *_others.get()) if current.is_valid else ()


@contextmanager
def _call_span(tracer: Tracer, method: str, url: str) -> Iterator[None]:
    parts = urlsplit(url)
    attributes = {"http.request.method": method, "url.full": url, "server.address": parts.hostname or ""}
    if parts.port is not None:
        attributes["server.port"] = str(parts.port)
    own = trace.get_current_span().get_span_context()
    links = [Link(other) for other in _others.get() if other.span_id != own.span_id]
    name = f"{method} /{parts.path.split('/')[1]}"
    with tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes, links=links):
        yield


class Trace:
    """The door that makes a span of a request."""

    def __init__(self, app: ASGIApp, *, begins: bool) -> None:
        self._app = app
        self._begins = begins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, in a span if it is to have one."""
        if _tracer is None or scope["type"] != "http" or scope["path"].startswith(QUIET):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        parent = propagate.extract(headers)
        if not self._begins and not trace.get_current_span(parent).get_span_context().is_valid:
            await self._app(scope, receive, send)
            return
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with _tracer.start_as_current_span(
            scope["method"], context=parent, kind=SpanKind.SERVER, attributes=attributes
        ) as span:

            async def note_status(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, note_status)
            finally:
                if (route := getattr(scope.get("route"), "path", None)) is not None:
                    span.update_name(f"{scope['method']} {route}")
                    span.set_attribute("http.route", route)
