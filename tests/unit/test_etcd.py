"""The client of etcd's gateway: what it reads and writes, whom it asks, and how it tells failures apart."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from services.catalog.etcd import (
    MAX_OPERATIONS,
    Etcd,
    EtcdCompacted,
    EtcdUnavailable,
    EtcdUnknown,
    KeyValue,
    delete,
    end_of,
    get,
    is_at,
    is_unchanged_since,
    put,
)
from services.common.http import SECRET_HEADER, make_client
from services.common.runtime import Runtime
from services.common.timing import ETCD_BESIDE_S, ETCD_READ_AGAIN_S, ETCD_READS_S, ETCD_WRITE_S
from tests.support.etcd_calls import TXN
from tests.support.etcd_model import NO_SPACE, UNAVAILABLE, EtcdNode, pass_on
from tests.support.etcd_requests import EtcdError
from tests.support.etcd_state import EtcdState
from tests.support.fake_network import FakeNetwork, Fault
from tests.support.fake_time import FakeClock, in_fake_time

URLS = ["http://etcd-1:2379", "http://etcd-2:2379", "http://etcd-3:2379"]


class Cluster:
    """Three modelled nodes over one state, and a client."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.network = FakeNetwork()
        self.state = EtcdState()
        self.nodes = {url: EtcdNode(self.state, number) for number, url in enumerate(URLS, 1)}
        for url, node in self.nodes.items():
            self.network.serve(url, httpx.ASGITransport(node.app).handle_async_request)
        self.etcd = Etcd(make_client(Runtime(transport=lambda: self.network)), URLS)

    def all(self, fault: Fault | None) -> None:
        for url in URLS:
            self.network.fault(url, fault)

    def refuse(self, error: tuple[int, int, str], *, after: bool = False) -> None:
        """Let every node answer this; after: it has done what was asked."""

        async def fail(path: str) -> None:
            raise EtcdError(*error)

        for node in self.nodes.values():
            if after:
                node.after = fail
            else:
                node.before = fail

    async def value(self, key: str) -> bytes | None:
        found = (await self.etcd.read(get(key))).reads[0]
        return found[0].value if found else None

    @property
    def asked(self) -> list[str]:
        """Which nodes were asked for something, in order."""
        return [url for url, _ in self.network.requests]


@in_fake_time
async def test_what_was_written_is_read() -> None:
    cluster = Cluster()
    binary = bytes(range(256))
    written = await cluster.etcd.change([], [put("a/1", binary), put("a/2", b""), put("ü", b"x")])
    assert written.succeeded
    found = await cluster.etcd.read(get("a/1"), get("a/", end_of("a/")), get("none"), get("ü"))
    assert found.reads == [
        [KeyValue("a/1", binary, 2)],
        [KeyValue("a/1", binary, 2), KeyValue("a/2", b"", 2)],
        [],
        [KeyValue("ü", b"x", 2)],
    ]
    assert found.revision == written.revision == 2


@in_fake_time
async def test_keys_are_deleted_alone_and_as_a_range() -> None:
    cluster = Cluster()
    _ = await cluster.etcd.change([], [put(f"k/{i}", b"v") for i in range(5)])
    _ = await cluster.etcd.change([], [delete("k/0"), delete("k/3", "k/9")])
    assert [each.key for each in (await cluster.etcd.read(get("k/", end_of("k/")))).reads[0]] == ["k/1", "k/2"]


@in_fake_time
async def test_a_range_is_read_in_pages_and_as_of_a_revision() -> None:
    cluster = Cluster()
    for i in range(4):
        _ = await cluster.etcd.change([], [put(f"k/{i}", b"v")])
    page = (await cluster.etcd.read(get("k/", end_of("k/"), limit=3, revision=4))).reads[0]
    assert [each.key for each in page] == ["k/0", "k/1", "k/2"]
    page = (await cluster.etcd.read(get("k/2\0", end_of("k/"), limit=3, revision=4))).reads[0]
    assert page == []


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (lambda: is_at("k/1", 2), True),
        (lambda: is_at("k/1", 3), False),
        (lambda: is_at("none", 0), True),
        (lambda: is_at("k/1", 0), False),
        (lambda: is_unchanged_since("k/", end_of("k/"), 3), True),
        (lambda: is_unchanged_since("k/", end_of("k/"), 2), False),
        (lambda: is_unchanged_since("none/", end_of("none/"), 1), True),
    ],
)
@in_fake_time
async def test_a_change_is_made_when_its_compare_holds(compare: Callable[[], dict[str, str]], holds: bool) -> None:
    cluster = Cluster()
    _ = await cluster.etcd.change([], [put("k/1", b"one")])
    _ = await cluster.etcd.change([], [put("k/2", b"two")])
    result = await cluster.etcd.change([is_at("x", 0), compare()], [put("x", b"done")], otherwise=[get("k/2")])
    assert result.succeeded is holds
    assert await cluster.value("x") == (b"done" if holds else None)
    assert bool(result.reads) is not holds


