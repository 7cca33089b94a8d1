"""The eye on the bazaar: four looks a second while somebody watches, one when nobody does.

Every look feeds the history, which is why there is one to show when a page is opened. Figures are read less often:
a front-end needs a millisecond or two to write its metrics down.
"""

import asyncio
import time
from contextlib import suppress

import httpx

from services.cluster.child import Strike
from services.cluster.control import process_view
from services.cluster.status import Snapshot, take_snapshot
from services.cluster.supervisor import Supervisor
from services.cluster.topology import Cluster
from services.common.logs import get_log
from services.control_room.figures import Counts, difference, point, read_counts, total
from services.control_room.history import History
from services.control_room.streams import Streams

log = get_log(__name__)

LOOK_EVERY_S = 0.25
LOOK_UNWATCHED_EVERY_S = 1.0
MEASURE_EVERY_S = 1.0
MEASURE_UNWATCHED_EVERY_S = 5.0
STORY_EVERY_S = 1.0
METRICS_S = 0.5
SHOWN_EVENTS = 8


class Watch:
    """Looks at one bazaar. `client` knows the secret."""

    def __init__(self, cluster: Cluster, supervisor: Supervisor, client: httpx.AsyncClient) -> None:
        self.streams = Streams()
        self.history = History([service.name for service in cluster.services])
        self._cluster = cluster
        self._supervisor = supervisor
        self._client = client
        self._noted: dict[str, Strike] = {}
        self._counts: dict[str, Counts] = {}
        self._measured_at = time.monotonic()
        self._told_at = 0.0
        self._told_version = -1

    async def look(self) -> Snapshot:
        """The bazaar as it is now, with what has happened to it."""
        processes = {name: process_view(child) for name, child in self._supervisor.children.items()}
        return self._told(await take_snapshot(self._cluster, self._client, processes))

    def _told(self, snapshot: Snapshot) -> Snapshot:
        return snapshot.told(self.history.last_fail_over, self.history.events(SHOWN_EVENTS))

    def note(self, service: str, text: str) -> None:
        """Something has just happened to a service. A blow happened when it fell, not when its effect was seen."""
        child = self._supervisor.children.get(service)
        at_ms = now_ms()
        if child is not None and child.strike is not None and child.strike != self._noted.get(service):
            self._noted[service] = child.strike
            at_ms = child.strike.at_ms
        self.history.note(at_ms, service, f"{service} {text}")

    async def run(self) -> None:
        """Look until cancelled. A look that fails is logged: the bazaar must not end because nobody could see it."""
        while True:
            began = time.monotonic()
            try:
                await self._look_once()
            except Exception:
                log.exception("the control room could not look at the bazaar")
            await self._pause(began)

    async def _look_once(self) -> None:
        is_watched = self.streams.count > 0
        snapshot = await self.look()
        self.history.take(snapshot)
        every_s = MEASURE_EVERY_S if is_watched else MEASURE_UNWATCHED_EVERY_S
        if time.monotonic() - self._measured_at >= every_s - LOOK_EVERY_S / 2:
            await self._measure()
        if is_watched:
            self._publish(self._told(snapshot))

    def _publish(self, snapshot: Snapshot) -> None:
        """Tell those who watch."""
        self.streams.publish("snapshot", snapshot.model_dump_json())
        now = time.monotonic()
        if self._told_version != self.history.version or now - self._told_at >= STORY_EVERY_S:
            self._told_version, self._told_at = self.history.version, now
            self.streams.publish("story", self.history.story(now_ms()).model_dump_json())

    async def _pause(self, began: float) -> None:
        """Wait for the next look, or for somebody who begins to watch."""
        every_s = LOOK_EVERY_S if self.streams.count else LOOK_UNWATCHED_EVERY_S
        self.streams.arrived.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(began + every_s - time.monotonic(), 0.02)):
                await self.streams.arrived.wait()
                self._told_at = 0.0  # whoever has come wants the whole story now

    async def _measure(self) -> None:
        """Add what the front-ends have counted since the last time."""
        now = time.monotonic()
        front_ends = self._cluster.of("front-end")
        texts = await asyncio.gather(*(self._metrics(each.internal_url) for each in front_ends))
        grown = []
        for front_end, text in zip(front_ends, texts, strict=True):
            if text is None:
                continue
            counts = read_counts(text)
            before = self._counts.get(front_end.name)
            self._counts[front_end.name] = counts
            if before is not None:
                grown.append(difference(before, counts))
        self.history.add(point(now_ms(), now - self._measured_at, total(grown)))
        self._measured_at = now

    async def _metrics(self, url: str) -> bytes | None:
        try:
            async with asyncio.timeout(METRICS_S):
                return (await self._client.get(f"{url}/metrics")).content
        except (httpx.HTTPError, TimeoutError, OSError):
            return None


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
