"""A question to several: the next is asked beside one that is silent, and the first answer counts."""

import asyncio
from collections.abc import Callable

import pytest

from services.common.beside import first_answer
from services.common.http import PeerError
from tests.support.fake_time import FakeClock, in_fake_time

BESIDE_S, AGAIN_S = 0.2, 0.05
Says = Callable[[int], "str | PeerError | float"]
"""What one says when it is asked for the so-many-th time: an answer, a failure, or how long it is silent before."""


class Several:
    """Candidates by name, and when each was asked."""

    def __init__(self, **says: Says) -> None:
        self._clock = FakeClock()
        self._began = self._clock()
        self.asked: list[tuple[str, float]] = []
        self._says = says

    @property
    def took(self) -> float:
        return round(self._clock() - self._began, 3)

    async def ask(self, name: str) -> str:
        self.asked.append((name, self.took))
        said = self._says[name](sum(1 for each, _ in self.asked if each == name))
        if isinstance(said, PeerError):
            raise said
        if isinstance(said, float):
            await asyncio.sleep(said)
            return f"{name} at last"
        return said

    async def first(self, *, gives_up: bool = True) -> str:
        return await first_answer(list(self._says), self.ask, beside_s=BESIDE_S, again_s=AGAIN_S, gives_up=gives_up)


def says(*said: "str | PeerError | float") -> Says:
    """In this order, the last one for ever."""
    return lambda number: said[min(number, len(said)) - 1]


FAILS = PeerError("as the test wants it")
SILENT = 1_000.0


@in_fake_time
async def test_nobody_else_is_asked_when_the_first_one_answers() -> None:
    several = Several(a=says("a"), b=says("b"))
    assert await several.first() == "a"
    assert [name for name, _ in several.asked] == ["a"]


@in_fake_time
async def test_the_next_one_is_asked_at_once_when_one_has_failed() -> None:
    several = Several(a=says(FAILS), b=says("b"))
    assert await several.first() == "b"
    assert several.asked == [("a", 0.0), ("b", 0.0)]


@in_fake_time
async def test_the_next_one_is_asked_beside_one_that_is_silent() -> None:
    several = Several(a=says(SILENT), b=says(SILENT), c=says("c"))
    assert await several.first() == "c"
    assert several.asked == [("a", 0.0), ("b", BESIDE_S), ("c", 2 * BESIDE_S)]


@in_fake_time
async def test_one_that_was_only_slow_may_answer_first() -> None:
    several = Several(a=says(BESIDE_S + 0.01), b=says(SILENT))
    assert await several.first() == "a at last"


@in_fake_time
async def test_one_that_failed_is_asked_again_while_another_one_is_silent() -> None:
    several = Several(a=says(SILENT), b=says(FAILS, FAILS, "b"))
    assert await several.first() == "b"
    assert several.took == pytest.approx(BESIDE_S + 2 * AGAIN_S)


@in_fake_time
async def test_it_ends_when_all_have_failed() -> None:
    several = Several(a=says(FAILS), b=says(FAILS))
    with pytest.raises(PeerError, match="as the test wants it"):
        await several.first()
    assert several.took == 0.0


@in_fake_time
async def test_it_goes_on_when_all_have_failed_and_the_caller_sets_the_end() -> None:
    several = Several(a=says(*[FAILS] * 4, "a"), b=says(FAILS))
    assert await several.first(gives_up=False) == "a"


@in_fake_time
async def test_nothing_is_left_under_way() -> None:
    several = Several(a=says(SILENT), b=says(FAILS), c=says("c"))
    assert await several.first() == "c"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    several = Several(a=says(SILENT), b=says(FAILS))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await several.first()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_fake_time
async def test_an_error_that_is_no_failure_of_a_peer_ends_it() -> None:
    async def ask(name: str) -> str:
        raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError, match="a"):
        await first_answer(["a", "b"], ask, beside_s=BESIDE_S, again_s=AGAIN_S, gives_up=True)
