"""The modelled etcd by itself: what the simulation relies on. That it is like a real one: test_etcd_conformance.py."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.etcd_calls import (
    COMPACT,
    DELETE,
    PUT,
    RANGE,
    STATUS,
    TXN,
    Fields,
    RandomCalls,
    call,
    compare,
    encode,
    read,
    write,
)
from tests.support.etcd_json import NotModelled
from tests.support.etcd_model import NO_SPACE, UNAVAILABLE, EtcdNode
from tests.support.etcd_requests import (
    Compare,
    Delete,
    EtcdError,
    KeyValue,
    Put,
    Range,
    Txn,
)
from tests.support.etcd_state import EtcdState

EVERYTHING = Range(b"\x00", b"\x00")


class Client:
    """A client of one node."""

    def __init__(self, node: EtcdNode) -> None:
        self.node = node
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(node.app), base_url="http://etcd")

    async def post(self, path: str, fields: Fields) -> httpx.Response:
        return await self._client.post(path, content=call(path, fields).content)

    async def ask(self, path: str, fields: Fields) -> Any:
        answer = await self.post(path, fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def health(self) -> tuple[int, str]:
        answer = await self._client.get("/health")
        return answer.status_code, answer.text

    async def close(self) -> None:
        await self._client.aclose()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    made = Client(EtcdNode(EtcdState()))
    yield made
    await made.close()


@pytest.fixture
async def other(client: Client) -> AsyncIterator[Client]:
    """A client of a second node with the same state."""
    made = Client(EtcdNode(client.node.state, member_id=2))
    yield made
    await made.close()


def values(answer: Any) -> dict[str, str]:
    return {each["key"]: each.get("value", "") for each in answer.get("kvs", [])}


# The state.


def test_a_key_begins_anew_when_it_was_deleted() -> None:
    state = EtcdState()
    for value in (b"1", b"2"):
        state.put(Put(b"k", value))
    assert state.range(Range(b"k")).found == [KeyValue(b"k", b"2", 2, 3, 2)]
    assert state.delete(Delete(b"k")).deleted == 1
    assert state.range(Range(b"k")).found == []
    state.put(Put(b"k", b"3"))
    assert state.range(Range(b"k")).found == [KeyValue(b"k", b"3", 5, 5, 1)]


def test_no_revision_is_made_when_nothing_changes() -> None:
    state = EtcdState()
    state.delete(Delete(b"k"))
    answer = state.txn(Txn(success=[EVERYTHING, Delete(b"k")], failure=[Put(b"k")]))
    assert (answer.revision, answer.succeeded, state.revision) == (1, True, 1)


def test_all_writes_have_one_revision_when_they_are_one_transaction() -> None:
    state = EtcdState()
    state.put(Put(b"a"))
    answer = state.txn(Txn(success=[Put(b"b"), Delete(b"a"), Put(b"c"), EVERYTHING]))
    assert answer.revision == state.revision == 3
    assert [(each.key, each.mod_revision) for each in state.range(EVERYTHING).found] == [(b"b", 3), (b"c", 3)]


@pytest.mark.parametrize(
    ("compares", "succeeded"),
    [
        ([], True),
        ([Compare(b"a", "MOD", "EQUAL", 2)], True),
        ([Compare(b"a", "MOD", "EQUAL", 2), Compare(b"a", "MOD", "LESS", 2)], False),
        ([Compare(b"none", "CREATE", "EQUAL", 0)], True),
        ([Compare(b"none", "VALUE", "NOT_EQUAL", b"1")], False),
        ([Compare(b"a", "CREATE", "EQUAL", 2, end=b"c")], False),
        ([Compare(b"a", "CREATE", "GREATER", 1, end=b"c")], True),
        ([Compare(b"a", "VALUE", "LESS", b"2", end=b"\x00")], True),
    ],
)
def test_the_right_branch_is_done_when_there_are_compares(compares: list[Compare], succeeded: bool) -> None:
    state = EtcdState()
    state.put(Put(b"a", b"1"))
    state.put(Put(b"b", b"1"))
    answer = state.txn(Txn(compares, success=[Put(b"yes")], failure=[Put(b"no")]))
    assert answer.succeeded is succeeded
    assert state.range(Range(b"yes")).count == succeeded
    assert state.range(Range(b"no")).count == (not succeeded)


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        ([Put(b"a"), Put(b"k"), Put(b"k")], "duplicate key"),
        ([Put(b"a"), Delete(b"j", b"l"), Put(b"k")], "duplicate key"),
        ([Put(b"a"), Put(b"")], "key is not provided"),
        ([Put(b"a"), Range(b"a", revision=3)], "future revision"),
        ([Put(b"a"), Range(b"a", revision=1)], "has been compacted"),
        ([Put(b"a")] + [Range(b"k")] * 128, "too many operations"),
        ([Put(b"a"), Put(b"b", bytes(1_572_864))], "too large"),
    ],
)
def test_nothing_is_done_when_a_transaction_is_refused(branch: list[Put | Range | Delete], message: str) -> None:
    state = EtcdState()
    state.put(Put(b"k"))
    state.compact(2)
    with pytest.raises(EtcdError, match=message) as refused:
        state.txn(Txn(success=branch))
    assert refused.value.status == 400
    assert [each.key for each in state.range(EVERYTHING).found] == [b"k"]
    assert state.revision == 2


def test_only_the_past_is_forgotten_when_it_is_compacted() -> None:
    state = EtcdState()
    for number in range(20):
        state.put(Put(b"k%d" % (number % 3), b"%d" % number))
    state.delete(Delete(b"k0"))
    before, size = state.range(EVERYTHING), state.size
    assert state.compact(state.revision) == 22
    assert state.range(EVERYTHING) == before
    assert state.size < size / 5
    with pytest.raises(EtcdError, match="has been compacted"):
        state.range(Range(b"k1", revision=21))
    with pytest.raises(EtcdError, match="has been compacted"):
        state.compact(22)
    with pytest.raises(EtcdError, match="future revision"):
        state.compact(23)


async def test_every_revision_stays_what_it_was_when_calls_are_made_by_chance(client: Client) -> None:
    state, calls = client.node.state, RandomCalls(7)
    past = {1: state.range(EVERYTHING).found}
    for _ in range(1_500):
        before = state.revision
        made = calls.next()
        await client._client.post(made.path, content=made.content)
        calls.revision = state.revision
        assert state.revision in (before, before + 1)
        past[state.revision] = state.range(EVERYTHING).found
        for revision in range(max(state.compacted, state.revision - 10, 1), state.revision + 1):
            answer = state.range(Range(b"\x00", b"\x00", revision=revision))
            assert answer.found == past[revision], f"seed 7, {made}"
    assert state.revision > 200
    assert state.compacted > 0


# The application.


async def test_the_state_outlives_the_node_when_a_node_is_lost(client: Client) -> None:
    await client.ask(PUT, write(b"k", b"1"))
    reborn = Client(EtcdNode(client.node.state))
    assert values(await reborn.ask(RANGE, read(b"k"))) == {encode(b"k"): encode(b"1")}
    await reborn.close()


async def test_a_write_through_one_node_is_seen_when_another_one_is_asked(client: Client, other: Client) -> None:
    first = await client.ask(PUT, write(b"k", b"1"))
    second = await other.ask(RANGE, read(b"k"))
    assert values(second) == {encode(b"k"): encode(b"1")}
    assert first["header"]["revision"] == second["header"]["revision"]
    assert first["header"]["cluster_id"] == second["header"]["cluster_id"]
    assert first["header"]["member_id"] != second["header"]["member_id"]


async def test_one_of_two_wins_when_both_compare_the_same_revision(client: Client, other: Client) -> None:
    await client.ask(PUT, write(b"k", b"0"))
    is_first = [compare(b"k", "MOD", "EQUAL", 2)]
    requests = [
        each.ask(TXN, {"compare": is_first, "success": [{"request_put": write(b"k", value)}]})
        for each, value in ((client, b"1"), (other, b"2"))
    ]
    answers = await asyncio.gather(*requests)
    assert sorted(each.get("succeeded", False) for each in answers) == [False, True]


@pytest.mark.parametrize("said", [UNAVAILABLE, NO_SPACE])
async def test_the_outcome_is_unknown_when_the_answer_is_lost(
    said: tuple[int, int, str], client: Client, other: Client
) -> None:
    async def fail(path: str) -> None:
        raise EtcdError(*said)

    client.node.before = fail
    answer = await client.post(PUT, write(b"k", b"not done"))
    assert (answer.status_code, answer.json()["code"]) == said[:2]
    assert await client.health() == (503, '{"health":"false"}')
    assert values(await other.ask(RANGE, read(b"k"))) == {}

    client.node.before, client.node.after = EtcdNode(EtcdState()).before, fail
    assert (await client.post(PUT, write(b"k", b"done"))).json() == answer.json()
    assert values(await other.ask(RANGE, read(b"k"))) == {encode(b"k"): encode(b"done")}


async def test_a_write_is_done_late_when_nobody_waits_for_it_any_more(client: Client, other: Client) -> None:
    arrived, release, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait(path: str) -> None:
        arrived.set()
        await release.wait()

    async def finish(path: str) -> None:
        done.set()

    client.node.before, client.node.after = wait, finish
    late = asyncio.create_task(client.ask(PUT, write(b"k", b"late")))
    await arrived.wait()
    assert values(await other.ask(RANGE, read(b"k"))) == {}
    release.set()
    await done.wait()
    assert values(await other.ask(RANGE, read(b"k"))) == {encode(b"k"): encode(b"late")}
    await late


async def test_an_old_value_is_read_when_a_serializable_range_meets_a_node_that_lags(client: Client) -> None:
    for value in (b"1", b"2", b"3"):
        await client.ask(PUT, write(b"k", value))
    client.node.lag = 1
    assert values(await client.ask(RANGE, read(b"k"))) == {encode(b"k"): encode(b"3")}
    stale = await client.ask(RANGE, read(b"k", serializable=True))
    assert values(stale) == {encode(b"k"): encode(b"2")}
    assert stale["header"]["revision"] == "3"
    client.node.lag = 100
    assert values(await client.ask(RANGE, read(b"k", serializable=True))) == {}
    await client.ask(COMPACT, {"revision": 4})
    assert values(await client.ask(RANGE, read(b"k", serializable=True))) == {encode(b"k"): encode(b"3")}


@pytest.mark.parametrize(
    ("path", "fields", "code"),
    [
        (RANGE, {"key": "?"}, 3),
        (RANGE, {"key": encode(b"k"), "limit": "1.5"}, 3),
        (RANGE, {}, 3),
        (RANGE, read(b"k", revision=2), 11),
        (COMPACT, {"revision": "2"}, 11),
        (DELETE, {"key": 5}, 3),
        (TXN, {"success": [{"request_put": write(b"k")}] * 2}, 3),
    ],
)
async def test_an_error_has_the_gateways_shape_when_a_request_is_bad(
    path: str, fields: Fields, code: int, client: Client
) -> None:
    answer = await client.post(path, fields)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (400, code)
    assert list(body) == ["error", "message", "code"]
    assert body["error"] == body["message"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (PUT, write(b"k", lease="7")),
        (PUT, write(b"k", ignore_value=True)),
        (RANGE, read(b"k", sort_target="MOD")),
        (RANGE, read(b"k", min_mod_revision=1)),
        (RANGE, read(b"k", rangeEnd="eg==")),
        (RANGE, read(b"k", sort_order=9)),
        (RANGE, {"key": [107]}),
        (TXN, {"success": [{"request_txn": {}}]}),
        (TXN, {"success": [None]}),
        (TXN, {"success": [{"request_put": write(b"k"), "request_range": read(b"k")}]}),
        (TXN, {"success": [{"request_range": read(b"k", serializable=True)}]}),
        (TXN, {"compare": [compare(b"k", "MOD", "EQUAL", 1) | {"version": 1}]}),
        (COMPACT, {"revision": 1, "wait": True}),
        (STATUS, {"name": "x"}),
    ],
)
async def test_the_test_fails_when_a_request_is_left_out_of_the_model(
    path: str, fields: Fields, client: Client
) -> None:
    with pytest.raises(NotModelled):
        await client.post(path, fields)
    assert client.node.state.revision == 1


async def test_a_message_is_refused_when_it_is_larger_than_the_gateway_takes(client: Client) -> None:
    answer = await client.post(PUT, write(b"k", bytes(2_200_000)))
    assert (answer.status_code, answer.json()["code"]) == (429, 8)


async def test_the_status_names_the_leader_when_it_is_asked_for(client: Client, other: Client) -> None:
    await client.ask(PUT, write(b"k"))
    status = await other.ask(STATUS, {})
    assert status["header"] | {"member_id": "1"} == (await client.ask(STATUS, {}))["header"]
    assert (status["leader"], status["header"]["member_id"], status["header"]["revision"]) == ("1", "2", "2")
    assert int(status["dbSize"]) > 0
    assert await other.health() == (200, '{"health":"true"}')
