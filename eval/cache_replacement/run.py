"""The experiment from its first bazaar to its result: one bazaar for each size of the cache."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from eval.cache_replacement.requests import POPULARITIES, Popularity, Request, draw, until
from eval.cache_replacement.results import Result, Sample, Trace, differences
from eval.cache_replacement.visit import Visit, visiting
from eval.machine import describe_machine


@dataclass(frozen=True)
class CacheSettings:
    """What was asked for. pictured: the sizes whose content is watched; steps: requests of such a picture.

    look_ups are counted after warm_up more, for each of the sizes, popularities, probabilities and repetitions.
    """

    seed: int
    sizes: tuple[int, ...] = (1, 3, 5, 8, 10, 15, 20, 25)
    probabilities: tuple[float, ...] = (0.0, 0.2, 0.6)
    repetitions: int = 3
    look_ups: int = 250
    warm_up: int = 80
    pictured: tuple[int, ...] = (5, 10)
    pictured_p: float = 0.2
    steps: int = 60
    command: str = "bazaar evaluate cache"


class Experiment:
    """One run of it. on_step: told in words what is measured next."""

    def __init__(self, settings: CacheSettings) -> None:
        self.settings = settings
        self.on_step: Callable[[str], None] = lambda _: None
        self._traces: list[Trace] = []
        self._samples: list[Sample] = []

    @property
    def steps(self) -> int:
        """How often `on_step` is called."""
        settings = self.settings
        loads = len(settings.sizes) * len(settings.probabilities) * settings.repetitions
        return (loads + len(settings.pictured)) * len(POPULARITIES)

    async def run(self) -> Result:
        """Measure everything. Raises CannotDo when that is not possible."""
        settings, started_at, began = self.settings, datetime.now(UTC), time.monotonic()
        names: list[str] = []
        for capacity in sorted({*settings.sizes, *settings.pictured}):
            async with visiting(capacity) as visit:
                names = visit.names
                if capacity in settings.pictured:
                    await self._watch(visit)
                if capacity in settings.sizes:
                    await self._count(visit)
        return Result(
            command=settings.command,
            seed=settings.seed,
            machine=describe_machine(),
            started_at=started_at,
            duration_s=round(time.monotonic() - began, 1),
            stocks=names,
            warm_up=settings.warm_up,
            traces=self._traces,
            samples=self._samples,
        )

    async def _watch(self, visit: Visit) -> None:
        """Pictures of this cache's content, one for each popularity."""
        settings = self.settings
        for popularity in POPULARITIES:
            self.on_step(f"{visit.capacity} of {len(visit.names)} stocks, {popularity}, step by step")
            requests = self._requests(visit.names, popularity, settings.pictured_p, 0)
            steps = await visit.watch(list(islice(requests, settings.steps)))
            trace = Trace(
                capacity=visit.capacity,
                popularity=popularity,
                p=settings.pictured_p,
                steps=steps,
                differences=differences(visit.capacity, steps),
            )
            self._traces.append(trace)

    async def _count(self, visit: Visit) -> None:
        """Hit ratios of this cache."""
        settings = self.settings
        for repetition in range(1, settings.repetitions + 1):
            for popularity in POPULARITIES:
                for p in settings.probabilities:
                    self.on_step(f"{visit.capacity} of {len(visit.names)} stocks, {popularity}, p = {p:.0%}")
                    requests = self._requests(visit.names, popularity, p, repetition)
                    warm_up = until(requests, settings.warm_up)
                    counts = await visit.count(warm_up, until(requests, settings.look_ups))
                    self._samples.append(
                        Sample(
                            capacity=visit.capacity,
                            popularity=popularity,
                            p=p,
                            repetition=repetition,
                            **counts.model_dump(),
                        )
                    )

    def _requests(self, names: Sequence[str], popularity: Popularity, p: float, repetition: int) -> Iterator[Request]:
        """The same for every size of cache."""
        return draw(random.Random(f"{self.settings.seed}/{popularity}/{p}/{repetition}"), names, popularity, p)
