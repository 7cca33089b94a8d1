"""`bazaar up`: starts everything, watches over it, and leaves nothing behind.

A signal (Ctrl-C, SIGTERM, a closed terminal) drains: front-ends, then replicas, then the catalog. A second one kills.
If the supervisor itself is killed, the kernel kills its services (services/common/lifeline.py).
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import httpx
from rich.console import Console, RenderableType
from rich.table import Table

import services
from client.console import make_console
from services.cluster import preflight
from services.cluster.child import Child, Probe
from services.cluster.console import hints, status_page
from services.cluster.errors import CannotDo
from services.cluster.folder import find_cluster, supervisor_lock, write_cluster
from services.cluster.links import internal_client, words
from services.cluster.service_log import tail
from services.cluster.supervisor import Supervisor
from services.cluster.topology import KINDS, Cluster, Kind, command, port_of
from services.common.http import Peer, PeerAnswered, PeerError
from services.common.lifeline import SUPERVISOR_VARIABLE, die_with_parent
from services.common.logs import set_up_logs
from services.common.models import Message
from services.common.secret import BadSecret, load_secret
from services.common.server import CannotListen, Listener, serve
from services.control_room.app import create_listener
from services.control_room.room import Room

PROBE_S = 0.5
SLOW_START_S = 10.0  # then the operator is told what is missing
SAME_SIGNAL_S = 0.3  # `make` and a shell may each pass on the same signal: so soon it is not a second one
LAST_LINES = 10


def run_up(data_dir: Path, planned: Cluster) -> int:
    """Run this host's part of a bazaar until it is told to stop; gives the exit code. Raises CannotDo."""
    die_with_parent()  # only when whoever starts it asks for that: an experiment, say
    cluster = planned.model_copy(update={"supervisor": os.getpid()})
    console = make_console()
    with supervisor_lock(data_dir):
        known = find_cluster(data_dir)
        preflight.check(data_dir, cluster, known)
        if known is not None and cluster.settings.catalog is not None and cluster.topology is None:
            console.print(f"note: {data_dir}/ has a bazaar already; it keeps its stocks, --catalog is not read")
        _secret(data_dir, cluster)
        write_cluster(data_dir, cluster)
        set_up_logs("supervisor", "warning")
        with asyncio.Runner() as runner:
            return runner.run(_Up(cluster, data_dir, console).run())


def _secret(data_dir: Path, cluster: Cluster) -> str:
    """Made here when the folder is new: whoever finds cluster.json there asks for it. Raises CannotDo."""
    try:
        return load_secret(data_dir, cluster.settings.secret_file)
    except BadSecret as error:
        raise CannotDo(str(error)) from error


