"""Reading what `bazaar verify` judges over HTTP, from replicas and a catalog that are played."""

import httpx
import pytest

from services.cluster.audit import verify_cluster
from services.cluster.topology import Cluster, Settings, plan
from services.common.digest import empty_head, entry_digest, head_at
from services.common.models import (
    EntriesAnswer,
    Entry,
    GenerationAnswer,
    Head,
    ReplicaStatus,
    Stock,
    StocksAnswer,
)

INITIAL = [Stock(name="A", price=1_000, quantity=10_000)]
CATALOG = 8010


class Played:
    """A bazaar of one catalog and replicas by port, each with as many of `entries` as `lengths` says."""

    def __init__(self, count: int, lengths: dict[int, int]) -> None:
        self.entries: list[Entry] = []
        self.heads: list[Head] = [empty_head(INITIAL)]
        for position in range(1, count + 1):
            before = self.heads[-1]
            draft = Entry(
                position=position, number=position, key=f"k{position}", name="A", type="buy", quantity=1,
                price=1_000, at=position, digest="",
            )  # fmt: skip
            entry = draft.model_copy(update={"digest": entry_digest(before.digest, draft)})
            self.entries.append(entry)
            self.heads.append(head_at(entry, before))
        self.lengths = lengths
        self.asked: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        port = request.url.port
        assert port is not None
        if port not in self.lengths:
            raise httpx.ConnectError("nobody listens", request=request)
        head = self.heads[self.lengths[port]]
        match request.url.path:
            case "/stocks":
                stock = Stock(name="A", price=1_000, quantity=10_000 - head.number, version=head.position)
                return _json(StocksAnswer(generation=1, head=head, stocks=[stock]))
            case "/status":
                status = ReplicaStatus(
                    replica_id=port - CATALOG, generation=1, role="follower", level=True, level_age=0.1, head=head
                )
                return _json(status)
            case "/generation":
                return _json(GenerationAnswer(generation=1, stocks=INITIAL))
            case "/entries":
                self.asked.append(f"{port}?{request.url.query.decode()}")
                after, limit = (int(request.url.params[name]) for name in ("after", "limit"))
                entries = self.entries[: head.position][after : after + limit]
                return _json(EntriesAnswer(generation=1, head=head, entries=entries))
        raise AssertionError(request.url)


def _json(message: object) -> httpx.Response:
    assert hasattr(message, "model_dump_json")
    return httpx.Response(200, content=message.model_dump_json())


@pytest.fixture
def cluster() -> Cluster:
    return plan(Settings())


def _client(played: Played) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(played.answer))


async def test_whole_logs_are_read_page_by_page(cluster: Cluster) -> None:
    played = Played(2_500, {8010: 2_500, 8011: 2_500, 8012: 2_500, 8013: 2_500})
    async with _client(played) as client:
        verdict = await verify_cluster(cluster, client, patience_s=0)
    assert verdict.passed, verdict.problems
    assert verdict.orders == 2_500
    assert [each for each in played.asked if each.startswith("8012")] == [
        "8012?after=0&limit=1000", "8012?after=1000&limit=1000", "8012?after=2000&limit=500",
    ]  # fmt: skip


async def test_orders_that_come_meanwhile_disturb_nothing(cluster: Cluster) -> None:
    played = Played(12, {8010: 10, 8011: 12, 8012: 11, 8013: 10})
    async with _client(played) as client:
        verdict = await verify_cluster(cluster, client, patience_s=0)
    assert verdict.passed, verdict.problems
    assert verdict.orders == 10


async def test_a_replica_is_named_when_it_does_not_answer(cluster: Cluster) -> None:
    played = Played(5, {8010: 5, 8011: 5, 8013: 5})
    async with _client(played) as client:
        verdict = await verify_cluster(cluster, client, patience_s=0)
    assert verdict.problems == ["order-2 is missing: it does not answer; see bazaar status"]
    assert [log.name for log in verdict.replicas] == ["order-1", "order-3"]


async def test_a_replica_is_named_when_it_stays_behind(cluster: Cluster) -> None:
    played = Played(2_500, {8010: 2_500, 8011: 2_500, 8012: 1_200, 8013: 2_500})
    async with _client(played) as client:
        verdict = await verify_cluster(cluster, client, patience_s=0)
    assert verdict.problems == ["order-2 holds 1,200 entries, there are 2,500"]


async def test_the_catalog_is_named_when_it_does_not_answer(cluster: Cluster) -> None:
    played = Played(5, {8011: 5, 8012: 5, 8013: 4})
    async with _client(played) as client:
        verdict = await verify_cluster(cluster, client, patience_s=0)
    assert verdict.problems == [
        "the catalog does not answer; see bazaar status",
        "order-3 holds 4 entries, there are 5",
    ]


async def test_it_waits_when_a_replica_is_not_there_yet(cluster: Cluster) -> None:
    played = Played(3, {8010: 3, 8011: 3, 8013: 3})
    answer = played.answer

    def late(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/stocks" and 8012 not in played.lengths:
            played.lengths[8012] = 2  # there, behind
        elif request.url.path == "/stocks":
            played.lengths[8012] = 3
        return answer(request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(late)) as client:
        verdict = await verify_cluster(cluster, client, patience_s=10)
    assert verdict.passed, verdict.problems
