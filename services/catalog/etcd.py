"""A client of etcd's JSON gateway (3.4): reads and transactions, over several endpoints, each call with its time limit.

Keys and values are bytes; the gateway wants them in base64 and its 64-bit numbers as text. How a call can fail:

- EtcdUnavailable: definite. A read that no endpoint answered, or a transaction that certainly was not executed.
- EtcdUnknown: the transaction may have been executed, or may still be. That is what every answer but 200 and 400
  means: a transaction that makes etcd reach its quota is executed, and answered with 429. It is never repeated here;
  only a linearizable read can settle it, and only when the transaction cannot succeed any more.
- EtcdCompacted: the read was of a revision that is forgotten.

Every read is linearizable: it is a transaction without writes, which etcd answers only after it has heard from a
majority that it is up to date. A read may be repeated, and be put to several nodes at once; the node that answered it
is the first to be asked from then on, also for transactions.
"""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx

from services.common.beside import first_answer
from services.common.http import Peer, PeerAnswered, PeerError, PeerRefused
from services.common.logs import get_log
from services.common.timing import ETCD_BESIDE_S, ETCD_READ_AGAIN_S, ETCD_READ_S, ETCD_READS_S, ETCD_WRITE_S

log = get_log(__name__)

MAX_OPERATIONS = 120  # etcd's own limit is 128 of each kind in one transaction
MAX_REQUEST_BYTES = 1_000_000  # and 1.5 MiB

Part: TypeAlias = dict[str, Any]
"""A compare or an operation, as the gateway wants it."""

OUT_OF_RANGE = 11  # gRPC's code for a revision that is forgotten


class EtcdUnavailable(Exception):
    """Definite: etcd did not do it."""


class EtcdUnknown(Exception):
    """Indefinite: etcd may have done it, or may still do it."""


class EtcdCompacted(Exception):
    """The revision that was to be read is forgotten."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key with its value, and the revision that changed it last."""

    key: str
    value: bytes
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a transaction gave. revision: of the whole store, with its changes. reads: one for each `get`, in order."""

    succeeded: bool
    revision: int
    reads: list[list[KeyValue]]


def get(key: str, end: str | None = None, *, revision: int = 0, limit: int = 0) -> Part:
    """Read `key`, or all keys from it up to `end`; as of a revision."""
    part = _range(key, end)
    if revision:
        part["revision"] = str(revision)
    if limit:
        part["limit"] = str(limit)
    return {"request_range": part}


def put(key: str, value: bytes) -> Part:
    """Write `key`."""
    return {"request_put": {"key": _encode(key.encode()), "value": _encode(value)}}


def delete(key: str, end: str | None = None) -> Part:
    """Delete `key`, or all keys from it up to `end`."""
    return {"request_delete_range": _range(key, end)}


def is_at(key: str, revision: int) -> Part:
    """Whether `key` was changed last by this revision; by 0: whether there is no such key."""
    return _range(key, None) | {"target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def is_unchanged_since(key: str, end: str, revision: int) -> Part:
    """Whether every key from `key` up to `end` that exists was changed last by this revision or an earlier one."""
    return _range(key, end) | {"target": "MOD", "result": "LESS", "mod_revision": str(revision + 1)}


def end_of(prefix: str) -> str:
    """The end of the range of all keys with this prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


