"""Calls of etcd's JSON gateway, by hand and by chance."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

RANGE = "/v3/kv/range"
PUT = "/v3/kv/put"
DELETE = "/v3/kv/deleterange"
TXN = "/v3/kv/txn"
COMPACT = "/v3/kv/compaction"
STATUS = "/v3/maintenance/status"

Fields = dict[str, Any]

KEYS = [b"a", b"a/1", b"a/2", b"a/3", b"a\x00", b"b", b"b/1", b"b\xff", b"c", b"\xff"]
ENDS = [b"a0", b"b", b"b0", b"c", b"d", b"\x00", b"\xff\xff", b"a"]
VALUES = [b"", b"1", b"2", b"a much longer value", bytes(range(256))]
OPERANDS = {"VERSION": "version", "CREATE": "create_revision", "MOD": "mod_revision", "VALUE": "value"}
TARGETS = list(OPERANDS)
RESULTS = ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]
ORDERS = ["NONE", "ASCEND", "DESCEND"]

MALFORMED = [
    b"{",
    b"[]",
    b'"a"',
    b"7",
    b"{'key':'YQ=='}",
    b'{"key":"YQ"}',
    b'{"key":"YQ=a"}',
    b'{"key":"YWJj="}',
    b'{"key":"!!!!"}',
    b'{"key":"-_8="}',
    b'{"key":7}',
    b'{"key":true}',
    b'{"key":{}}',
    b'{"key":"YQ==",}',
    b'\xff{"key":"YQ=="}',
]
"""No range, and no put either."""

MALFORMED_RANGES = [
    b'{"key":"YQ==","limit":"one"}',
    b'{"key":"YQ==","limit":""}',
    b'{"key":"YQ==","limit":1.5}',
    b'{"key":"YQ==","limit":1e3}',
    b'{"key":"YQ==","limit":true}',
    b'{"key":"YQ==","limit":"007"}',
    b'{"key":"YQ==","limit":[]}',
    b'{"key":"YQ==","limit":NaN}',
    b'{"key":"YQ==","revision":9223372036854775808}',
    b'{"key":"YQ==","keys_only":"true"}',
    b'{"key":"YQ==","keys_only":1}',
    b'{"key":"YQ==","sort_order":"UP"}',
    b'{"key":"YQ==","sort_order":"descend"}',
    b'{"key":"YQ==","sort_order":[]}',
    b'{"key":"YQ==","sort_order":1.5}',
]

MALFORMED_TXNS = [
    b'{"compare":{}}',
    b'{"success":"x"}',
    b'{"success":[7]}',
    b'{"success":[{"request_put":[]}]}',
    b'{"success":[{"request_put":{"key":"%"}}]}',
    b'{"failure":[{"request_range":{"key":"YQ==","limit":"x"}}]}',
    b'{"compare":[{"key":"YQ==","target":"SIZE"}]}',
    b'{"compare":[{"key":"YQ==","result":"SAME"}]}',
    b'{"compare":[{"key":"YQ==","target":"VALUE","value":1}]}',
    b'{"compare":[{"key":"YQ==","target":"VERSION","version":"x"}]}',
]


@dataclass(frozen=True)
class Call:
    """One call. is_malformed: etcd says in Go's words what is wrong with its JSON."""

    path: str
    content: bytes
    is_malformed: bool = False


def call(path: str, fields: Fields) -> Call:
    return Call(path, json.dumps(fields).encode())


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read(key: bytes, end: bytes = b"", **options: Any) -> Fields:
    return {"key": encode(key)} | ({"range_end": encode(end)} if end else {}) | options


def write(key: bytes, value: bytes = b"x", **options: Any) -> Fields:
    return {"key": encode(key), "value": encode(value)} | options


def compare(key: bytes, target: str, result: str, operand: int | bytes, end: bytes = b"") -> Fields:
    value = encode(operand) if isinstance(operand, bytes) else str(operand)
    return read(key, end) | {"target": target, "result": result, OPERANDS[target]: value}


