"""What a modelled etcd is asked and answers, as plain values, and what it refuses whatever its state is.

Equal to etcd 3.4, its oddities included; see tests/support/etcd_model.py for what is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MAX_OPERATIONS = 128
MAX_REQUEST_BYTES = 1_572_864
MAX_MESSAGE_BYTES = MAX_REQUEST_BYTES + 524_288
TO_THE_END = b"\x00"
"""As the end of a range: everything from its key on."""

OPERATION_BYTES = 64  # more than etcd's encoding adds to the keys and values of one operation


class EtcdError(Exception):
    """A call that etcd refused. status: of HTTP; code: of gRPC."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True)
class KeyValue:
    """A key as one revision left it. version: 1 when it was created, 0 where this is its deletion."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int


@dataclass(frozen=True)
class Range:
    """Read the keys from `key` up to `end`, or `key` alone. limit, revision: 0 for none and for now."""

    key: bytes
    end: bytes = b""
    limit: int = 0
    revision: int = 0
    keys_only: bool = False
    count_only: bool = False
    is_descending: bool = False


@dataclass(frozen=True)
class Put:
    """Write one key. wants_previous: what it was before is part of the answer."""

    key: bytes
    value: bytes = b""
    wants_previous: bool = False


@dataclass(frozen=True)
class Delete:
    """Delete the keys from `key` up to `end`, or `key` alone."""

    key: bytes
    end: bytes = b""
    wants_previous: bool = False


@dataclass(frozen=True)
class Compare:
    """A condition that every key of the range must fulfil, or, where there is none, a key whose numbers are all 0."""

    key: bytes
    target: Literal["VERSION", "CREATE", "MOD", "VALUE"]
    result: Literal["EQUAL", "NOT_EQUAL", "GREATER", "LESS"]
    operand: int | bytes
    end: bytes = b""


Operation = Range | Put | Delete


@dataclass(frozen=True)
class Txn:
    """When all compares hold `success`, otherwise `failure`, as one step."""

    compares: Sequence[Compare] = ()
    success: Sequence[Operation] = ()
    failure: Sequence[Operation] = ()

    @property
    def writes(self) -> bool:
        """Whether one of the operations is more than a read."""
        return any(not isinstance(each, Range) for each in (*self.success, *self.failure))


@dataclass(frozen=True)
class RangeAnswer:
    """count: of all keys in the range, whatever the limit; has_more: whether the limit cut some off."""

    revision: int
    found: Sequence[KeyValue]
    has_more: bool
    count: int


@dataclass(frozen=True)
class PutAnswer:
    revision: int
    previous: KeyValue | None


@dataclass(frozen=True)
class DeleteAnswer:
    revision: int
    deleted: int
    previous: Sequence[KeyValue]


@dataclass(frozen=True)
class TxnAnswer:
    revision: int
    succeeded: bool
    answers: Sequence[RangeAnswer | PutAnswer | DeleteAnswer]


# What is refused.

COMPACTED = (400, 11, "etcdserver: mvcc: required revision has been compacted")
FUTURE = (400, 11, "etcdserver: mvcc: required revision is a future revision")
_NO_KEY = (400, 3, "etcdserver: key is not provided")
_DUPLICATE = (400, 3, "etcdserver: duplicate key given in txn request")
_TOO_MANY = (400, 3, "etcdserver: too many operations in txn request")
_TOO_LARGE = (400, 3, "etcdserver: request is too large")


def check_key(request: Operation | Compare) -> None:
    if not request.key:
        raise EtcdError(*_NO_KEY)


def check_txn(request: Txn) -> None:
    branches = (request.success, request.failure)
    if max(len(each) for each in (request.compares, *branches)) > MAX_OPERATIONS:
        raise EtcdError(*_TOO_MANY)
    for part in (request.compares, *branches):
        for each in part:
            check_key(each)
    for branch in branches:
        _check_duplicates(branch)


def _check_duplicates(branch: Sequence[Operation]) -> None:
    """No key may be written twice, nor be written and deleted in whatever order."""
    written: set[bytes] = set()
    for each in branch:
        if isinstance(each, Put):
            if each.key in written:
                raise EtcdError(*_DUPLICATE)
            written.add(each.key)
    for each in branch:
        if isinstance(each, Delete) and any(_is_within(key, each) for key in written):
            raise EtcdError(*_DUPLICATE)


def _is_within(key: bytes, deleted: Delete) -> bool:
    if not deleted.end:
        return key == deleted.key
    return deleted.key <= key < deleted.end  # so etcd overlooks a deletion up to the end of all keys


def check_size(parts: Sequence[Operation | Compare]) -> None:
    if size_of(parts) > MAX_REQUEST_BYTES:
        raise EtcdError(*_TOO_LARGE)


def size_of(parts: Sequence[Operation | Compare]) -> int:
    """How many bytes a request of these parts has, at most: etcd allows a little more than this model."""
    total = 0
    for each in parts:
        total += len(each.key) + OPERATION_BYTES
        match each:
            case Put():
                total += len(each.value)
            case Compare():
                total += len(each.end) + (len(each.operand) if isinstance(each.operand, bytes) else 0)
            case Range() | Delete():
                total += len(each.end)
    return total