class Etcd:
    """One etcd cluster, by the addresses of its nodes."""

    def __init__(self, client: httpx.AsyncClient, urls: Sequence[str]) -> None:
        self._reading: str | None = None  # why the last call of each kind failed
        self._writing: str | None = None
        self._endpoints = [_Endpoint(client, url) for url in urls]  # in the order in which they are asked

    @property
    def trouble(self) -> str | None:
        """What does not work at this moment, in words."""
        return self._reading or self._writing

    @property
    def is_read_only(self) -> bool:
        """Whether the last transaction failed."""
        return self._writing is not None

    async def read(self, *parts: Part) -> Result:
        """Read, all parts as of one moment. Raises EtcdUnavailable or EtcdCompacted.

        Each node is asked again when it failed: after an election, the first one that knows of the leader answers. All
        are asked at once when no node answered last time.
        """
        beside_s = ETCD_BESIDE_S if self._reading is None else 0.0
        body = _body([], parts)

        async def ask(endpoint: _Endpoint) -> Result:
            try:
                result = await _ask(endpoint, body, ETCD_READ_S)
            except PeerError as error:
                if isinstance(error, _Refused) and error.code == OUT_OF_RANGE:
                    raise EtcdCompacted(str(error)) from error
                self._reading = f"etcd: {error}"
                raise
            self._reading = None
            self._endpoints.remove(endpoint)
            self._endpoints.insert(0, endpoint)
            return result

        try:
            async with asyncio.timeout(ETCD_READS_S):
                return await first_answer(
                    self._endpoints, ask, beside_s=beside_s, again_s=ETCD_READ_AGAIN_S, gives_up=False
                )
        except TimeoutError as error:
            raise EtcdUnavailable(self._reading) from error

    async def change(self, compares: Sequence[Part], parts: Sequence[Part], otherwise: Sequence[Part] = ()) -> Result:
        """Do all of `parts` if every compare holds, else `otherwise`. Raises EtcdUnavailable or EtcdUnknown."""
        assert len(parts) <= MAX_OPERATIONS, "a transaction has at most so many operations"
        body = _body(compares, parts, otherwise)
        for _ in range(len(self._endpoints)):
            endpoint = self._endpoints[0]
            try:
                result = await _ask(endpoint, body, ETCD_WRITE_S)
            except PeerRefused as error:
                self._writing = self._failed(endpoint, error)  # nothing was sent: the next one may have it
            except PeerError as error:
                self._writing = self._failed(endpoint, error)
                is_definite = isinstance(error, _Refused) and error.status == httpx.codes.BAD_REQUEST
                raise (EtcdUnavailable if is_definite else EtcdUnknown)(self._writing) from error
            else:
                self._writing = None
                return result
        raise EtcdUnavailable(self._writing)

    async def compact(self, revision: int) -> None:
        """Forget what no read at this revision or a later one would see. It is only tried."""
        try:
            _ = await self._endpoints[0].post("/v3/kv/compaction", _json({"revision": str(revision)}), 10.0)
        except PeerError as error:  # another catalog may have done so already
            log.debug("etcd's history was not compacted", reason=str(error))

    def _failed(self, endpoint: "_Endpoint", error: Exception) -> str:
        """Ask the others before this node is asked again."""
        self._endpoints.remove(endpoint)
        self._endpoints.append(endpoint)
        return f"etcd: {error}"


class _Refused(PeerAnswered):
    """A node answered with an error. code: gRPC's."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(status, message)
        self.code = code


class _Endpoint(Peer):
    """One node."""

    async def post(self, path: str, body: bytes, timeout_s: float) -> Part:
        """The answer. Raises PeerError or _Refused; an answer that is none counts as a broken connection."""
        reply = await self._reply("POST", path, body, timeout_s)
        try:
            answer = json.loads(reply.content)
            if reply.status == httpx.codes.OK:
                _ = answer["header"]["revision"]
                return dict(answer)
            said = f"{self.url} says: {answer.get('message', 'an error')}"
            refusal = _Refused(reply.status, int(answer.get("code", 2)), said)
        except (ValueError, KeyError, TypeError, AttributeError):
            refusal = _Refused(500, 2, f"{self.url} gave an answer of status {reply.status} that is none of etcd's")
        raise refusal


async def _ask(endpoint: _Endpoint, body: bytes, timeout_s: float) -> Result:
    answer = await endpoint.post("/v3/kv/txn", body, timeout_s)
    reads = [each["response_range"] for each in answer.get("responses", []) if "response_range" in each]
    return Result(
        bool(answer.get("succeeded")),
        int(answer["header"]["revision"]),
        [[_key_value(each) for each in read.get("kvs", [])] for read in reads],
    )


def _range(key: str, end: str | None) -> Part:
    part: Part = {"key": _encode(key.encode())}
    return part if end is None else part | {"range_end": _encode(end.encode())}


def _body(compares: Sequence[Part], parts: Sequence[Part], otherwise: Sequence[Part] = ()) -> bytes:
    return _json({"compare": list(compares), "success": list(parts), "failure": list(otherwise)})


def _json(value: Part) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encode(data: bytes) -> str:
    return b64encode(data).decode()


def _key_value(fields: Part) -> KeyValue:
    value = b64decode(fields.get("value", ""))
    return KeyValue(b64decode(fields["key"]).decode(), value, int(fields["mod_revision"]))
