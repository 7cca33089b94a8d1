"""Two front-ends of which one is silent and neither is ready, as while etcd elects: which answer counts, and when."""

import asyncio
import random
from itertools import pairwise

import httpx
import pytest

from client import BazaarClient, OutcomeUnknown
from services.common.models import Order
from services.common.runtime import Runtime
from tests.support.fake_front_end import FakeFrontEnd, error
from tests.support.fake_time import FakeClock, in_fake_time

SILENT, REFUSING = "http://front-end-1", "http://front-end-2"
PATIENCE_S = 10.0


class NotReady:
    """The first front-end works on a trade for so long, and then does it; the second one says 503."""

    def __init__(self, works_s: float, retry_after_s: int = 0, refuses_s: float = 0.0) -> None:
        self.bazaar = FakeFrontEnd({"GameStart": 100})
        self.clock = FakeClock()
        self.asked: dict[str, list[float]] = {SILENT: [], REFUSING: []}
        self.works_s = works_s
        self.retry_after_s = retry_after_s
        self.refuses_s = refuses_s

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/readyz":
            return error(503)
        address = f"http://{request.url.host}"
        self.asked[address].append(self.clock())
        if address == REFUSING:
            await asyncio.sleep(self.refuses_s)
            return error(503, headers={"retry-after": str(self.retry_after_s)})
        await asyncio.sleep(self.works_s)
        return await self.bazaar.handle(request)

    def client(self) -> BazaarClient:
        runtime = Runtime(
            monotonic=self.clock, random=random.Random(7), transport=lambda: httpx.MockTransport(self.handle)
        )
        return BazaarClient(SILENT, REFUSING, patience_s=PATIENCE_S, runtime=runtime)


@pytest.mark.parametrize("retry_after_s", [0, 1, 5])
@in_fake_time
async def test_answer_counts_at_once_whatever_the_other_one_wants(retry_after_s: int) -> None:
    both = NotReady(works_s=1.0, retry_after_s=retry_after_s)
    began = both.clock()
    async with both.client() as bazaar:
        assert isinstance(await bazaar.buy("GameStart", 1), Order)
        assert both.clock() - began == pytest.approx(1.0)
        assert bazaar.retries == len(both.asked[REFUSING])
        assert len(both.asked[SILENT]) == 1
        assert len(asyncio.all_tasks()) == 1, "nothing is left under way"


@in_fake_time
async def test_answer_counts_when_there_is_no_time_for_another_attempt() -> None:
    both = NotReady(works_s=PATIENCE_S - 0.1)
    async with both.client() as bazaar:
        assert isinstance(await bazaar.buy("GameStart", 1), Order)


@in_fake_time
async def test_outcome_is_unknown_when_the_silent_one_may_have_done_what_the_other_one_has_not() -> None:
    both = NotReady(works_s=PATIENCE_S + 1)
    began = both.clock()
    async with both.client() as bazaar:
        with pytest.raises(OutcomeUnknown):
            await bazaar.buy("GameStart", 1)
        assert both.clock() - began == pytest.approx(PATIENCE_S)
        assert len(asyncio.all_tasks()) == 1, "nothing is left under way"


@in_fake_time
async def test_nobody_is_asked_any_more_when_the_answer_came_in_a_pause() -> None:
    both = NotReady(works_s=2.5, retry_after_s=2, refuses_s=0.5)
    began = both.clock()
    async with both.client() as bazaar:
        assert isinstance(await bazaar.buy("GameStart", 1), Order)
        assert both.clock() - began == pytest.approx(2.5)
        assert len(both.asked[REFUSING]) == 1


@pytest.mark.parametrize("refuses_s", [0.0, 0.5, 0.8])
@in_fake_time
async def test_one_that_refuses_is_left_alone_for_as_long_as_it_said(refuses_s: float) -> None:
    both = NotReady(works_s=PATIENCE_S + 1, retry_after_s=2, refuses_s=refuses_s)
    async with both.client() as bazaar:
        with pytest.raises(OutcomeUnknown):
            await bazaar.buy("GameStart", 1)
    asked = both.asked[REFUSING]
    assert len(asked) >= 3
    assert min(after - before for before, after in pairwise(asked)) >= refuses_s + 2.0


@in_fake_time
async def test_error_is_seen_when_it_is_none_of_the_networks() -> None:
    both = NotReady(works_s=1.0)
    both.bazaar.faults.append(AssertionError("a bug"))
    async with both.client() as bazaar:
        with pytest.raises(AssertionError, match="a bug"):
            await bazaar.buy("GameStart", 1)
