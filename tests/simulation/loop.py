"""An event loop under simulated time, whose callbacks belong to simulated processes.

Time hardly moves while code runs and jumps to the next timer when nobody has anything to do. Every callback carries its
context, and the context names the process that it belongs to: a killed process' callbacks are dropped, for ever and
without any clean-up, as SIGKILL does it; a paused one's are kept back in order until it goes on, as SIGSTOP does it.
"""

import asyncio
import contextvars
import selectors
from collections.abc import Callable
from typing import Any

TURN_S = 1e-7  # what one turn of the loop takes at least: who tries again until a deadline comes to an end


class Life:
    """One life of a process: from its start to its death. Its next one is another object."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = name.rstrip("0123456789").rstrip("-")  # catalog, order or front-end
        self.is_dead = False
        self.is_paused = False
        self.parked: list[tuple[Callable[..., object], tuple[Any, ...], contextvars.Context]] = []

    def run(self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context) -> None:
        """Run a callback of this process now, later, or never."""
        if self.is_dead:
            return
        if self.is_paused:
            self.parked.append((callback, args, context))
            return
        callback(*args)


CURRENT_LIFE: contextvars.ContextVar[Life | None] = contextvars.ContextVar("CURRENT_LIFE", default=None)


def life_context(life: Life | None) -> contextvars.Context:
    """A context in which everything belongs to `life`."""
    context = contextvars.copy_context()
    context.run(CURRENT_LIFE.set, life)
    return context


class Deadlock(Exception):
    """Nobody will ever do anything again."""


class _Clock(selectors.DefaultSelector):
    """Waits by advancing the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock
        self.now += max(timeout, TURN_S)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._simulated_clock = _Clock()
        super().__init__(self._simulated_clock)
        self._clock_resolution = 1e-9
        self.unfinished: set[asyncio.Task[Any]] = set()  # also those of dead processes: nothing of them may be unwound
        self.set_task_factory(self._make_task)

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **options)
        self.unfinished.add(task)
        task.add_done_callback(self.unfinished.discard, context=contextvars.Context())
        return task

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._simulated_clock.now

    def bury(self) -> None:
        """Let go of everything that dead processes left behind."""
        for task in self.unfinished:
            task._log_destroy_pending = False  # type: ignore[attr-defined] # they died unfinished, as they should
        self.unfinished.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]

    def call_soon(  # type: ignore[override] # typed with one variable for all arguments there
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's, for the process of `context`."""
        context = contextvars.copy_context() if context is None else context  # an empty one is false
        life = context.get(CURRENT_LIFE)
        if life is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(life.run, callback, args, context, context=context)

    def call_at(  # type: ignore[override] # as above
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, for the process of `context`."""
        context = contextvars.copy_context() if context is None else context  # an empty one is false
        life = context.get(CURRENT_LIFE)
        if life is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, life.run, callback, args, context, context=context)
