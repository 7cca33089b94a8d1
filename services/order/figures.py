"""Counts of a replica's parts as metrics, read when Prometheus asks."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.common.metrics import add_distribution, distribution
from services.order.replica import Replica


class Figures(Collector):
    """What one replica counts: its log, its link to the catalog, and its followers, as far as it has led."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def collect(self) -> Iterator[Metric]:
        """Give the counts of this moment."""
        yield from self._log()
        yield from self._catalog()
        yield from self._followers()

    def _log(self) -> Iterator[Metric]:
        log = self._replica.log
        name = "bazaar_replica_generation"
        yield GaugeMetricFamily(name, "Generation of the log, 0 before the first", value=log.generation or 0)
        name = "bazaar_replica_head_position"
        yield GaugeMetricFamily(name, "Entries taken, refusals included", value=log.head.position)
        name = "bazaar_replica_fsynced_position"
        yield GaugeMetricFamily(name, "Entries on the disk", value=log.fsynced.position)
        name = "bazaar_replica_order_number"
        yield GaugeMetricFamily(name, "Last order number on the disk", value=log.fsynced_head.number)
        yield distribution("bazaar_fsync_seconds", "Writing entries to the disk, fsync included", log.fsync_seconds)
        yield distribution("bazaar_fsync_entries", "Entries that shared an fsync", log.fsync_entries)

    def _catalog(self) -> Iterator[Metric]:
        follower, leader, link = self._replica.follower, self._replica.leader, self._replica.follower.link
        yield GaugeMetricFamily("bazaar_replica_level", "1 while level with the catalog", value=int(link.is_level))
        age = GaugeMetricFamily("bazaar_replica_level_age_seconds", "Since it had the catalog's head on its disk")
        if link.level_age is not None:
            age.add_metric([], link.level_age)
        yield age
        caught_up = CounterMetricFamily(
            "bazaar_catch_up_entries", "Entries that were missed and fetched", labels=["source"]
        )
        caught_up.add_metric(["catalog"], link.caught_up)
        caught_up.add_metric(["replica"], follower.fetched)
        yield caught_up
        yield GaugeMetricFamily("bazaar_leader_trades_waiting", "Trades that wait to be decided", value=leader.waiting)
        yield distribution("bazaar_leader_decide_seconds", "Having a batch of trades decided", link.decide_seconds)
        yield distribution("bazaar_leader_decide_trades", "Trades in a batch", link.decide_trades)

    def _followers(self) -> Iterator[Metric]:
        replication, labels = self._replica.replication, ["follower"]
        is_awaited = GaugeMetricFamily(
            "bazaar_follower_awaited", "1 while trades wait for this follower", labels=labels
        )
        position = GaugeMetricFamily("bazaar_follower_position", "Head that it has answered", labels=labels)
        seconds = HistogramMetricFamily(
            "bazaar_append_seconds", "Sending entries to a follower, until they are on its disk", labels=labels
        )
        entries = HistogramMetricFamily("bazaar_append_entries", "Entries in an append", labels=labels)
        for link in replication.links:
            label = [str(link.replica_id)]
            is_awaited.add_metric(label, int(link.is_awaited))
            position.add_metric(label, link.position)
            add_distribution(seconds, label, link.append_seconds)
            add_distribution(entries, label, link.append_entries)
        yield from (is_awaited, position, seconds, entries)
        yield GaugeMetricFamily(
            "bazaar_replicated_position",
            "Entries that are on every replica that is waited for",
            value=replication.replicated.position,
        )
