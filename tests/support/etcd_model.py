"""A modelled etcd: an application that answers like the JSON gateway of etcd 3.4, from a state in memory.

What the product may rely on, here and with a real etcd:

- A range is linearizable: it sees every write that was answered before it was asked. One with `serializable` is not,
  it may be of any earlier revision (`EtcdNode.lag`).
- A transaction is one step. Its compares, reads and writes see one state, and all its writes have one revision, or it
  is refused and nothing of it was done.
- When a call is cut short, or answered with anything but 200 and 400, its outcome is unknown: it may have been done, it
  may never be, and it may still be done later. A leader that finds its majority again does what it had answered with
  "timed out", and a write that makes the database reach its quota is done and answered with 429, "space exceeded". A
  linearizable read afterwards tells only once the call can no longer succeed, because a later write has changed what
  its compares name, say. A write answered with 400 was not done and never will be.
- A write that meets the loss of the leader is dropped without an answer until etcd's own 5 s and two elections are
  over; one that is sent when there is a leader again is answered at once. So a client's patience is short, and it asks
  again over a connection that the first call does not block.
- Revisions grow by one with every write that changed something, over all keys. A compaction changes no key that is
  there now, and no revision; reads of revisions before it are refused from then on.

What the model leaves out, and refuses with `NotModelled` where a request asks for it: leases, watches, users, nested
transactions, sorting by anything but the key, filters by revision, `ignore_value`, and fields that etcd does not know
or knows by another spelling (etcd ignores the former in silence). Also left out, without a word: the quota and its
alarm, the gateway's older prefixes, how large exactly a request may be (the model refuses a little earlier than etcd
does: a few dozen bytes an operation), and the words in which malformed JSON is refused. An operation or compare that
is null, or an unknown number for an enumeration, ends a real etcd 3.4 or is taken for something else: NotModelled.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tests.support.etcd_json import (
    Fields,
    delete_answer,
    delete_of,
    parse,
    put_answer,
    put_of,
    range_answer,
    range_of,
    txn_answer,
    txn_of,
)
from tests.support.etcd_requests import MAX_MESSAGE_BYTES, Compare, EtcdError, Operation, Range, size_of
from tests.support.etcd_state import EtcdState

VERSION = "3.4.23"
CLUSTER_ID = 14_841_639_068_965_178_418
TERM = 2

Step = Callable[[str], Awaitable[object]]

UNAVAILABLE = (503, 14, "etcdserver: request timed out")
NO_SPACE = (429, 8, "etcdserver: mvcc: database space exceeded")
"""For an EtcdError that a step raises: what a node says that finds no majority in time, or whose quota is reached."""


async def pass_on(path: str) -> None:
    """Go on at once."""


class EtcdNode:
    """One node of a modelled etcd, as an application: `node.app`.

    before, after: awaited with the path of a call before and after it is done. They may wait, for ever if need be, or
    raise an EtcdError: after it was done that is an unknown outcome. A node whose `before` raises has lost its
    majority. lag: by how many revisions its serializable reads are behind.
    """

    def __init__(self, state: EtcdState, member_id: int = 1, leader_id: int = 1) -> None:
        self.state = state
        self.member_id = member_id
        self.leader_id = leader_id
        self.before: Step = pass_on
        self.after: Step = pass_on
        self.lag = 0
        self.app = FastAPI(openapi_url=None)
        calls: dict[str, Callable[[Any], dict[str, Any]]] = {
            "/v3/kv/range": self._range,
            "/v3/kv/put": self._put,
            "/v3/kv/deleterange": self._delete,
            "/v3/kv/txn": self._txn,
            "/v3/kv/compaction": self._compact,
            "/v3/maintenance/status": self._status,
        }
        for path, call in calls.items():
            self.app.add_route(path, self._route(path, call), methods=["POST"])
        self.app.add_route("/health", self._health, methods=["GET"])
        self.app.add_route("/version", self._version, methods=["GET"])

    def _route(self, path: str, call: Callable[[Any], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                fields = parse(await request.body())
                await self.before(path)
                made = call(fields)  # one step
                await self.after(path)
            except EtcdError as error:
                return _json({"error": error.message, "message": error.message, "code": error.code}, error.status)
            return _json(made)

        return answer

    async def _health(self, _: Request) -> Response:
        try:
            await self.before("/health")
        except EtcdError:
            return PlainTextResponse('{"health":"false"}', 503)
        return PlainTextResponse('{"health":"true"}')

    async def _version(self, _: Request) -> Response:
        return _json({"etcdserver": VERSION, "etcdcluster": VERSION})

    # One call each.

    def _range(self, body: Any) -> dict[str, Any]:
        fields = Fields(body)
        request = range_of(fields)
        is_serializable = fields.flag("serializable")
        fields.end()
        if is_serializable and request.revision <= 0 < self.lag:
            return self._lagging(request)
        _check_message([request])
        answer = self.state.range(request)
        return {"header": self._header(answer.revision)} | range_answer(answer)

    def _lagging(self, request: Range) -> dict[str, Any]:
        """What a node answers that has not heard of the last writes."""
        revision = max(self.state.revision - self.lag, self.state.compacted, 1)
        past = Range(**(vars(request) | {"revision": revision}))
        return {"header": self._header(revision)} | range_answer(self.state.range(past))

    def _put(self, body: Any) -> dict[str, Any]:
        request = put_of(Fields(body))
        _check_message([request])
        answer = self.state.put(request)
        return {"header": self._header(answer.revision)} | put_answer(answer)

    def _delete(self, body: Any) -> dict[str, Any]:
        request = delete_of(Fields(body))
        _check_message([request])
        answer = self.state.delete(request)
        return {"header": self._header(answer.revision)} | delete_answer(answer)

    def _txn(self, body: Any) -> dict[str, Any]:
        request = txn_of(Fields(body))
        _check_message([*request.compares, *request.success, *request.failure])
        answer = self.state.txn(request)
        return {"header": self._header(answer.revision)} | txn_answer(answer)

    def _compact(self, body: Any) -> dict[str, Any]:
        fields = Fields(body)
        revision = fields.integer("revision")
        fields.flag("physical")  # a compaction is always done when it is answered
        fields.end()
        return {"header": self._header(self.state.compact(revision))}

    def _status(self, body: Any) -> dict[str, Any]:
        Fields(body).end()
        size, steps = str(self.state.size), str(self.state.steps)
        return {
            "header": self._header(self.state.revision),
            "version": VERSION,
            "dbSize": size,
            "leader": str(self.leader_id),
            "raftIndex": steps,
            "raftTerm": str(TERM),
            "raftAppliedIndex": steps,
            "dbSizeInUse": size,
        }

    def _header(self, revision: int) -> dict[str, str]:
        ids = {"cluster_id": str(CLUSTER_ID), "member_id": str(self.member_id)}
        return ids | {"revision": str(revision), "raft_term": str(TERM)}


def _check_message(parts: list[Operation | Compare]) -> None:
    if (size := size_of(parts)) > MAX_MESSAGE_BYTES:
        raise EtcdError(429, 8, f"grpc: received message larger than max ({size} vs. {MAX_MESSAGE_BYTES})")


def _json(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content, separators=(",", ":")), status, media_type="application/json")
