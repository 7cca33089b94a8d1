"""Prometheus metrics of one process, and the door where a request gets its id and is counted by route template.

Parts count for themselves, in plain numbers and in `Distribution`; what makes metrics of them, a `Collector` in each
service's `figures.py`, is called when Prometheus asks. So a request costs no more for being shown.
"""

import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common import request_id
from services.common.distribution import Distribution

__all__ = ["CONTENT_TYPE_LATEST", "CountRequests", "Metrics", "add_distribution", "distribution"]

NOT_ALLOWED = 405

Series: TypeAlias = dict[tuple[str, str, int, str], Distribution]
"""Durations by route, method, status and what the cache said."""


class Metrics:
    """A registry of its own for each process, so that many can live in one. A front-end's two listeners share it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests: dict[str, Series] = {}  # by listener
        self.in_flight: dict[str, int] = {}
        self.missing: Callable[[], str | None] = lambda: None  # as `/readyz` asks
        self.registry.register(_Process(self))
        ProcessCollector(registry=self.registry)

    def counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        """A counter of this process; its name ends in _total."""
        return Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A gauge of this process."""
        return Gauge(name, text, labels, registry=self.registry)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


def distribution(name: str, text: str, values: Distribution) -> HistogramMetricFamily:
    """A distribution as the histogram that Prometheus knows."""
    family = HistogramMetricFamily(name, text)
    add_distribution(family, [], values)
    return family


def add_distribution(family: HistogramMetricFamily, labels: list[str], values: Distribution) -> None:
    """Add a distribution with its labels to a family."""
    buckets = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in values.cumulative()]
    family.add_metric(labels, buckets, values.total)


class _Process(Collector):
    """All requests of a process, and whether it can do its job."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Give the counts of this moment."""
        labels = ["route", "method", "status", "cache", "listener"]
        requests = HistogramMetricFamily("bazaar_request_seconds", "Duration of requests, in seconds", labels=labels)
        for listener, series in self._metrics.requests.items():
            for (route, method, status, cache), values in series.items():
                add_distribution(requests, [route, method, str(status), cache, listener], values)
        yield requests
        in_flight = GaugeMetricFamily("bazaar_requests_in_flight", "Requests under way", labels=["listener"])
        for listener, count in self._metrics.in_flight.items():
            in_flight.add_metric([listener], count)
        yield in_flight
        is_ready = self._metrics.missing() is None
        yield GaugeMetricFamily("bazaar_ready", "1 while /readyz answers 200", value=int(is_ready))


class CountRequests:
    """Measures every request, and lets its id be known.

    Unknown paths and methods share a label, so that strangers cannot grow the metrics.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, listener: str) -> None:
        self._app = app
        self._listener = listener
        self._series = metrics.requests.setdefault(listener, {})
        self._in_flight = metrics.in_flight
        self._in_flight.setdefault(listener, 0)

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
                request_id.tell(scope, message)
            await send(message)

        request_id.begin(scope)
        self._in_flight[self._listener] += 1
        try:
            await self._app(scope, receive, note_status)
        finally:
            self._in_flight[self._listener] -= 1
            self._durations(scope, status).add(time.perf_counter() - began)

    def _durations(self, scope: Scope, status: int) -> Distribution:
        route, method = getattr(scope.get("route"), "path", "unknown"), scope["method"]
        if route == "unknown" or status == NOT_ALLOWED:
            method = "any"
        key = route, method, status, scope.get("cache", "")  # hit, miss or off, as the route of a look-up has noted
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = Distribution()
        return found
