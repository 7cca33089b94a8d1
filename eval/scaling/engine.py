"""A discrete-event engine: things happen at their times, processes do one job at a time, machines have cores."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count, cycle

Then = Callable[[], None]
Seconds = float | Callable[[], float]
"""How long a job takes; a callable is asked when it begins."""

VARIATION = 0.3  # standard deviation of a job's length, as a part of its mean: assumed
DRAWN = 9_973


class Simulation:
    """The clock and what is still to happen. The same seed gives the same run."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        # Drawn beforehand, because every job needs one; used again and again.
        self.lengths = cycle([self.random.gammavariate(1 / VARIATION**2, VARIATION**2) for _ in range(DRAWN)])
        self._events: list[tuple[float, int, Then]] = []
        self._order = count()  # of what happens at the same moment: as it was asked for

    def after(self, seconds: float, then: Then) -> None:
        """Have something happen so many seconds from now."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), then))

    def run(self, until: float) -> None:
        """Let everything happen that is due until then."""
        events, pop = self._events, heapq.heappop
        while events and events[0][0] <= until:
            self.now, _, then = pop(events)
            then()
        self.now = until


class Machine:
    """So many cores for all its processes; who finds none waits in line."""

    def __init__(self, cores: int) -> None:
        self._free = cores
        self._line: deque[Then] = deque()

    def take(self, then: Then) -> None:
        """Begin as soon as there is a core."""
        if self._free:
            self._free -= 1
            then()
        else:
            self._line.append(then)

    def give_back(self) -> None:
        """A core is free: for whoever waits longest."""
        if self._line:
            self._line.popleft()()
        else:
            self._free += 1


class Process:
    """An event loop: its jobs are done one after the other. Without a machine it has a core of its own.

    busy_s: processor time; calls to `wait` take none, but nothing else is done meanwhile: so it is with an fsync.
    """

    def __init__(self, simulation: Simulation, machine: Machine | None = None) -> None:
        self.busy_s = 0.0
        self._simulation = simulation
        self._machine = machine
        self._jobs: deque[tuple[Seconds, Then, bool]] = deque()
        self._is_working = False

    def do(self, seconds: Seconds, then: Then) -> None:
        """Work that long on average, then call `then`."""
        self._jobs.append((seconds, then, True))
        if not self._is_working:
            self._begin()

    def wait(self, seconds: Seconds, then: Then) -> None:
        """Stand still for so long, without a core, then call `then`."""
        self._jobs.append((seconds, then, False))
        if not self._is_working:
            self._begin()

    def _begin(self) -> None:
        self._is_working = True
        seconds, then, takes_core = self._jobs.popleft()
        if takes_core and self._machine is not None:
            self._machine.take(partial(self._work, seconds, then, takes_core=True))
        else:
            self._work(seconds, then, takes_core=takes_core)

    def _work(self, seconds: Seconds, then: Then, *, takes_core: bool) -> None:
        mean = seconds() if callable(seconds) else seconds
        taken = mean * next(self._simulation.lengths)
        if takes_core:
            self.busy_s += taken
        self._simulation.after(taken, partial(self._end, then, takes_core=takes_core))

    def _end(self, then: Then, *, takes_core: bool) -> None:
        if takes_core and self._machine is not None:
            self._machine.give_back()
        self._is_working = False
        then()
        if self._jobs and not self._is_working:
            self._begin()
