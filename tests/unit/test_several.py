"""One service at several addresses: who is asked, who is passed over, and what may be asked twice."""

import asyncio
import contextlib
import random

import httpx
import pytest

from services.common.http import Peer, PeerAnswered, PeerGone, PeerLost, PeerTimeout, make_client
from services.common.models import GenerationAnswer, SessionAnswer, SessionRequest
from services.common.runtime import Runtime
from services.common.several import (
    PASSED_OVER_MAX_S,
    PASSED_OVER_MIN_S,
    QUESTION_S,
    SHORT_CALL_S,
    SILENT_S,
    TRY_S,
    Several,
    service_at,
)
from services.common.timing import LEVEL_S, REPORT_ANSWER_S, REPORT_MAX_S
from tests.support.fake_network import FakeNetwork, Fault, Handler, answer, failure
from tests.support.fake_time import FakeClock, in_fake_time

FIRST, SECOND = "http://a:1", "http://b:2"
LONG_S = 2.5
MESSAGE = SessionRequest(session="s", url="http://c:3")


class Service:
    """The same service at two addresses; each answers with its number as generation, or as the test wants."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.network = FakeNetwork()
        self.asked: list[str] = []
        self.status = {FIRST: 200, SECOND: 200}
        self.busy: dict[str, asyncio.Event] = {}  # works on what it is asked until then
        for number, url in enumerate((FIRST, SECOND), 1):
            self.network.serve(url, self._handler(number, url))
        runtime = Runtime(monotonic=self.clock, random=random.Random(1), transport=lambda: self.network)
        self.client = make_client(runtime)
        self.peer = service_at(self.client, [FIRST, SECOND], self.clock)

    def _handler(self, number: int, url: str) -> Handler:
        async def handle(request: httpx.Request) -> httpx.Response:
            self.asked.append(url)
            if request.url.path == "/livez":
                return httpx.Response(200, json={"status": "alive"})
            if url in self.busy:
                await self.busy[url].wait()
            if self.status[url] != 200:
                return failure(self.status[url])
            if request.method == "GET":
                return answer(GenerationAnswer(generation=number, stocks=[]))
            return answer(SessionAnswer(generation=number, outcome="renewed", floor=0))

        return handle

    async def ask(self, timeout_s: float = LONG_S) -> int | None:
        """A question; gives who answered."""
        return (await self.peer.call("/generation", GenerationAnswer, timeout_s=timeout_s)).generation

    async def report(self) -> int:
        """A question with a message; gives who answered."""
        return (await self.peer.ask("/sessions/renew", SessionAnswer, MESSAGE, timeout_s=REPORT_ANSWER_S)).generation

    async def tell(self, timeout_s: float = LONG_S) -> int:
        """A message; gives who answered."""
        return (await self.peer.call("/sessions/renew", SessionAnswer, MESSAGE, timeout_s=timeout_s)).generation


@in_fake_time
async def test_one_address_is_a_plain_peer() -> None:
    service = Service()
    assert type(service_at(service.client, [FIRST], service.clock)) is Peer
    assert isinstance(service.peer, Several)
    assert service.peer.url == FIRST


@in_fake_time
async def test_the_first_is_preferred_when_both_work() -> None:
    service = Service()
    assert [await service.ask() for _ in range(3)] + [await service.tell()] == [1, 1, 1, 1]


@in_fake_time
async def test_the_next_one_is_asked_in_the_same_call_when_the_first_refuses() -> None:
    service = Service()
    service.network.fault(FIRST, "refuses")
    assert await service.ask() == 2
    assert await service.tell() == 2
    assert service.network.count(FIRST, "/sessions/renew") == 0, "it is remembered"


@in_fake_time
async def test_the_next_one_is_asked_in_the_same_call_when_the_first_says_503() -> None:
    service = Service()
    service.status[FIRST] = 503
    assert await service.tell() == 2
    assert service.asked == [FIRST, SECOND]


@pytest.mark.parametrize(("fault", "error"), [("resets", PeerLost), ("hangs", PeerTimeout)])
@in_fake_time
async def test_a_message_is_not_repeated_when_its_outcome_is_unknown(fault: Fault, error: type[Exception]) -> None:
    """What an answer of the second one says need not hold for what the first one did."""
    service = Service()
    service.network.fault(FIRST, fault)
    with pytest.raises(error):
        await service.tell()
    assert service.asked == []
    assert await service.tell() == 2, "the caller's next try goes to the next one"


@pytest.mark.parametrize("status", [500, 504])
@in_fake_time
async def test_a_message_is_not_repeated_when_the_answer_is_an_indefinite_error(status: int) -> None:
    service = Service()
    service.status[FIRST] = status
    with pytest.raises(PeerAnswered):
        await service.tell()
    assert service.asked == [FIRST]
    assert await service.tell() == 2


@pytest.mark.parametrize("status", [403, 404, 422])
@in_fake_time
async def test_an_answer_that_everybody_would_give_is_the_answer(status: int) -> None:
    service = Service()
    service.status[FIRST] = status
    for _ in range(2):
        with pytest.raises(PeerAnswered):
            await service.ask()
    assert service.asked == [FIRST, FIRST]


@in_fake_time
async def test_a_question_goes_on_to_the_next_one_when_the_first_hangs() -> None:
    service = Service()
    service.network.fault(FIRST, "hangs")
    began = service.clock()
    assert await service.ask() == 2
    assert service.clock() - began == pytest.approx(QUESTION_S)
    assert await service.ask() == 2
    assert service.clock() - began == pytest.approx(QUESTION_S)


@in_fake_time
async def test_one_that_was_only_slow_may_answer_a_question_first() -> None:
    service = Service()
    service.network.delay(FIRST, QUESTION_S + 0.1)
    service.network.fault(SECOND, "hangs")
    assert await service.ask() == 1
    assert service.asked == [FIRST]


@in_fake_time
async def test_one_that_cannot_answer_yet_is_asked_again_while_another_one_is_silent() -> None:
    service = Service()
    service.network.fault(FIRST, "hangs")
    service.status[SECOND] = 503
    asking = asyncio.create_task(service.ask())
    await asyncio.sleep(QUESTION_S + 0.5)
    service.status[SECOND] = 200
    assert await asking == 2
    began = service.clock()
    assert await service.ask() == 2
    assert service.clock() == began, "and the silent one is passed over"


@in_fake_time
async def test_a_message_is_given_up_as_unknown_when_the_first_is_silent() -> None:
    service = Service()
    service.network.fault(FIRST, "hangs")
    began = service.clock()
    with pytest.raises(PeerTimeout):
        await service.tell()
    assert service.clock() - began == pytest.approx(2 * SILENT_S)
    assert service.asked == []
    assert await service.tell() == 2


@in_fake_time
async def test_a_message_is_waited_for_when_the_first_works_on_it_and_says_that_it_lives() -> None:
    service = Service()
    service.busy[FIRST] = asyncio.Event()
    telling = asyncio.create_task(service.tell())
    await asyncio.sleep(LONG_S - 0.1)
    assert service.network.count(FIRST, "/livez") > 1
    service.busy[FIRST].set()
    assert await telling == 1
    assert service.network.count(SECOND, "/sessions/renew") == 0


@in_fake_time
async def test_all_attempts_together_take_no_longer_than_the_call_may() -> None:
    service = Service()
    for url in (FIRST, SECOND):
        service.network.fault(url, "hangs")
    began = service.clock()
    with pytest.raises(PeerTimeout):
        await service.ask(1.2)
    assert service.clock() - began == pytest.approx(1.2)


@in_fake_time
async def test_the_failure_is_indefinite_when_one_attempt_was() -> None:
    service = Service()
    service.network.fault(FIRST, "resets")
    service.network.fault(SECOND, "refuses")
    with pytest.raises(PeerLost):
        await service.ask()
    service.network.fault(FIRST, "refuses")
    with pytest.raises(PeerGone):
        await service.ask()


@in_fake_time
async def test_one_that_failed_is_tried_again_by_a_short_call_when_its_pause_is_over() -> None:
    service = Service()
    service.network.fault(FIRST, "refuses")
    assert await service.ask() == 2
    service.network.fault(FIRST, None)
    assert await service.ask(SHORT_CALL_S) == 2, "not yet"
    await asyncio.sleep(PASSED_OVER_MIN_S + 0.01)
    assert await service.ask(LONG_S) == 2, "not by a call that has much to lose"
    assert await service.ask(SHORT_CALL_S) == 1
    assert await service.ask(LONG_S) == 1, "it works again"


@in_fake_time
async def test_others_do_not_wait_for_the_call_that_tries_again() -> None:
    service = Service()
    service.network.fault(FIRST, "hangs")
    with pytest.raises(PeerTimeout):
        await service.tell(SHORT_CALL_S)
    await asyncio.sleep(PASSED_OVER_MIN_S + 0.01)
    trying = asyncio.create_task(service.tell(SHORT_CALL_S))
    await asyncio.sleep(0.01)
    began = service.clock()
    assert await service.tell(SHORT_CALL_S) == 2
    assert service.clock() == began
    with pytest.raises(PeerTimeout):
        await trying


@in_fake_time
async def test_it_is_tried_less_and_less_often_while_it_fails() -> None:
    service = Service()
    service.network.fault(FIRST, "hangs")
    until = service.clock() + 120.0
    while service.clock() < until:
        with contextlib.suppress(PeerTimeout):
            await service.tell(SHORT_CALL_S)
        await asyncio.sleep(0.1)
    tries = service.network.count(FIRST, "/sessions/renew")
    assert 120 / (PASSED_OVER_MAX_S + 2) <= tries <= 120 / PASSED_OVER_MAX_S + 8


@in_fake_time
async def test_a_try_takes_little_of_the_time_in_which_a_replica_stays_level() -> None:
    service = Service()
    service.network.fault(FIRST, "hangs")
    with pytest.raises(PeerTimeout):
        await service.tell(SHORT_CALL_S)
    await asyncio.sleep(PASSED_OVER_MIN_S + 0.01)
    began = service.clock()
    with pytest.raises(PeerTimeout):
        await service.tell(SHORT_CALL_S)
    assert service.clock() - began == pytest.approx(TRY_S)
    assert TRY_S + REPORT_MAX_S + REPORT_MAX_S < LEVEL_S


@in_fake_time
async def test_all_are_asked_when_all_have_failed() -> None:
    service = Service()
    for url in (FIRST, SECOND):
        service.network.fault(url, "refuses")
    for _ in range(3):
        with pytest.raises(PeerGone):
            await service.ask()
    service.network.fault(SECOND, None)
    assert await service.ask() == 2


# Questions that carry a message.


@in_fake_time
async def test_a_report_is_made_to_the_next_one_beside_one_that_lives_and_does_not_answer() -> None:
    """The first one alone does not reach etcd, say."""
    service = Service()
    service.busy[FIRST] = asyncio.Event()
    began = service.clock()
    assert await service.report() == 2
    assert service.clock() - began == pytest.approx(QUESTION_S)
    began = service.clock()
    assert await service.report() == 2
    assert await service.tell() == 2
    assert service.clock() == began, "the first one is passed over"


@in_fake_time
async def test_one_that_lives_is_not_passed_over_for_one_that_is_gone() -> None:
    """All wait for etcd, and a message must not go to the one that is gone when they need to wait no longer."""
    service = Service()
    service.busy[FIRST] = asyncio.Event()
    service.network.fault(SECOND, "hangs")
    with pytest.raises(PeerTimeout):
        await service.report()
    service.busy.pop(FIRST).set()
    began = service.clock()
    assert await service.tell() == 1
    assert await service.report() == 1
    assert service.clock() == began


@in_fake_time
async def test_one_that_is_gone_is_passed_over_when_nobody_could_answer_a_report() -> None:
    service = Service()
    service.network.fault(FIRST, "hangs")
    service.busy[SECOND] = asyncio.Event()
    with pytest.raises(PeerTimeout):
        await service.report()
    service.busy.pop(SECOND).set()
    began = service.clock()
    assert await service.tell() == 2
    assert service.clock() == began
