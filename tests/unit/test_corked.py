"""A transport that sends head and body as one, and holds nothing back for longer than a turn."""

import asyncio
from typing import cast

import pytest

from services.common.corked import CorkedTransport


class Sent:
    """A transport that notes what is done with it."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.has_eof = True

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def close(self) -> None:
        self.done.append("closed")

    def can_write_eof(self) -> bool:
        return self.has_eof

    def write_eof(self) -> None:
        self.done.append("ended")

    def abort(self) -> None:
        self.done.append("aborted")

    def is_closing(self) -> bool:
        return "closed" in self.done


@pytest.fixture
async def sent() -> Sent:
    return Sent()


@pytest.fixture
async def corked(sent: Sent) -> CorkedTransport:
    return CorkedTransport(cast("asyncio.Transport", sent), asyncio.get_running_loop())


async def test_one_write_when_head_and_body_come_in_one_turn(sent: Sent, corked: CorkedTransport) -> None:
    corked.write(b"head ")
    assert sent.done == []
    corked.write(b"body")
    assert sent.done == [b"head body"]
    await asyncio.sleep(0)
    assert sent.done == [b"head body"]


async def test_sent_at_the_end_of_the_turn_when_nothing_follows(sent: Sent, corked: CorkedTransport) -> None:
    corked.write(b"head")
    await asyncio.sleep(0)
    assert sent.done == [b"head"]
    corked.write(b"later")
    await asyncio.sleep(0)
    assert sent.done == [b"head", b"later"]


@pytest.mark.parametrize(("end", "says"), [("close", "closed"), ("write_eof", "ended")])
async def test_sent_before_the_end_when_something_is_held(
    sent: Sent, corked: CorkedTransport, end: str, says: str
) -> None:
    corked.write(b"last words")
    getattr(corked, end)()
    await asyncio.sleep(0)
    assert sent.done == [b"last words", says]


async def test_what_is_held_is_sent_when_there_is_no_end_of_one_direction(sent: Sent, corked: CorkedTransport) -> None:
    """As with TLS."""
    sent.has_eof = False
    corked.write(b"last words")
    corked.write_eof()
    assert sent.done == [b"last words"]


async def test_nothing_is_sent_any_more_when_it_was_aborted(sent: Sent, corked: CorkedTransport) -> None:
    assert not corked.is_closing()
    corked.write(b"never sent")
    corked.abort()
    await asyncio.sleep(0)
    assert sent.done == ["aborted"]
    corked.close()
    assert corked.is_closing()