@in_fake_time
async def test_a_deletion_is_no_change_of_what_is_left() -> None:
    """Sessions that are over must not make a commit fail."""
    cluster = Cluster()
    _ = await cluster.etcd.change([], [put("s/1", b""), put("s/2", b"")])
    _ = await cluster.etcd.change([], [delete("s/1")])
    assert (await cluster.etcd.change([is_unchanged_since("s/", end_of("s/"), 2)], [put("x", b"")])).succeeded


@in_fake_time
async def test_our_secret_is_not_told() -> None:
    cluster = Cluster()
    _ = await cluster.etcd.read(get("a"))
    assert all(SECRET_HEADER not in request.headers for _, request in cluster.network.requests)


# Reads that fail.


@pytest.mark.parametrize("fault", ["refuses", "resets", "hangs"])
@in_fake_time
async def test_a_read_goes_on_to_the_next_node_and_stays_there(fault: Fault) -> None:
    cluster = Cluster()
    cluster.network.fault(URLS[0], fault)
    began = cluster.clock()
    assert await cluster.value("a") is None
    assert cluster.clock() - began <= ETCD_BESIDE_S + 0.001
    assert await cluster.value("a") is None
    assert cluster.asked == [URLS[0], URLS[1], URLS[1]]
    assert cluster.etcd.trouble is None


@pytest.mark.parametrize("fault", ["refuses", "resets", "hangs"])
@in_fake_time
async def test_a_read_fails_in_time_when_no_node_answers(fault: Fault) -> None:
    cluster = Cluster()
    cluster.all(fault)
    began = cluster.clock()
    with pytest.raises(EtcdUnavailable):
        await cluster.etcd.read(get("a"))
    assert cluster.clock() - began <= ETCD_READS_S + 0.001
    assert set(cluster.asked) == set(URLS)
    assert str(cluster.etcd.trouble).startswith("etcd: ")
    cluster.all(None)
    assert await cluster.value("a") is None
    assert cluster.etcd.trouble is None


@in_fake_time
async def test_a_read_is_answered_by_the_first_node_that_can_when_one_is_gone_and_others_have_no_leader() -> None:
    """However the election and the waits fall: nobody waits for a node that is gone once another one can answer."""
    cluster = Cluster()
    cluster.network.fault(URLS[0], "hangs")
    cluster.refuse(UNAVAILABLE)
    began = cluster.clock()
    reading = asyncio.create_task(cluster.value("a"))
    await asyncio.sleep(0.9)
    assert not reading.done()
    for url in URLS[1:]:
        cluster.nodes[url].before = pass_on
    assert await reading is None
    assert cluster.clock() - began <= 0.9 + ETCD_READ_AGAIN_S + 0.001
    assert cluster.asked[-1] != URLS[0]
    assert await cluster.value("a") is None
    assert cluster.asked[-1] == cluster.asked[-2], "and it is the first to be asked"


@in_fake_time
async def test_a_read_is_put_to_the_next_node_beside_one_that_is_slow_and_either_may_answer() -> None:
    cluster = Cluster()
    cluster.network.delay(URLS[0], ETCD_BESIDE_S + 0.1)
    cluster.network.fault(URLS[1], "hangs")
    began = cluster.clock()
    assert await cluster.value("a") is None
    assert cluster.clock() - began == pytest.approx(ETCD_BESIDE_S + 0.1)
    assert cluster.asked == URLS[:2]
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1, "nothing is left under way"


@in_fake_time
async def test_all_nodes_are_asked_at_once_when_none_of_them_answered_last_time() -> None:
    cluster = Cluster()
    cluster.all("hangs")
    with pytest.raises(EtcdUnavailable):
        await cluster.value("a")
    cluster.network.fault(URLS[2], None)
    began, asked = cluster.clock(), len(cluster.asked)
    for _ in range(2):
        assert await cluster.value("a") is None
        assert cluster.clock() == began
    assert sorted(cluster.asked[asked:-1]) == URLS
    assert cluster.asked[-1] == URLS[2], "and only that one, once it has answered"


