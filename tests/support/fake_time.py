"""Simulated time for tests: whenever nothing is left to do, the clock jumps to the next timer."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: it moves its loop's clock by the time that it was asked to wait."""

    loop: "FakeTimeLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise AssertionError("the test waits for something that will never happen")
            self.loop.now += max(timeout, 0.0)
        return events


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop under simulated time, for tests without sockets, threads or processes."""

    def __init__(self) -> None:
        self.now = 1_000.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class FakeClock:
    """The monotonic clock of a simulated process. `stop` is a SIGSTOP in the middle of a step, followed by SIGCONT."""

    def __init__(self) -> None:
        self._stopped = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self._stopped

    def stop(self, seconds: float) -> None:
        self._stopped += seconds


def in_fake_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test under simulated time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Wait, in simulated time, until `condition` holds; it is looked at every millisecond."""
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to hold in time"
        await asyncio.sleep(0.001)
