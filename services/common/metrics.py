"""Prometheus metrics of one application, and the middleware that counts its requests by route template."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTENT_TYPE_LATEST", "CountRequests", "Metrics"]

BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
NOT_ALLOWED = 405


class Metrics:
    """A registry of its own for each application, so that many can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "bazaar_request_seconds",
            "Duration of requests, in seconds",
            ["route", "method", "status", "cache"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = 0
        gauge = Gauge("bazaar_requests_in_flight", "Requests under way", registry=self.registry)
        gauge.set_function(lambda: self.in_flight)

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        """A counter of this application; its name ends in _total."""
        return Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A gauge of this application."""
        return Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: tuple[float, ...] = BUCKETS_S) -> Histogram:
        """A histogram of this application, in seconds unless `buckets` say otherwise."""
        return Histogram(name, text, buckets=buckets, registry=self.registry)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


class CountRequests:
    """Measures every request. Unknown paths and methods share a label, so that strangers cannot grow the metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._found: dict[tuple[str, str, int, str], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note how long it took and how it ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        began = time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, note_status)
        finally:
            self._metrics.in_flight -= 1
            self._series(scope, status).observe(time.perf_counter() - began)

    def _series(self, scope: Scope, status: int) -> Histogram:
        """The series of a request; to find it by its labels takes the library longer than to count."""
        route, method = getattr(scope.get("route"), "path", "unknown"), scope["method"]
        cache = scope.get("cache", "")  # hit, miss or off, as the route of a look-up has noted
        if route == "unknown" or status == NOT_ALLOWED:
            method = "any"
        key = route, method, status, cache
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._metrics.requests.labels(route, method, str(status), cache)
        return found