@in_fake_time
async def test_a_read_fails_when_every_node_says_that_it_has_no_majority() -> None:
    cluster = Cluster()
    cluster.refuse(UNAVAILABLE)
    with pytest.raises(EtcdUnavailable, match="request timed out"):
        await cluster.etcd.read(get("a"))


@in_fake_time
async def test_a_read_of_a_forgotten_revision_is_told_apart() -> None:
    cluster = Cluster()
    for _ in range(5):
        _ = await cluster.etcd.change([], [put("a", b"")])
    await cluster.etcd.compact(5)
    await cluster.etcd.compact(5)  # the second one is refused, and nobody minds
    assert cluster.state.compacted == 5
    with pytest.raises(EtcdCompacted):
        await cluster.etcd.read(get("a", revision=3))
    assert (await cluster.etcd.read(get("a", revision=5))).reads[0][0].mod_revision == 5


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b'{"header":{}}', b'"text"', b"7"])
@in_fake_time
async def test_an_answer_that_is_none_of_etcds_is_a_failure(content: bytes) -> None:
    cluster = Cluster()

    async def odd(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=content)

    for url in URLS:
        cluster.network.serve(url, odd)
    with pytest.raises(EtcdUnavailable):
        await cluster.etcd.read(get("a"))
    with pytest.raises(EtcdUnknown):
        await cluster.etcd.change([], [put("a", b"")])


# Transactions that fail.


@in_fake_time
async def test_a_transaction_goes_on_to_the_next_node_when_one_refuses_the_connection() -> None:
    cluster = Cluster()
    cluster.network.fault(URLS[0], "refuses")
    cluster.network.fault(URLS[1], "refuses")
    assert (await cluster.etcd.change([], [put("a", b"1")])).succeeded
    assert cluster.asked == URLS
    assert not cluster.etcd.is_read_only


@in_fake_time
async def test_a_transaction_is_definitely_not_executed_when_all_nodes_refuse_the_connection() -> None:
    cluster = Cluster()
    cluster.all("refuses")
    with pytest.raises(EtcdUnavailable):
        await cluster.etcd.change([], [put("a", b"1")])
    assert cluster.asked == URLS
    assert cluster.etcd.is_read_only


@pytest.mark.parametrize(("fault", "is_done"), [("resets", False), ("does_then_resets", True), ("hangs", False)])
@in_fake_time
async def test_a_transaction_is_sent_once_when_its_answer_is_lost(fault: Fault, is_done: bool) -> None:
    cluster = Cluster()
    cluster.all(fault)
    began = cluster.clock()
    with pytest.raises(EtcdUnknown):
        await cluster.etcd.change([], [put("a", b"1")])
    assert cluster.clock() - began <= ETCD_WRITE_S + 0.001
    assert cluster.network.count(URLS[0], TXN) == 1
    assert len(cluster.asked) == 1
    cluster.all(None)
    assert await cluster.value("a") == (b"1" if is_done else None)
    assert cluster.etcd.trouble, "a read that works says nothing of writes"
    _ = await cluster.etcd.change([], [put("a", b"2")])
    assert cluster.etcd.trouble is None


@pytest.mark.parametrize("error", [UNAVAILABLE, NO_SPACE, (500, 2, "etcdserver: leader changed"), (504, 4, "late")])
@pytest.mark.parametrize("after", [False, True])
@in_fake_time
async def test_the_outcome_is_unknown_when_a_node_says_that_it_failed(
    error: tuple[int, int, str], *, after: bool
) -> None:
    cluster = Cluster()
    cluster.refuse(error, after=after)
    with pytest.raises(EtcdUnknown):
        await cluster.etcd.change([], [put("a", b"1")])
    assert len(cluster.asked) == 1


@in_fake_time
async def test_a_transaction_is_definitely_not_executed_when_it_makes_no_sense() -> None:
    cluster = Cluster()
    with pytest.raises(EtcdUnavailable, match="duplicate key"):
        await cluster.etcd.change([], [put("a", b"1"), put("a", b"2")])
    assert await cluster.value("a") is None


@in_fake_time
async def test_a_transaction_may_be_as_large_as_its_limits_say() -> None:
    cluster = Cluster()
    parts = [put(f"k/{i:03}", b"x" * 8_000) for i in range(MAX_OPERATIONS)]
    assert (await cluster.etcd.change([], parts)).succeeded
    with pytest.raises(AssertionError):
        await cluster.etcd.change([], [*parts, put("more", b"")])
