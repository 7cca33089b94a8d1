"""Counts of the catalog's parts as metrics, read when Prometheus asks."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.catalog.catalog import Catalog
from services.common.metrics import distribution


class Figures(Collector):
    """What the catalog counts."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def collect(self) -> Iterator[Metric]:
        """Give the counts of this moment."""
        catalog, status = self._catalog, self._catalog.status()
        position, number = (status.head.position, status.head.number) if status.head else (0, 0)
        name = "bazaar_catalog_generation"
        yield GaugeMetricFamily(name, "Its generation, 0 while there is none", value=status.generation or 0)
        yield GaugeMetricFamily("bazaar_catalog_head_position", "Entries decided, refusals included", value=position)
        yield GaugeMetricFamily("bazaar_catalog_order_number", "Last order number decided", value=number)
        yield GaugeMetricFamily("bazaar_catalog_base_position", "What all replicas have", value=status.base)
        yield GaugeMetricFamily("bazaar_catalog_sessions", "Live sessions of front-ends", value=status.sessions)
        name = "bazaar_catalog_sessions_expired"
        yield CounterMetricFamily(
            name, "Front-ends that did not answer until their lease was over", value=catalog.expired_sessions
        )
        name = "bazaar_catalog_decides_waiting"
        yield GaugeMetricFamily(name, "Decisions that wait or are under way", value=catalog.waiting)
        name = "bazaar_catalog_conflicts"
        yield CounterMetricFamily(
            name, "Decisions that another catalog or a new session came before", value=catalog.conflicts
        )
        yield distribution("bazaar_catalog_decide_trades", "Trades in a decision", catalog.decide_trades)
        yield distribution(
            "bazaar_catalog_invalidation_seconds", "Telling every cache, in a decision", catalog.invalidation_seconds
        )
        yield distribution(
            "bazaar_catalog_commit_seconds", "Committing a decision, fsync included", catalog.commit_seconds
        )