class RandomCalls:
    """Calls by chance, over few enough keys that they meet. revision: the last one that an answer named."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.revision = 1

    def next(self) -> Call:
        """One more."""
        kinds: dict[Callable[[], Call], int] = {
            lambda: call(RANGE, self._read() | self._serializable()): 30,
            lambda: call(PUT, self._write()): 20,
            lambda: call(DELETE, self._delete()): 6,
            lambda: call(TXN, self._txn()): 40,
            self._compact: 4,
            self._malformed: 10,
        }
        return self._random.choices(list(kinds), list(kinds.values()))[0]()

    def _read(self) -> Fields:
        fields = self._range()
        if self._random.random() < 0.4:
            fields["limit"] = self._number(self._random.choice([-1, 0, 1, 2, 5, 100]))
        if self._random.random() < 0.4:
            fields["revision"] = self._number(self._revision())
        for flag in ("keys_only", "count_only"):
            if self._random.random() < 0.2:
                fields[flag] = self._random.random() < 0.8
        if self._random.random() < 0.4:
            fields["sort_order"] = self._choice(ORDERS)
        return fields

    def _serializable(self) -> Fields:
        return {"serializable": self._random.random() < 0.8} if self._random.random() < 0.2 else {}

    def _write(self) -> Fields:
        fields = write(self._key(), self._random.choice(VALUES))
        if self._random.random() < 0.3:
            fields["prev_kv"] = True
        return fields

    def _delete(self) -> Fields:
        return self._range() | ({"prev_kv": True} if self._random.random() < 0.3 else {})

    def _txn(self) -> Fields:
        many = 129 if self._random.random() < 0.02 else 0
        fields: Fields = {}
        if self._random.random() < 0.8:
            fields["compare"] = [self._compare() for _ in range(many or self._random.randint(0, 3))]
        for branch in ("success", "failure"):
            if self._random.random() < 0.8:
                fields[branch] = [self._operation() for _ in range(many or self._random.randint(0, 4))]
        return fields

    def _operation(self) -> Fields:
        kind = self._random.choices(["put", "range", "delete"], [5, 4, 2])[0]
        if kind == "put":
            return {"request_put": self._write()}
        if kind == "range":
            return {"request_range": self._read()}
        return {"request_delete_range": self._delete()}

    def _compare(self) -> Fields:
        target = self._random.choice(TARGETS)
        operand: int | bytes
        if target == "VALUE":
            operand = self._random.choice(VALUES)
        elif target == "VERSION":
            operand = self._random.randint(0, 3)
        else:
            operand = self._random.choice([0, self._revision()])
        end = self._random.choice(ENDS) if self._random.random() < 0.3 else b""
        fields = compare(self._key(), target, "EQUAL", operand, end)
        return fields | {"target": self._choice(TARGETS, target), "result": self._choice(RESULTS)}

    def _compact(self) -> Call:
        return call(COMPACT, {"revision": self._number(self._revision())})

    def _malformed(self) -> Call:
        path, bodies = self._random.choice(
            [(RANGE, MALFORMED), (PUT, MALFORMED), (RANGE, MALFORMED_RANGES), (TXN, MALFORMED_TXNS)]
        )
        return Call(path, self._random.choice(bodies), is_malformed=True)

    # Parts.

    def _key(self) -> bytes:
        return b"" if self._random.random() < 0.01 else self._random.choice(KEYS)

    def _range(self) -> Fields:
        return read(self._key(), self._random.choice(ENDS) if self._random.random() < 0.5 else b"")

    def _revision(self) -> int:
        """Of any time, most often a late one, now and then one that is not there yet."""
        if self._random.random() < 0.1:
            return self._random.randint(-1, self.revision + 2)
        return max(self.revision - self._random.randint(0, 12), 0)

    def _number(self, number: int) -> int | str:
        """The gateway takes both."""
        return number if self._random.random() < 0.5 else str(number)

    def _choice(self, words: list[str], word: str | None = None) -> int | str:
        """A word or its number."""
        chosen = word or self._random.choice(words)
        return chosen if self._random.random() < 0.5 else words.index(chosen)
