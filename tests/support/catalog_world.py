"""A catalog with fakes for all that it speaks to, in one process and under simulated time."""

import asyncio
import functools
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import httpx
from fastapi import FastAPI
from pydantic import BaseModel
from structlog.testing import capture_logs

from services.catalog.app import create_app
from services.catalog.catalog import Catalog
from services.common.http import SECRET_HEADER
from services.common.models import (
    DecideAnswer,
    DecideRequest,
    SessionAnswer,
    SessionRequest,
    Stock,
    StockAnswer,
    Trade,
)
from services.common.runtime import Runtime
from services.common.settings import CatalogSettings
from tests.support.catalog_entries import AT, STOCKS
from tests.support.catalog_front_end import CacheHolder
from tests.support.catalog_replica import LogReplica
from tests.support.fake_network import FakeNetwork
from tests.support.fake_time import FakeClock, in_fake_time, until

P = ParamSpec("P")
T = TypeVar("T")
AnswerT = TypeVar("AnswerT", bound=BaseModel)

SECRET = "a-secret-of-the-tests"
PATIENCE_S = 600.0
"""How long a whole test may take, in simulated seconds: a catalog has timers for ever, so a stuck test needs an end."""


def in_catalog_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test under simulated time, with an end. What is logged is shown when it fails."""

    @functools.wraps(test)
    async def limited(*args: P.args, **kwargs: P.kwargs) -> None:
        with capture_logs() as logs:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await test(*args, **kwargs)
            except BaseException as error:
                error.add_note("\n".join(str(entry) for entry in logs))
                raise

    return in_fake_time(limited)


async def turns(count: int = 20) -> None:
    """Let everything that can go on without the clock do so."""
    for _ in range(count):
        await asyncio.sleep(0)


class Gate:
    """A step that is held up: whoever comes sets `reached` and waits until the gate is opened, for good."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()
        self.passed = 0

    async def __call__(self) -> None:
        self.reached.set()
        await self._opened.wait()
        self.passed += 1

    def open(self) -> None:
        self._opened.set()


class Points:
    """The named steps of a process. `hooks`: awaited when a step is reached; `passed`: every step, in order."""

    def __init__(self) -> None:
        self.hooks: dict[str, Callable[[], Awaitable[object]]] = {}
        self.passed: list[str] = []

    async def __call__(self, point: str) -> None:
        self.passed.append(point)
        if point in self.hooks:
            await self.hooks[point]()


class InlineDisk:
    """A disk without a thread. `before`: awaited before each piece of work."""

    def __init__(self) -> None:
        self.before: Callable[[], Awaitable[object]] | None = None
        self.works: list[str] = []
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._turn:
            if self.before is not None:
                await self.before()
            self.works.append(getattr(work, "__name__", "work"))
            return work(*args, **kwargs)

    def close(self) -> None:
        return


class Process:
    """One life of the catalog: its application, and calls to it."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, disk: InlineDisk) -> None:
        self.app = app
        self.client = client
        self.disk = disk
        self.catalog: Catalog = app.state.catalog

    async def post(self, path: str, message: BaseModel) -> httpx.Response:
        return await self.client.post(path, content=message.model_dump_json())

    async def call(self, path: str, kind: type[AnswerT], message: BaseModel | None = None) -> AnswerT:
        """An answer that must be a 200."""
        response = await (self.client.get(path) if message is None else self.post(path, message))
        assert response.status_code == 200, response.text
        return kind.model_validate_json(response.content)

    async def decide(self, message: DecideRequest) -> DecideAnswer:
        return await self.call("/decide", DecideAnswer, message)

    async def trade(self, leader: LogReplica, *trades: Trade) -> DecideAnswer:
        """Decide as `leader`, which takes the entries."""
        told = await self.decide(leader.ask(*trades))
        leader.take(told)
        return told

    async def quantity(self, name: str = "GameStart") -> int:
        return (await self.call(f"/stocks/{name}", StockAnswer)).stock.quantity

    async def session(
        self, what: str, holder: CacheHolder, session: str | None = None, grantors: Sequence[str] = ()
    ) -> SessionAnswer:
        """Open, renew or end the session of a front-end."""
        message = SessionRequest(session=session or holder.session or "none", url=holder.url, grantors=list(grantors))
        return await self.call(f"/sessions/{what}", SessionAnswer, message)


class CatalogWorld:
    """The catalog's surroundings, which outlive it: its folder, the replicas, the front-ends, the clock."""

    def __init__(
        self,
        folder: Path,
        *replicas: LogReplica,
        stocks: Sequence[Stock] = STOCKS,
        lost: Sequence[int] = (),
    ) -> None:
        self.clock = FakeClock()
        self.network = FakeNetwork()
        self.points = Points()
        self.ended_with: list[int] = []
        self.folder = folder / "data"
        self.stocks_file = folder / "stocks.csv"
        self.write_stocks(stocks)
        self.lost = list(lost)
        self.replicas = {replica.id: replica for replica in replicas or [LogReplica(i) for i in (1, 2, 3)]}
        for replica in self.replicas.values():
            self.network.serve(replica.url, replica.handle)

    @property
    def leader(self) -> LogReplica:
        return self.replicas[max(self.replicas)]

    def write_stocks(self, stocks: Sequence[Stock]) -> None:
        rows = [f"{stock.name},{stock.price // 100}.{stock.price % 100:02},{stock.quantity}\n" for stock in stocks]
        self.stocks_file.write_text("name,price,quantity\n" + "".join(rows))

    def front_end(self, port: int = 8021, host: str = "127.0.0.1", session: str = "session-1") -> CacheHolder:
        holder = CacheHolder(f"http://{host}:{port}", session)
        self.network.serve(holder.url, holder.handle)
        return holder

    def copy_disk(self, to: Path) -> Path:
        """What a killed process would leave at this moment: the files as they are, without their locks."""
        to.mkdir()
        for name in ("catalog.db", "catalog.db-wal"):
            if (self.folder / name).exists():
                shutil.copy(self.folder / name, to / name)
        return to

    def lose_disk(self) -> None:
        """Delete the database as an operator would."""
        for file in self.folder.glob("catalog.db*"):
            file.unlink()

    @asynccontextmanager
    async def running(self, folder: Path | None = None, *, ready: bool = True) -> AsyncIterator[Process]:
        """One life of the catalog, on its folder or another; unless told otherwise, from when it is ready."""
        disk = InlineDisk()
        runtime = Runtime(
            monotonic=self.clock,
            wall_ms=lambda: AT,
            random=random.Random(7),
            transport=lambda: self.network,
            disk=lambda: disk,
            end_process=self.ended_with.append,
            point=self.points,
        )
        known: dict[str, Any] = {
            "data_dir": folder or self.folder,
            "replicas": {replica_id: replica.url for replica_id, replica in self.replicas.items()},
            "stocks": self.stocks_file,
            "lost": self.lost,
        }
        app = create_app(CatalogSettings(**known), runtime, SECRET)
        # Nothing here loses power, and an fsync takes a long time on a machine that runs other tests as well.
        app.state.catalog._store.file._database._writer.execute("PRAGMA synchronous = OFF")
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://catalog",
            headers={SECRET_HEADER: SECRET},
        )
        process = Process(app, client, disk)
        async with client, app.router.lifespan_context(app):
            if ready:
                await until(lambda: process.catalog.missing() is None)
            yield process
