"""A bazaar of three hosts that runs: what breaks it, when it is level again, and what it proves at rest."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx

from eval.chaos.faults import Blow, leader_changes
from eval.chaos.scenarios import Scenario
from eval.chaos.stage import REST_S
from eval.etcd_node import etcd_environment, require_etcd
from eval.hosts.etcd_watch import watching
from eval.hosts.ground import CLIENTS, Ground, Namespaces, OnePlace
from eval.hosts.layout import HOSTS, SECRET, Layout, Part, on_host
from eval.hosts.process import HostProcess
from eval.hosts.scenarios import ALL, ETCD_LEADER, LEADER
from eval.processes import Failed
from services.cluster.audit import verify_cluster
from services.cluster.errors import CannotDo
from services.cluster.service_log import tail
from services.cluster.up import environment, readiness
from services.common.http import SECRET_HEADER, Peer, PeerError, make_client
from services.common.models import EntriesAnswer, FrontEndStatus, ReplicaStatus, Stock, StocksAnswer
from services.common.runtime import Runtime
from services.common.secret import load_secret

LEVEL_S = 90.0  # until everything is level again after a fault: nine processes may have to start on few cores
POLL_EVERY_S = 0.05
ASK_S = 1.0
DRAIN_S = 8.0  # for one kind of process to end what it has under way


class HostsBazaar:
    """See `World`. stocks: what the catalogs showed when all was verified."""

    def __init__(self, layout: Layout, ground: Ground, client: httpx.AsyncClient) -> None:
        self.layout = layout
        self.urls: Sequence[str] = [each.url for each in layout.of("front-end")]
        self.stocks: list[Stock] = []
        self._problems: list[str] = []
        self._ground = ground
        self._client = client
        self.processes = {
            name: HostProcess(
                name,
                on_host(layout, name, ground.prefix(part.host)),
                etcd_environment() if part.kind == "etcd" else environment(),
                layout.log(name),
            )
            for name, part in layout.parts.items()
        }

    # Its life.

    async def start(self) -> None:
        """Start everything and wait until it is level. Raises CannotDo when it does not start."""
        for process in self.processes.values():
            await process.start()
        try:
            await self.wait_level()
        except Failed as failure:
            raise CannotDo(str(failure)) from failure

    async def stop(self) -> None:
        """End it all, callers before those they call, so that what is under way can end well."""
        for process in self.processes.values():
            process.resume()
        try:
            for kind in ("front-end", "order", "catalog"):
                await asyncio.gather(*(self.processes[each.name].stop(DRAIN_S) for each in self.layout.of(kind)))
        finally:
            for process in self.processes.values():
                await process.kill()

    async def wait_level(self) -> None:
        """Wait until every process can do its job. Raises Failed."""
        missing: list[str] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(LEVEL_S):
                while True:
                    for process in self.processes.values():
                        process.check()
                    asked = await asyncio.gather(*(self._missing(part) for part in self.layout.parts.values()))
                    missing = [each for each in asked if each is not None]
                    if not missing:
                        return
                    await asyncio.sleep(POLL_EVERY_S)
        raise Failed(f"K9: not level within {LEVEL_S:.0f} s: {'; '.join(missing)}")

    async def _missing(self, part: Part) -> str | None:
        """What a process misses, in words; None when it can do its job."""
        if part.kind == "etcd":
            missing = None if await self._is_healthy(part) else "not healthy"
        else:
            missing = await readiness(Peer(self._client, part.internal_url))()
        return None if missing is None else f"{part.name}: {missing}"

    async def _is_healthy(self, part: Part) -> bool:
        """Whether an etcd node has reached a majority just now."""
        try:
            async with asyncio.timeout(ASK_S):
                answer = await self._client.get(part.url + "/health")
            return bool(answer.json() == {"health": "true"})
        except (TimeoutError, OSError, httpx.HTTPError, ValueError):
            return False

    # What breaks it.

    async def strike(self, scenario: Scenario) -> Blow:
        """See `World.strike`."""
        await asyncio.sleep(scenario.delay_s)
        await self.wait_level()
        names = await self._resolve(scenario.roles[0])
        blow = Blow(list(scenario.roles), time.monotonic(), is_total=scenario.what == ALL)
        if scenario.what in {ETCD_LEADER, LEADER}:
            blow.hit = names
        others = [each.url for each in self.layout.of("etcd") if each.name not in names]
        async with watching(self._client, others) as watch:
            match scenario.action:
                case "kill":
                    await self._kill(names, scenario.hold_s)
                case "pause":
                    await self._pause(names, scenario.hold_s)
                case "cut":
                    blow.hit = [f"{scenario.roles[0]} from {scenario.others[0]} ({scenario.direction})"]
                    await self._cut(scenario)
                case _:
                    raise AssertionError(f"there is no {scenario.action} of hosts")
            blow.undone = time.monotonic()
            if scenario.action == "kill":
                levels = await asyncio.gather(*(self._ready_at(name) for name in names))
                blow.downtime_s = {name: at - blow.began for name, at in zip(names, levels, strict=True)}
            await self.wait_level()
            blow.level = time.monotonic()
            if others:
                blow.etcd_ms = round(watch.longest_s(blow.began, blow.level) * 1_000, 1)
        await self._compare_logs(scenario)
        return blow

    async def _resolve(self, role: str) -> list[str]:
        """The names of the processes behind a role."""
        if role == ALL:
            return self.layout.on(*HOSTS)
        if role.startswith("host-"):
            return self.layout.on(int(role[-1]))
        if role in {LEADER, ETCD_LEADER}:
            return [await self._find(self._leader if role == LEADER else self._etcd_leader)]
        return [role]

    async def _find(self, ask: Callable[[], Awaitable[str | None]]) -> str:
        """Who has a role at this moment: somebody soon has. Raises Failed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LEVEL_S):
                while True:
                    with suppress(PeerError, OSError, httpx.HTTPError, ValueError, KeyError):
                        found = await ask()
                        if found is not None:
                            return found
                    await asyncio.sleep(POLL_EVERY_S)
        raise Failed("K9: although all is level, nobody leads")

    async def _kill(self, names: Collection[str], hold_s: float) -> None:
        await asyncio.gather(*(self.processes[name].kill() for name in names))
        await asyncio.sleep(hold_s)
        for name in names:
            await self.processes[name].start()

    async def _pause(self, names: Collection[str], hold_s: float) -> None:
        try:
            for name in names:
                self.processes[name].pause()
            await asyncio.sleep(hold_s)
        finally:
            for name in names:
                self.processes[name].resume()

    async def _cut(self, scenario: Scenario) -> None:
        host = int(scenario.roles[0][-1])
        others = {*HOSTS} - {host} | ({CLIENTS} if scenario.others == ("everybody",) else set())
        try:
            await self._ground.cut(host, others, scenario.direction)
            await asyncio.sleep(scenario.hold_s)
        finally:
            await self._ground.heal()

    async def _ready_at(self, name: str) -> float:
        """When a process that was started can do its job; `wait_level` says so when it never can."""
        deadline = time.monotonic() + LEVEL_S
        while await self._missing(self.layout.parts[name]) is not None and time.monotonic() < deadline:
            self.processes[name].check()
            await asyncio.sleep(POLL_EVERY_S)
        return time.monotonic()

    async def _leader(self) -> str | None:
        """The replica that the first front-end selected."""
        front_end = Peer(self._client, self.layout.of("front-end")[0].internal_url)
        leader = (await front_end.call("/status", FrontEndStatus, timeout_s=ASK_S)).leader
        return None if leader is None else f"order-{leader}"

    async def _etcd_leader(self) -> str | None:
        """The node of etcd that says of itself that it leads."""
        for part in self.layout.of("etcd"):
            async with asyncio.timeout(ASK_S):
                answer = (await self._client.post(part.url + "/v3/maintenance/status", content=b"{}")).json()
            if answer["leader"] == answer["header"]["member_id"]:
                return part.name
        return None

    # What it proves.

    async def _compare_logs(self, scenario: Scenario) -> None:
        """Under load: as far as the shortest log goes, all are the same, since each digest covers all before it."""
        replicas = [Peer(self._client, each.internal_url) for each in self.layout.of("order")]
        with suppress(PeerError):  # whoever cannot answer now is compared after the next fault, and in the end
            statuses = await asyncio.gather(
                *(each.call("/status", ReplicaStatus, timeout_s=REST_S) for each in replicas)
            )
            last = min(each.head.position for each in statuses)
            path = f"/entries?after={last - 1}&limit=1"
            if last:
                pages = await asyncio.gather(*(each.call(path, EntriesAnswer, timeout_s=REST_S) for each in replicas))
                if any(page.entries != pages[0].entries for page in pages):
                    self._problems.append(f"K4: after {scenario.kind} the logs differ at position {last}: {pages}")

    def noticed_ms(self, since: float) -> float | None:
        """See `World.noticed_ms`."""
        logs = [tail(self.layout.log(each.name)) for each in self.layout.of("front-end")]
        moments = [moment for log in logs for moment in leader_changes(log) if moment >= since]
        return round((min(moments) - since) * 1_000, 1) if moments else None

    async def verify(self) -> tuple[str, list[str]]:
        """See `World.verify`: the logs against the stocks that each catalog shows."""
        problems = list(self._problems)
        for process in self.processes.values():
            try:
                process.check()
            except Failed as failure:
                problems.append(str(failure))
        summary = "no catalog"
        shown: list[list[Stock]] = []
        for catalog in self.layout.of("catalog"):
            verdict = await verify_cluster(self.layout.seen_from(catalog), self._client, REST_S)
            problems += [f"through {catalog.name}: {problem}" for problem in verdict.problems]
            summary = verdict.summary
            with suppress(PeerError):
                answer = await Peer(self._client, catalog.internal_url).call("/stocks", StocksAnswer, timeout_s=REST_S)
                shown.append(answer.stocks)
        if any(stocks != shown[0] for stocks in shown):
            problems.append("the catalogs show different stocks")
        self.stocks = shown[0] if shown else []
        return f"{summary}, through {len(shown)} catalogs", problems


@asynccontextmanager
async def running_hosts(folder: Path, *, namespaces: bool) -> AsyncIterator[HostsBazaar]:
    """A bazaar of three hosts with its data there, level at first and gone at the end. Raises CannotDo."""
    require_etcd()
    async with AsyncExitStack() as stack:
        ground: Ground = Namespaces() if namespaces else OnePlace()
        await stack.enter_async_context(ground)
        layout = Layout(folder, ground.addresses, ground.first_port)
        for host in HOSTS:
            layout.data_dir(host).mkdir(parents=True)
        secret = load_secret(folder)  # made in the file that all hosts are told
        assert (folder / SECRET).exists(), "that is where a secret lies"
        client = await stack.enter_async_context(make_client(Runtime(), {SECRET_HEADER: secret}))
        bazaar = HostsBazaar(layout, ground, client)
        stack.push_async_callback(bazaar.stop)
        await bazaar.start()
        yield bazaar
