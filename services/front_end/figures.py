"""Counts of the parts as metrics, read when Prometheus asks: a hit costs no more for being counted."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.common.metrics import distribution
from services.front_end.front_end import FrontEnd
from services.front_end.selection import State


class Figures(Collector):
    """What a front-end's cache, forwarder, limit on refusals and selection of a leader count themselves."""

    def __init__(self, front_end: FrontEnd) -> None:
        self._front_end = front_end

    def collect(self) -> Iterator[Metric]:
        """Give the counts of this moment."""
        yield from self._cache()
        yield from self._trades()
        yield from self._replicas()

    def _cache(self) -> Iterator[Metric]:
        cache = self._front_end.cache
        yield CounterMetricFamily("bazaar_cache_hits", "Look-ups answered from the cache", value=cache.hits)
        yield CounterMetricFamily("bazaar_cache_misses", "Look-ups that asked the catalog", value=cache.misses)
        yield CounterMetricFamily("bazaar_cache_evictions", "Entries that made room", value=cache.evictions)
        yield CounterMetricFamily(
            "bazaar_cache_invalidations", "Entries that the catalog declared old", value=cache.invalidations
        )
        yield GaugeMetricFamily("bazaar_cache_entries", "Entries that could be hit now", value=len(cache.pages()))
        yield GaugeMetricFamily("bazaar_cache_capacity", "How many entries there may be", value=cache.capacity)
        yield GaugeMetricFamily("bazaar_cache_on", "1 while the cache is on", value=int(cache.is_on))
        yield GaugeMetricFamily("bazaar_cache_session", "1 while there is a session", value=int(cache.is_live()))

    def _trades(self) -> Iterator[Metric]:
        front_end, forwarder = self._front_end, self._front_end.forwarder
        trades = CounterMetricFamily("bazaar_trades", "Trades answered", labels=["type", "outcome"])
        for labels, count in front_end.outcomes.items():
            trades.add_metric(labels, count)
        yield trades
        yield GaugeMetricFamily("bazaar_trades_in_flight", "Trades under way", value=forwarder.trades_in_flight)
        yield CounterMetricFamily(
            "bazaar_trades_turned_away",
            "Trades answered 429, because too many of the same address were refused",
            value=front_end.refusals.turned_away,
        )
        yield distribution("bazaar_batch_trades", "Trades that shared a call to a replica", forwarder.batch_trades)

    def _replicas(self) -> Iterator[Metric]:
        replicas = self._front_end.replicas
        yield GaugeMetricFamily(
            "bazaar_leader", "Id of the selected leader, 0 while there is none", value=replicas.leader or 0
        )
        yield CounterMetricFamily(
            "bazaar_leader_changes", "How often another leader was selected, or none", value=replicas.change_count
        )
        yield distribution(
            "bazaar_leader_change_seconds", "From missing a leader to having another", replicas.change_seconds
        )
        states = GaugeMetricFamily(
            "bazaar_replica_state", "1 for the state in which a replica is seen", labels=["replica", "state"]
        )
        for view in replicas.views():
            for state in get_args(State):
                states.add_metric([str(view.id), state], int(view.state == state))
        yield states
