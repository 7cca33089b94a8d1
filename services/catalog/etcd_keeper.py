"""What a catalog does for etcd now and then, and nobody waits for: reports, garbage, and compaction of the history."""

from collections.abc import Collection

from services.catalog.etcd import Etcd, EtcdUnavailable, EtcdUnknown, Part, delete, end_of, put
from services.catalog.etcd_layout import Keys, Root, Top, under
from services.catalog.etcd_sessions import NOT_REACHED
from services.catalog.inventory import Inventory
from services.common.errors import Unavailable
from services.common.timing import COMPACT_EVERY_S


class Keeper:
    """For one data set. replica_ids: whose reports count."""

    def __init__(
        self, etcd: Etcd, root: Root, keys: Keys, top: Top, inventory: Inventory, replica_ids: Collection[int]
    ) -> None:
        self._etcd = etcd
        self._root = root
        self._keys = keys
        self._top = top
        self._inventory = inventory
        self._replica_ids = replica_ids
        self._published: dict[int, int] = {}  # what each replica's report in etcd is, as far as we know
        self._has_cleaned = False
        self._compaction: tuple[float, int] | None = None  # when a revision was noted, to which etcd is compacted later

    async def keep(self, now: float) -> None:
        """Do what is to be done. Raises Unavailable."""
        try:
            revision = await self._exchange_reports()
            await self._clean()
        except (EtcdUnavailable, EtcdUnknown) as error:
            raise Unavailable(NOT_REACHED) from error
        if self._compaction is None:
            self._compaction = (now, revision)
        elif now - self._compaction[0] >= COMPACT_EVERY_S:
            await self._etcd.compact(self._compaction[1])
            self._compaction = (now, revision)

    async def _exchange_reports(self) -> int:
        """Tell what the replicas have told this catalog, and take what they have told others; gives the revision.

        A report says what one replica has on its disk, and what may be forgotten depends on all of them: replicas that
        are cut off from each other may well speak to different catalogs.
        """
        reports = self._inventory.fsynced_heads
        news = {i: at for i, at in reports.items() if self._published.get(i) != at and i in self._replica_ids}
        if news or self._etcd.is_read_only:  # a write that failed is followed by another: who else would find out?
            puts = [put(f"{self._keys.fsynced}{i}", str(at).encode()) for i, at in news.items()]
            puts = puts or [put(self._keys.probe, b"")]
            result = await self._etcd.change([self._root.stands], [under(self._keys.fsynced), *puts])
            if not result.succeeded:
                return result.revision  # the data set is over; the next refresh says so
        else:
            result = await self._etcd.read(under(self._keys.fsynced))
        self._published |= news
        for found in result.reads[0]:
            replica_id, at = int(found.key.removeprefix(self._keys.fsynced)), int(found.value)
            if replica_id not in news and self._published.get(replica_id) != at:
                self._published[replica_id] = at
                self._inventory.report(replica_id, at, self._replica_ids)
                self._published[replica_id] = self._inventory.fsynced_heads[replica_id]
        return result.revision

    async def _clean(self) -> None:
        """Once: delete what rebuilds have left that were given up, or came second."""
        if not self._has_cleaned:
            own, data = self._keys.all, self._top.data
            parts: list[Part] = [delete(data, own), delete(end_of(own), end_of(data))]
            _ = await self._etcd.change([self._root.stands], parts)
            self._has_cleaned = True
