"""The key-value state of a modelled etcd: revisions, transactions, ranges of now and of the past, compaction.

Every method is one synchronous step, so whatever calls them sees one order of steps: the state is linearizable. It is a
separate object from the application that answers (tests/support/etcd_model.py): it stands for what a majority of etcd's
nodes has on disk, it outlives any of them, and several modelled nodes share one.

Equal to etcd 3.4, its oddities included, as far as it goes; tests/system/test_etcd_conformance.py compares the two.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tests.support.etcd_requests import (
    COMPACTED,
    FUTURE,
    OPERATION_BYTES,
    TO_THE_END,
    Compare,
    Delete,
    DeleteAnswer,
    EtcdError,
    KeyValue,
    Operation,
    Put,
    PutAnswer,
    Range,
    RangeAnswer,
    Txn,
    TxnAnswer,
    check_key,
    check_size,
    check_txn,
)


class EtcdState:
    """Everything that was ever written and not compacted."""

    def __init__(self) -> None:
        self.revision = 1
        self.compacted = -1
        self.steps = 0  # committed through the log, refused or not
        self._keys: list[bytes] = []  # in order
        self._history: dict[bytes, list[KeyValue]] = {}  # oldest first, never empty

    # What a client asks for.

    def range(self, request: Range) -> RangeAnswer:
        check_key(request)
        return self._range(request)

    def put(self, request: Put) -> PutAnswer:
        check_key(request)
        check_size([request])
        self.steps += 1
        return self._put(request, self.revision + 1)

    def delete(self, request: Delete) -> DeleteAnswer:
        check_key(request)
        check_size([request])
        self.steps += 1
        return self._delete(request, self.revision + 1)

    def txn(self, request: Txn) -> TxnAnswer:
        """One transaction; it is refused before anything of it is done, or done as a whole."""
        check_txn(request)
        if request.writes:
            check_size([*request.compares, *request.success, *request.failure])
            self.steps += 1
        succeeded = all(self._holds(each) for each in request.compares)
        operations = request.success if succeeded else request.failure
        for each in operations:
            if isinstance(each, Range) and each.revision != 0:
                self._check_revision(each.revision)
        before = self.revision
        answers = [self._apply(each, before + 1) for each in operations]
        return TxnAnswer(self.revision, succeeded, answers)

    def compact(self, revision: int) -> int:
        """Forget what no read at `revision` or later would see; gives the revision of now."""
        self.steps += 1
        if revision <= self.compacted:
            raise EtcdError(*COMPACTED)
        if revision > self.revision:
            raise EtcdError(*FUTURE)
        self.compacted = revision
        for key in list(self._keys):
            history = self._history[key]
            kept = [each for each in history if each.mod_revision > revision]
            seen = _at(history, revision)
            if seen is not None:
                kept.insert(0, seen)
            self._history[key] = kept
            if not kept:
                del self._history[key]
                del self._keys[bisect_left(self._keys, key)]
        return self.revision

    @property
    def size(self) -> int:
        """About how many bytes are kept."""
        histories = self._history.values()
        return sum(len(each.key) + len(each.value) + OPERATION_BYTES for history in histories for each in history)

    # How it is done.

    def _apply(self, operation: Operation, revision: int) -> RangeAnswer | PutAnswer | DeleteAnswer:
        """One operation of a transaction, whose changes are `revision`, all of them; reads see the ones before."""
        match operation:
            case Range():
                return self._range(operation)
            case Put():
                return self._put(operation, revision)
            case Delete():
                return self._delete(operation, revision)

    def _range(self, request: Range) -> RangeAnswer:
        now = self.revision
        at = request.revision if request.revision > 0 else now
        self._check_revision(at)
        found = list(self._live(request.key, request.end, at))
        count = len(found)
        if request.count_only:
            return RangeAnswer(now, [], has_more=False, count=count)
        if request.is_descending:
            found.reverse()
        has_more = 0 < request.limit < count
        if has_more:
            del found[request.limit :]
        if request.keys_only:
            found = [replace(each, value=b"") for each in found]
        return RangeAnswer(now, found, has_more, count)

    def _put(self, request: Put, revision: int) -> PutAnswer:
        previous = next(self._live(request.key, b"", self.revision), None)
        created = revision if previous is None else previous.create_revision
        version = 1 if previous is None else previous.version + 1
        self._append(KeyValue(request.key, request.value, created, revision, version))
        return PutAnswer(revision, previous if request.wants_previous else None)

    def _delete(self, request: Delete, revision: int) -> DeleteAnswer:
        gone = list(self._live(request.key, request.end, self.revision))
        for each in gone:
            self._append(KeyValue(each.key, b"", 0, revision, 0))
        return DeleteAnswer(self.revision, len(gone), gone if request.wants_previous else [])

    def _holds(self, compare: Compare) -> bool:
        found = list(self._live(compare.key, compare.end, self.revision))
        if not found:
            # A missing key has the numbers 0 and no value at all: it is not even unequal to one.
            return compare.target != "VALUE" and _compare(compare, KeyValue(b"", b"", 0, 0, 0))
        return all(_compare(compare, each) for each in found)

    def _live(self, key: bytes, end: bytes, revision: int) -> Iterator[KeyValue]:
        """What exists of a range at a revision, in the order of the keys."""
        first = bisect_left(self._keys, key)
        if end == TO_THE_END:
            last = len(self._keys)
        elif end:
            last = bisect_left(self._keys, end)
        else:
            last = bisect_left(self._keys, key + b"\x00")
        for each in self._keys[first:last]:
            found = _at(self._history[each], revision)
            if found is not None:
                yield found

    def _append(self, changed: KeyValue) -> None:
        if changed.key not in self._history:
            insort(self._keys, changed.key)
            self._history[changed.key] = []
        self._history[changed.key].append(changed)
        self.revision = changed.mod_revision

    def _check_revision(self, revision: int) -> None:
        if revision > self.revision:
            raise EtcdError(*FUTURE)
        if revision < self.compacted:
            raise EtcdError(*COMPACTED)


def _at(history: Sequence[KeyValue], revision: int) -> KeyValue | None:
    """What a key was at a revision."""
    found = next((each for each in reversed(history) if each.mod_revision <= revision), None)
    return None if found is None or found.version == 0 else found


def _compare(compare: Compare, found: KeyValue) -> bool:
    actual: int | bytes
    match compare.target:
        case "VERSION":
            actual = found.version
        case "CREATE":
            actual = found.create_revision
        case "MOD":
            actual = found.mod_revision
        case "VALUE":
            actual = found.value
    sign = _sign(actual, compare.operand)
    match compare.result:
        case "EQUAL":
            return sign == 0
        case "NOT_EQUAL":
            return sign != 0
        case "GREATER":
            return sign > 0
        case "LESS":
            return sign < 0


def _sign(left: int | bytes, right: int | bytes) -> int:
    if isinstance(left, bytes):
        assert isinstance(right, bytes)
        return (left > right) - (left < right)
    assert isinstance(right, int)
    return (left > right) - (left < right)
