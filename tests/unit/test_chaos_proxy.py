"""The links between processes: what passes, what is swallowed, and what is left when a cut is over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from eval.chaos.network import Network, pairs
from eval.chaos.proxy import Link
from eval.chaos.scenarios import Direction
from services.cluster.topology import Settings, plan, port_of
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port


class Target:
    """Notes every line that arrives, and answers it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Target"]:
        """Answer during the body; at its end every connection is over."""
        async with await asyncio.start_server(self._accept, "127.0.0.1", self.port):
            yield self
            await asyncio.gather(*self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.heard.put_nowait(line)
                writer.write(b"you said " + line)
        writer.close()


class Caller:
    """One connection through a link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, line: bytes) -> None:
        self._writer.write(line)

    async def hear(self) -> bytes:
        """The next line; none when the connection is over."""
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError):
                return await self._reader.readline()
        return b""

    def hang_up(self) -> None:
        self._writer.transport.abort()


class Calls:
    """Makes connections, and hangs up at the end."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []

    async def __call__(self, url: str) -> Caller:
        self.callers.append(Caller(*await asyncio.open_connection("127.0.0.1", port_of(url), limit=2**20)))
        return self.callers[-1]


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """Listens during the test."""
    async with Target().listening() as made:
        yield made


@pytest.fixture
async def link(target: Target) -> AsyncIterator[Link]:
    """Leads to the target."""
    made = Link(target.port)
    yield made
    await made.close()


@pytest.fixture
async def dead_link() -> AsyncIterator[Link]:
    """Leads nowhere."""
    made = Link(free_port())
    yield made
    await made.close()


@pytest.fixture
async def call() -> AsyncIterator[Calls]:
    """Connects."""
    made = Calls()
    yield made
    for caller in made.callers:
        caller.hang_up()


async def test_everything_passes_when_nothing_is_cut(target: Target, link: Link, call: Calls) -> None:
    caller = await call(await link.open())
    for line in (b"one\n", b"x" * 50_000 + b"\n"):
        caller.say(line)
        assert await caller.hear() == b"you said " + line
    assert target.heard.qsize() == 2


async def test_others_go_on_when_one_caller_hangs_up(link: Link, call: Calls) -> None:
    url = await link.open()
    first, second = await call(url), await call(url)
    first.hang_up()
    second.say(b"one\n")
    assert await second.hear() == b"you said one\n"


async def test_connection_is_reset_when_nobody_listens(dead_link: Link, call: Calls) -> None:
    caller = await call(await dead_link.open())
    assert await caller.hear() == b""


async def test_request_never_arrives_when_requests_are_swallowed(target: Target, link: Link, call: Calls) -> None:
    url = await link.open()
    caller = await call(url)
    caller.say(b"before\n")
    assert await caller.hear() == b"you said before\n"
    link.cut(requests=True)
    caller.say(b"swallowed\n")
    await link.swallowed.wait()
    link.heal()
    assert await caller.hear() == b"", "what lost something is reset"
    again = await call(url)
    again.say(b"after\n")
    assert await again.hear() == b"you said after\n"
    assert [target.heard.get_nowait() for _ in range(target.heard.qsize())] == [b"before\n", b"after\n"]


async def test_request_is_executed_when_only_its_answer_is_swallowed(target: Target, link: Link, call: Calls) -> None:
    link.cut(answers=True)
    caller = await call(await link.open())
    caller.say(b"done\n")
    assert await target.heard.get() == b"done\n"
    await link.swallowed.wait()
    link.heal()
    assert await caller.hear() == b""


async def test_connection_goes_on_when_it_lost_nothing_in_the_cut(link: Link, call: Calls) -> None:
    caller = await call(await link.open())
    caller.say(b"one\n")
    assert await caller.hear() == b"you said one\n"
    link.cut(requests=True, answers=True)
    link.heal()
    caller.say(b"two\n")
    assert await caller.hear() == b"you said two\n"


async def test_death_of_the_target_is_hidden_until_the_cut_is_over(dead_link: Link, call: Calls) -> None:
    url = await dead_link.open()
    dead_link.cut(answers=True)
    hearing = asyncio.create_task((await call(url)).hear())
    await dead_link.swallowed.wait()
    assert not hearing.done()
    dead_link.heal()
    assert await hearing == b""


async def test_nothing_is_left_when_a_link_is_closed_in_a_cut(link: Link, call: Calls) -> None:
    caller = await call(await link.open())
    link.cut(requests=True)
    caller.say(b"swallowed\n")
    await link.swallowed.wait()
    await link.close()
    assert await caller.hear() == b""


def test_every_caller_has_a_way_to_every_target() -> None:
    found = {(caller.name, target.name) for caller, target in pairs(plan(Settings(replicas=2, front_ends=1)))}
    assert found == {
        ("front-end-1", "catalog"), ("front-end-1", "order-1"), ("front-end-1", "order-2"),
        ("order-1", "catalog"), ("order-1", "order-2"), ("order-2", "catalog"), ("order-2", "order-1"),
        ("catalog", "order-1"), ("catalog", "order-2"), ("catalog", "front-end-1"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("direction", "to_catalog", "to_replica"),
    [("out", (True, False), (False, True)), ("in", (False, True), (True, False)), ("both", (True, True), (True, True))],
)
def test_answers_travel_against_requests_when_a_direction_is_cut(
    direction: Direction, to_catalog: tuple[bool, bool], to_replica: tuple[bool, bool]
) -> None:
    network = Network(plan(Settings()))
    network.cut(["order-3"], ["catalog"], direction)
    cut = {pair: (link.swallows_requests, link.swallows_answers) for pair, link in network.links.items()}
    assert cut.pop(("order-3", "catalog")) == to_catalog
    assert cut.pop(("catalog", "order-3")) == to_replica
    assert set(cut.values()) == {(False, False)}
    network.heal()
    assert not any(link.swallows_requests or link.swallows_answers for link in network.links.values())
