"""The records of the front-ends' sessions in etcd, as this process read them last, and how they are changed.

A session is live while its key is there and does not say `revoked`. Each change is a transaction that names the data
set's root, so nothing is written into a data set that is over.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.catalog.etcd import MAX_OPERATIONS, Etcd, EtcdUnavailable, EtcdUnknown, KeyValue, delete, get, is_at, put
from services.catalog.etcd_layout import Keys, Root, dump, load_head
from services.common.errors import Unavailable
from services.common.runtime import Runtime

NOT_REACHED = "the catalog does not reach etcd; this request was not executed, try again"


@dataclass(frozen=True)
class Record:
    """One session. grantors: who must renew its lease, all of them. revision: which one changed it last.

    seen_at: when this process saw it first, by the runtime's clock.
    """

    id: str
    url: str
    grantors: tuple[str, ...]
    is_revoked: bool
    revision: int
    seen_at: float


class SessionRecords:
    """All of them. `known`: as of `revision`: every change up to there is seen, and none after."""

    def __init__(self, runtime: Runtime, etcd: Etcd, root: Root, keys: Keys) -> None:
        self.known: dict[str, Record] = {}
        self.revision = 0
        self._runtime = runtime
        self._etcd = etcd
        self._root = root
        self._keys = keys

    def saw(self, found: Sequence[KeyValue], revision: int) -> None:
        """All sessions were read."""
        if revision >= self.revision:
            records = (self._record(each) for each in found)
            self.known, self.revision = {record.id: record for record in records}, revision

    def _record(self, found: KeyValue) -> Record:
        fields = json.loads(found.value)
        session_id = bytes.fromhex(found.key.removeprefix(self._keys.sessions)).decode()
        grantors = tuple(fields.get("grantors", ()))  # a catalog of an earlier release wrote none
        before = self.known.get(session_id)
        seen_at = self._runtime.monotonic() if before is None else before.seen_at
        return Record(session_id, fields["url"], grantors, fields["revoked"], found.mod_revision, seen_at)

    async def add(self, session_id: str, url: str, grantors: Sequence[str]) -> int | None:
        """Make a session live; gives the head's position at that very moment, None when the id was used.

        From then on no commit succeeds that was prepared without it: see `EtcdStore.commit`. Raises Unavailable when
        that cannot be told: whoever wanted the session takes another id.
        """
        key = self._keys.session(session_id)
        compares = [self._root.stands, is_at(key, 0)]
        parts = [put(key, _value(url, grantors, is_revoked=False)), get(self._keys.head)]
        try:
            result = await self._etcd.change(compares, parts)
        except (EtcdUnavailable, EtcdUnknown) as error:
            raise Unavailable(NOT_REACHED) from error
        await self._runtime.point("etcd.session.added")
        return load_head(result.reads[0][0].value)[0].position if result.succeeded else None

    async def revoke(self, record: Record) -> bool:
        """Say that a session is not renewed any more; False when its record is another one now, or that is unknown."""
        key = self._keys.session(record.id)
        compares = [self._root.stands, is_at(key, record.revision)]
        try:
            value = _value(record.url, record.grantors, is_revoked=True)
            result = await self._etcd.change(compares, [put(key, value)])
        except EtcdUnavailable as error:
            raise Unavailable(NOT_REACHED) from error
        except EtcdUnknown:
            return False
        return result.succeeded

    async def remove(self, session_ids: Iterable[str]) -> None:
        """Forget sessions that are over for certain. Raises Unavailable; then it is done later, or twice."""
        keys = [self._keys.session(session_id) for session_id in session_ids]
        for begin in range(0, len(keys), MAX_OPERATIONS):
            try:
                parts = [delete(key) for key in keys[begin : begin + MAX_OPERATIONS]]
                _ = await self._etcd.change([self._root.stands], parts)
            except (EtcdUnavailable, EtcdUnknown) as error:
                raise Unavailable(NOT_REACHED) from error


def _value(url: str, grantors: Sequence[str], *, is_revoked: bool) -> bytes:
    return dump({"url": url, "grantors": grantors, "revoked": is_revoked})
