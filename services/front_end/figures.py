"""Counts of the parts as metrics, read when Prometheus asks: a hit costs no more for being counted."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.front_end.cache import Cache
from services.front_end.forwarder import Forwarder
from services.front_end.refusals import RefusalLimit


class Figures(Collector):
    """What the cache, the forwarder and the limit on refusals count themselves."""

    def __init__(self, cache: Cache, forwarder: Forwarder, refusals: RefusalLimit) -> None:
        self._cache = cache
        self._forwarder = forwarder
        self._refusals = refusals

    def collect(self) -> Iterator[Metric]:
        """Give the counts of this moment."""
        cache = self._cache
        yield CounterMetricFamily("bazaar_cache_hits", "Look-ups answered from the cache", value=cache.hits)
        yield CounterMetricFamily("bazaar_cache_misses", "Look-ups that asked the catalog", value=cache.misses)
        yield CounterMetricFamily("bazaar_cache_evictions", "Entries that made room", value=cache.evictions)
        yield CounterMetricFamily(
            "bazaar_cache_invalidations", "Entries that the catalog declared old", value=cache.invalidations
        )
        yield GaugeMetricFamily("bazaar_cache_entries", "Entries that could be hit now", value=len(cache.pages()))
        yield GaugeMetricFamily("bazaar_cache_session", "1 while there is a session", value=int(cache.is_live()))
        yield GaugeMetricFamily("bazaar_trades_in_flight", "Trades under way", value=self._forwarder.trades_in_flight)
        yield CounterMetricFamily(
            "bazaar_trades_turned_away",
            "Trades answered 429, because too many of the same address were refused",
            value=self._refusals.turned_away,
        )
