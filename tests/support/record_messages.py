"""Records what this release's processes send to each other, for the tests of the releases after it.

    python -m tests.support.record_messages

writes `tests/unit/recorded/messages-VERSION.json`, VERSION being that of pyproject.toml. Run it once for each release,
when it is made and never again: a recording says what is out there. Commit the file.

The messages between services come from a bazaar under simulated time in which a replica dies and comes back and the
catalog's disk is lost; cluster.json and the supervisor's snapshot from one of real processes.
"""

import asyncio
import json
import logging
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel

from client import BazaarClient, BazaarClientError
from eval.json_text import to_json
from services.cluster.status import Snapshot
from services.common.http import SECRET_HEADER, Peer, PeerError, make_client
from services.common.models import CacheState, CacheSwitch, CatalogStatus, FrontEndStatus, Message, TradeRequest
from services.common.runtime import Runtime
from services.front_end.internal import RemovedAnswer
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import SimulatedTransport
from tests.simulation.world import SECRET, WALL_MS, World
from tests.support.cluster import ROOT, Cluster
from tests.support.recordings import FOLDER, Kind, Recording, known_kinds, members_of, parts_of

MOST = 5  # messages of a kind
LONGEST = 8  # items of a list that is kept
CATALOG, FRONT_END = "http://127.0.0.1:8010", "http://127.0.0.1:8021"


class Recorder:
    """Keeps some of the messages of each kind: those that differ in more than their figures."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}

    def note(self, message: BaseModel, name: str = "") -> None:
        """A message was read; its parts count as messages too."""
        for part in parts_of(message):
            kept = self.messages.setdefault(name if part is message and name else type(part).__name__, {})
            content = part.model_dump(mode="json")
            if len(kept) < MOST and all(len(each) <= LONGEST for each in content.values() if isinstance(each, list)):
                kept.setdefault(_shape(content), content)

    def recording(self, version: str) -> Recording:
        """All of it. Raises ValueError when a kind was never seen: then the story below needs another chapter."""
        known = known_kinds()
        if missing := sorted(name for name in known if not self.messages.get(name)):
            raise ValueError(f"never sent: {', '.join(missing)}")
        kinds = {
            name: Kind(members=members_of(known[name]), messages=list(kept.values()))
            for name, kept in sorted(self.messages.items())
            if name in known
        }
        return Recording(version=version, kinds=kinds)


def _shape(value: Any) -> str:
    """What is the same for two messages that differ in figures and names only."""
    if isinstance(value, dict):
        return json.dumps(
            {name: value[name] if name in {"outcome", "result"} else _shape(value[name]) for name in value}
        )
    if isinstance(value, list):
        return f"[{_shape(value[0])}]" if value else "[]"
    return "null" if value is None else type(value).__name__


@contextmanager
def listening(recorder: Recorder) -> Iterator[None]:
    """Note every message that is read in this process during the body: all services read by one method."""
    read = Message.__dict__.get("model_validate_json")
    usual = BaseModel.model_validate_json.__func__  # type: ignore[attr-defined]

    def model_validate_json(kind: type[Message], *arguments: Any, **options: Any) -> Message:
        message: Message = usual(kind, *arguments, **options)
        recorder.note(message)
        return message

    assert read is None
    Message.model_validate_json = classmethod(model_validate_json)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        del Message.model_validate_json


def record_simulated(recorder: Recorder) -> World:
    """All messages between clients and services. Gives the world: what died in it must not be cleaned up."""
    with tempfile.TemporaryDirectory() as folder, listening(recorder):
        loop = SimulatedLoop()
        world = World(loop, 1, Path(folder))
        try:
            loop.run_until_complete(_story(world))
        finally:
            loop.bury()
            loop.close()
        return world


async def _story(world: World) -> None:
    for name in world.processes:
        world.start(name)
    runtime = Runtime(
        monotonic=world.loop.time,
        wall_ms=lambda: WALL_MS + int(world.loop.time() * 1_000),
        random=world.random,
        transport=lambda: SimulatedTransport(world, "client"),
    )
    async with (
        BazaarClient("http://127.0.0.1:8001", "http://127.0.0.1:8002", runtime=runtime) as client,
        make_client(runtime, {SECRET_HEADER: SECRET}) as inside,
    ):
        await _trade(client)
        world.kill("order-3")
        await asyncio.sleep(1)
        await _trade(client)
        world.start("order-3")
        await asyncio.sleep(2)
        world.kill("catalog")
        world.wipe("catalog")
        world.start("catalog")
        await _trade(client)
        front_end = Peer(inside, FRONT_END)
        for is_on in (False, True):
            await front_end.call("/cache", CacheState, CacheSwitch(on=is_on), timeout_s=5)
        await _trade(client)
        await front_end.call("/rm?name=S2", RemovedAnswer, timeout_s=5)
        await front_end.call("/status", FrontEndStatus, timeout_s=5)
        await Peer(inside, CATALOG).call("/status", CatalogStatus, timeout_s=5)
        with suppress(PeerError):
            await front_end.call("/nothing", RemovedAnswer, timeout_s=5)
    await world.close()


async def _trade(client: BazaarClient) -> None:
    """A customer's whole day."""
    TradeRequest.model_validate_json('{"name": "S2", "type": "buy", "quantity": 2}')  # the front-end reads it elsewhere
    for name in ("S0", "S2", "S3", "S2"):
        await client.look_up(name)
    key = client.new_key()
    await client.buy("S2", 2, key)
    await client.buy("S2", 2, key)  # again
    await client.sell("S3", 1)
    await client.buy("S0", 1_000)  # refused
    for name, quantity, the_key in (("S2", 3, key), ("Nothing", 1, client.new_key())):
        try:
            await client.buy(name, quantity, the_key)
        except BazaarClientError:
            continue
    await client.order(1)
    await client.order(1_000_000)
    await client.orders(limit=1)
    await client.orders(after=1_000_000)
    [_ async for _ in client.stocks()]
    await client.leader()
    await client.cache()


async def record_real(recorder: Recorder) -> None:
    """What `bazaar up` writes and says."""
    with tempfile.TemporaryDirectory() as folder:
        async with Cluster(Path(folder) / "data", front_ends=2) as cluster, cluster.client() as client:
            name = next(iter([stock.name async for stock in client.stocks()]))
            await client.look_up(name)
            await client.buy(name, 1)
            leader = await cluster.leader()
            await cluster.kill(leader)
            await cluster.wait_for_other_leader(leader)
            await client.buy(name, 1)
            recorder.note(cluster.topology, "cluster.json")
            told = (await cluster.status()).model_dump_json().replace(folder + "/", "")  # no path of this machine
            recorder.note(Snapshot.model_validate_json(told), "snapshot")


def main() -> None:
    """Record, and say where it is."""
    logging.disable(logging.CRITICAL)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    recorder = Recorder()
    asyncio.run(record_real(recorder))
    world = record_simulated(recorder)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    path = FOLDER / f"messages-{version}.json"
    path.write_text(to_json(recorder.recording(version)), encoding="utf-8")
    sys.stdout.write(f"{path.relative_to(ROOT)}: {len(recorder.messages)} kinds\n")
    sys.stdout.flush()
    os._exit(0 if world.story else 1)  # the simulated processes' tasks died without unwinding, and shall not do so now


if __name__ == "__main__":
    main()
