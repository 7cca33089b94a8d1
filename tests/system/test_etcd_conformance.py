"""The modelled etcd answers like a real one: to calls made by hand, and to long sequences of calls made by chance."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.etcd_calls import (
    COMPACT,
    DELETE,
    MALFORMED,
    MALFORMED_RANGES,
    MALFORMED_TXNS,
    PUT,
    RANGE,
    STATUS,
    TXN,
    Call,
    Fields,
    RandomCalls,
    call,
    compare,
    read,
    write,
)
from tests.support.etcd_cluster import EtcdCluster, require_etcd
from tests.support.etcd_model import EtcdNode
from tests.support.etcd_state import EtcdState
from tests.support.patience import PATIENCE_S

CALLS = 500
OWN = ("cluster_id", "member_id", "raft_term")
STORY = 12  # how many calls before a difference are shown


class Both:
    """A real node and a modelled one, which get the same calls from the beginning on."""

    def __init__(self, real: httpx.AsyncClient, model: httpx.AsyncClient) -> None:
        self._clients = {"real": real, "model": model}
        self.story: list[str] = []

    async def same(self, made: Call, about: str = "") -> tuple[int, Any]:
        """Make a call to both; gives the status and the body of the answer, which must be the same."""
        answers = {name: await _answer(client, made) for name, client in self._clients.items()}
        self.story.append(f"{made.path} {made.content[:2_000]!r} -> {answers['real']}")
        assert answers["model"] == answers["real"], "\n".join(
            [about, *self.story[-STORY:], f"model: {answers['model']}"]
        )
        return answers["real"]

    async def all_same(self, *calls: tuple[str, Fields]) -> list[tuple[int, Any]]:
        return [await self.same(call(path, fields)) for path, fields in calls]

    async def raw(self, method: str, path: str) -> list[httpx.Response]:
        return [await client.request(method, path) for client in self._clients.values()]


@asynccontextmanager
async def both_of(folder: Path) -> AsyncIterator[Both]:
    """Fresh ones."""
    require_etcd()
    transport = httpx.ASGITransport(EtcdNode(EtcdState()).app)
    async with (
        EtcdCluster(folder / "etcd", size=1) as cluster,
        httpx.AsyncClient(base_url=cluster.urls[0], timeout=PATIENCE_S, trust_env=False) as real,
        httpx.AsyncClient(base_url="http://model", transport=transport) as model,
    ):
        yield Both(real, model)


async def _answer(client: httpx.AsyncClient, made: Call) -> tuple[int, Any]:
    """Status and body, without what two clusters differ in, or the words in which JSON is refused."""
    answer = await client.post(made.path, content=made.content)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    if made.is_malformed:
        assert body["error"] == body["message"]
        return answer.status_code, body["code"]
    for name in OWN:
        if "header" in body:
            assert int(body["header"].pop(name)) > 0
    return answer.status_code, body


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_answers_are_the_same_when_calls_are_made_by_chance(seed: int, tmp_path: Path) -> None:
    async with both_of(tmp_path) as both:
        calls = RandomCalls(seed)
        seen: dict[tuple[str, int], int] = {}
        for number in range(CALLS):
            made = calls.next()
            status, body = await both.same(made, f"seed {seed}, call {number}")
            seen[made.path, status] = seen.get((made.path, status), 0) + 1
            if status == 200:
                calls.revision = int(body["header"]["revision"])
        for revision in range(max(calls.revision - 60, 1), calls.revision + 2):
            await both.same(call(RANGE, read(b"\x00", b"\x00", revision=revision)), f"seed {seed}, at the end")
    expected = {(path, status) for path in (RANGE, PUT, TXN, COMPACT) for status in (200, 400)} | {(DELETE, 200)}
    assert expected <= seen.keys(), "calls of every kind were done, and refused"


async def test_answers_are_the_same_when_a_key_is_made_changed_deleted_and_made_again(tmp_path: Path) -> None:
    async with both_of(tmp_path) as both:
        answers = await both.all_same(
            (RANGE, read(b"k")),
            (PUT, write(b"k", b"1", prev_kv=True)),
            (PUT, write(b"k", b"", prev_kv=True)),
            (DELETE, read(b"k", prev_kv=True)),
            (DELETE, read(b"k", prev_kv=True)),
            (PUT, write(b"k", b"3")),
            (RANGE, read(b"k")),
        )
    _, body = answers[-1]
    assert (body["kvs"][0]["create_revision"], body["kvs"][0]["version"]) == ("5", "1")


async def test_answers_are_the_same_when_a_range_has_odd_ends(tmp_path: Path) -> None:
    async with both_of(tmp_path) as both:
        await both.all_same(*((PUT, write(key)) for key in (b"a", b"a\x00", b"ab", b"b", b"\xff\xff")))
        for key, end in [
            (b"a", b"b"),
            (b"a", b"a"),
            (b"b", b"a"),
            (b"a", b"a\x00"),
            (b"a", b"\x00"),
            (b"\x00", b"\x00"),
            (b"\xff", b"\x00"),
            (b"", b"b"),
            (b"", b""),
        ]:
            for options in ({}, {"limit": 1}, {"limit": 2, "sort_order": "DESCEND"}, {"count_only": True, "limit": 1}):
                await both.same(call(RANGE, read(key, end, **options)))
                await both.same(call(TXN, {"success": [{"request_range": read(key, end, **options)}]}))


async def test_answers_are_the_same_when_compares_meet_keys_that_are_and_are_not_there(tmp_path: Path) -> None:
    async with both_of(tmp_path) as both:
        await both.all_same((PUT, write(b"a", b"5")), (PUT, write(b"b", b"5")), (PUT, write(b"b", b"6")))
        succeeded = set()
        for key, end in [(b"a", b""), (b"b", b""), (b"none", b""), (b"a", b"c"), (b"x", b"z"), (b"a", b"\x00")]:
            for target in ("VERSION", "CREATE", "MOD", "VALUE"):
                for result in ("EQUAL", "GREATER", "LESS", "NOT_EQUAL"):
                    for operand in [b"", b"5", b"50"] if target == "VALUE" else [0, 1, 2, 3]:
                        fields = {"compare": [compare(key, target, result, operand, end)]}
                        _, body = await both.same(call(TXN, fields))
                        succeeded.add(body.get("succeeded", False))
    assert succeeded == {True, False}


async def test_answers_are_the_same_when_a_transaction_reads_around_what_it_writes(tmp_path: Path) -> None:
    everything = {"request_range": read(b"\x00", b"\x00")}
    async with both_of(tmp_path) as both:
        await both.all_same((PUT, write(b"a")), (PUT, write(b"b")))
        first = [{"request_put": write(b"c")}, everything, {"request_delete_range": read(b"a", b"b", prev_kv=True)}]
        second = [everything, {"request_delete_range": read(b"none")}, everything]
        third = [{"request_delete_range": read(b"b")}, {"request_delete_range": read(b"b")}, everything]
        await both.all_same(
            (TXN, {"success": [everything, *first, everything]}),
            (TXN, {"failure": [everything, *first, everything]}),
            (TXN, {"success": second}),
            (TXN, {"success": third}),
            (TXN, {"success": [first[0], {"request_delete_range": read(b"a", b"\x00")}, first[0], everything]}),
            (TXN, {}),
            (TXN, {"success": [{"request_range": read(b"c", revision=3)}, {"request_put": write(b"d")}]}),
            (RANGE, read(b"\x00", b"\x00")),
        )


@pytest.mark.parametrize("branch", ["success", "failure"])
async def test_nothing_is_done_when_a_transaction_is_refused(branch: str, tmp_path: Path) -> None:
    put, delete = {"request_put": write(b"k")}, {"request_delete_range": read(b"k")}
    other = {"request_put": write(b"other")}
    branches: Sequence[list[Fields]] = [
        [other, put, put],
        [other, put, delete],
        [other, delete, put],
        [other, {"request_delete_range": read(b"j", b"l")}, put],
        [other, {"request_put": write(b"")}],
        [other, {"request_range": read(b"", b"b")}],
        [other, {"request_delete_range": read(b"")}],
        [other, {"request_range": read(b"k", revision=99)}],
        [other, {"request_range": read(b"k", revision=2)}],
        [other, {"request_range": read(b"k", revision=-1)}],
        [{"request_put": write(b"%d" % number)} for number in range(129)],
    ]
    unequal = [compare(b"k", "VERSION", "EQUAL", 0 if branch == "success" else 1)]
    async with both_of(tmp_path) as both:
        await both.all_same(*((PUT, write(b"x", b"%d" % number)) for number in range(3)), (COMPACT, {"revision": "3"}))
        before = await both.same(call(RANGE, read(b"\x00", b"\x00")))
        for each in branches:
            status, _ = await both.same(call(TXN, {"compare": unequal, branch: each}))
            assert status == 400
        await both.same(call(TXN, {"compare": [compare(b"k", "MOD", "EQUAL", 0)] * 129}))
        await both.same(call(TXN, {"compare": [compare(b"", "MOD", "EQUAL", 0)], "success": [other]}))
        assert await both.same(call(RANGE, read(b"\x00", b"\x00"))) == before
        status, _ = await both.same(call(TXN, {"success": [{"request_put": write(b"%d" % n)} for n in range(128)]}))
        assert status == 200


async def test_answers_are_the_same_when_the_past_is_compacted(tmp_path: Path) -> None:
    everything = read(b"\x00", b"\x00")
    async with both_of(tmp_path) as both:
        await both.all_same(
            (PUT, write(b"a", b"1")), (PUT, write(b"a", b"2")), (PUT, write(b"b")), (DELETE, read(b"a"))
        )
        for revision in (-1, 0, 0, 3, 3, 2, 99, 5, 6):
            await both.same(call(COMPACT, {"revision": revision}))
            for past in (-1, *range(8)):
                await both.same(call(RANGE, everything | {"revision": past}))
                await both.same(call(RANGE, everything | {"revision": past, "count_only": True}))
                await both.same(call(TXN, {"success": [{"request_range": everything | {"revision": past}}]}))
        await both.all_same((COMPACT, {}), (PUT, write(b"a")), (COMPACT, {"revision": "6", "physical": True}))


async def test_a_request_is_refused_when_it_is_too_large(tmp_path: Path) -> None:
    async with both_of(tmp_path) as both:
        statuses = []
        for size in (1_500_000, 1_600_000, 2_500_000):
            made = call(PUT, write(b"k", bytes(size)))
            answers = [await _answer(client, made) for client in both._clients.values()]
            assert answers[0][0] == answers[1][0]
            assert answers[0][1].get("code") == answers[1][1].get("code")
            statuses.append(answers[0][0])
        half = [{"request_put": write(b"%d" % number, bytes(500_000))} for number in range(4)]
        assert (await both.same(call(TXN, {"success": half[:2]})))[0] == 200
        assert (await both.same(call(TXN, {"success": half})))[0] == 400
        assert (await both.same(call(RANGE, read(b"k", count_only=True))))[1]["count"] == "1"
    assert statuses == [200, 400, 429]


async def test_answers_are_the_same_when_json_is_malformed(tmp_path: Path) -> None:
    async with both_of(tmp_path) as both:
        for path, bodies in [(RANGE, MALFORMED + MALFORMED_RANGES), (PUT, MALFORMED), (TXN, MALFORMED_TXNS)]:
            for content in bodies:
                status, code = await both.same(Call(path, content, is_malformed=True))
                assert (status, code) == (400, 3)


async def test_answers_are_the_same_when_json_is_unusual(tmp_path: Path) -> None:
    async with both_of(tmp_path) as both:
        await both.same(call(PUT, write(b"a")))
        for content in [
            b"",
            b" \n",
            b"null",
            b"{}",
            b'{"key":null}',
            b'{"key":""}',
            b'{"key":"YQ==","limit":null,"keys_only":null}',
            b'{"key":"YQ==","limit":" 1 "}',
            b'{"key":"YQ==","limit":-0}',
            b'{"key":"Y\\nQ=\\r=\\n"}',
            b'{"key":"YR=="}',
            b'{"key":"YQ=="} and more',
            b'\r\n\t {"key":"YQ=="}',
            b'{"key":"Yg==","key":"YQ=="}',
            b'{"key":"\\u0059Q=="}',
        ]:
            await both.same(Call(RANGE, content))
        for content in [b'{"compare":null,"success":null}', b'{"success":[]}', b"null"]:
            await both.same(Call(TXN, content))


async def test_health_and_status_have_the_same_shape(tmp_path: Path) -> None:
    async with both_of(tmp_path) as both:
        real, model = await both.raw("GET", "/health")
        assert (real.status_code, real.text) == (model.status_code, model.text)
        real, model = await both.raw("POST", STATUS)
        assert real.json().keys() == model.json().keys()
        assert json.loads(real.content)["version"][:4] == "3.4."
        for method, path in [("GET", RANGE), ("POST", "/health"), ("POST", "/v3/kv/nothing"), ("GET", "/nothing")]:
            real, model = await both.raw(method, path)
            assert real.status_code == model.status_code, f"{method} {path}"