class Signals:
    """The signals that end a bazaar: the first drains, a second one kills."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.number: int | None = None  # of the first one
        self._at = 0.0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch them during the body. Afterwards nothing is left that they could end, and they are ignored."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int) -> None:
        if not self.first.is_set():
            self.number = number
            self._at = time.monotonic()
            self.first.set()
        elif time.monotonic() - self._at > SAME_SIGNAL_S:
            self.second.set()


class _Up:
    """One running bazaar."""

    def __init__(self, cluster: Cluster, data_dir: Path, console: Console) -> None:
        self._cluster = cluster
        self._data_dir = data_dir
        self._console = console
        self._signals = Signals()
        self._room: Room | None = None

    async def run(self) -> int:
        async with internal_client(self._data_dir) as client:
            groups = [self._children(kind, client) for kind in KINDS]
            supervisor = Supervisor(groups, announce=self._announce, elsewhere=self._cluster.elsewhere)
            room = self._room = Room(self._cluster, supervisor, client, environment())
            async with self._listening(room, supervisor):
                # `serve` catches signals too; catching them after it makes these ones count.
                with self._signals.caught():
                    async with supervisor.running(), room.open():
                        return await self._live(supervisor, room)

    @asynccontextmanager
    async def _listening(self, room: Room, supervisor: Supervisor) -> AsyncIterator[None]:
        """Serve the control room during the body. Raises CannotDo when it cannot listen."""
        host = self._cluster.settings.control_host
        app = create_listener(room, supervisor, _secret(self._data_dir, self._cluster), host)
        listener = Listener(app=app, host=host, port=port_of(self._cluster.control), drain_s=1.0)
        listening = asyncio.Event()
        control = asyncio.create_task(
            serve(listener, on_ready=lambda _: listening.set(), on_stop=room.watch.streams.close)
        )
        try:
            await first_of(listening.wait(), asyncio.wait((control,)))
            if control.done():
                await _raise_as_told(control)
            yield
        finally:
            control.cancel()
            await asyncio.gather(control, return_exceptions=True)

    async def _live(self, supervisor: Supervisor, room: Room) -> int:
        try:
            await self._start(supervisor, room)
            await self._signals.first.wait()
        finally:
            await self._stop(supervisor)
        return 128 + signal.SIGINT if self._signals.number == signal.SIGINT else 0

    async def _start(self, supervisor: Supervisor, room: Room) -> None:
        """Wait until the bazaar is up and show it, or until a signal. Raises CannotDo when it never will be."""
        here = "" if self._cluster.host is None else f" of host {self._cluster.host}"
        self._say(f"starting {len(supervisor.children)} services{here} in {self._data_dir}/ ...")
        first = await self._first_of_start(supervisor, SLOW_START_S)
        if first is None:
            self._tell_missing(supervisor)
            first = await self._first_of_start(supervisor, None)
        if first == "signal":
            return
        if isinstance(first, Child):
            raise CannotDo(describe_hopeless(first))
        snapshot = await room.watch.look()
        self._say(*status_page(snapshot, self._console.width), *hints(self._cluster, snapshot, self._data_dir))

    async def _first_of_start(
        self, supervisor: Supervisor, timeout_s: float | None
    ) -> Literal["settled", "signal"] | Child | None:
        """What comes first; the child is one without hope, None is the end of the time."""
        works = (supervisor.wait_settled(), self._signals.first.wait(), supervisor.wait_hopeless())
        match await first_of(*works, timeout_s=timeout_s):
            case 0, _:
                return "settled"
            case 1, _:
                return "signal"
            case 2, Child() as child:
                return child
        return None

    def _tell_missing(self, supervisor: Supervisor) -> None:
        for child in supervisor.children.values():
            if not child.settled.is_set():
                self._announce(child.name, f"is not ready yet: {child.missing or 'does not answer'}; log: {child.log}")

    async def _stop(self, supervisor: Supervisor) -> None:
        self._say("stopping: what is under way is finished first; Ctrl-C again kills at once")
        drained, _ = await first_of(supervisor.drain(), self._signals.second.wait()) or (None, None)
        if drained == 0:
            self._say("stopped")
        else:
            await supervisor.kill_all()
            self._say("killed")

    def _announce(self, name: str, text: str) -> None:
        if self._room is not None:
            self._room.watch.note(name, text)
        self._say(f"{datetime.now().astimezone():%H:%M:%S} {name} {text}")

    def _say(self, *parts: RenderableType) -> None:
        """Print lines and tables. The bazaar goes on when nobody reads them any more."""
        try:
            for part in parts:
                self._console.print(part, soft_wrap=not isinstance(part, Table))
        except (OSError, SystemExit):  # rich makes an exit of a closed pipe
            self._console.quiet = True

    def _children(self, kind: Kind, client: httpx.AsyncClient) -> list[Child]:
        # A replica is declared lost for one rebuild: when the catalog's disk is lost again, its log counts again.
        later = self._cluster.model_copy(update={"settings": self._cluster.settings.model_copy(update={"lost": []})})
        return [
            Child(
                service.name,
                command(self._cluster, service, self._data_dir),
                later_command=command(later, service, self._data_dir),
                log=self._data_dir / "logs" / f"{service.name}.log",
                env=environment(),
                probe=readiness(Peer(client, service.internal_url)),
                restart=self._cluster.settings.restart == "always",
                announce=self._announce,
            )
            for service in self._cluster.own
            if service.kind == kind
        ]


async def _raise_as_told(control: "asyncio.Task[None]") -> None:
    """The control room's listener has ended before it listened: say why."""
    try:
        await control
    except CannotListen as error:
        raise CannotDo(str(error)) from error


class _Ready(Message):
    status: str


def readiness(peer: Peer) -> Probe:
    """Asks a service's /readyz."""

    async def probe() -> str | None:
        try:
            await peer.call("/readyz", _Ready, timeout_s=PROBE_S)
        except PeerAnswered as error:
            return words(error)
        except PeerError:
            return "does not answer yet"
        return None

    return probe


def environment() -> dict[str, str]:
    """What the services' processes are given: this package, wherever it was found, and whose children they are."""
    root = str(Path(services.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return os.environ | {SUPERVISOR_VARIABLE: str(os.getpid()), "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def describe_hopeless(child: Child) -> str:
    """Why a bazaar cannot be started, with the last words of the service at fault."""
    lines = "\n".join(f"  {line}" for line in tail(child.log)[-LAST_LINES:])
    return f"{child.name} ends by itself again and again. Correct what its log {child.log} complains about:\n{lines}"


async def first_of(*works: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> tuple[int, Any] | None:
    """Do `works` side by side until one ends, cancel the others.

    Gives which one ended and its result; None when the time ran out.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return next(((number, task.result()) for number, task in enumerate(tasks) if task.done()), None)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
