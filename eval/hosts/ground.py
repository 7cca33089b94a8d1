"""What the hosts are made of: a network namespace for each of them, or only ports of this machine.

With namespaces the whole run is in a network of its own, which nobody else sees: the process that breaks things leaves
the machine's network, lays a switch (a bridge), and plugs a host into it for each namespace. Every namespace belongs to
a process and nothing has a name outside, so the kernel takes all of it away when the run is over, however it ends.

    this process, with the clients        host-1      host-2      host-3
              |                             |           |           |
      switch -+-----------------------------+-----------+-----------+

A cut is silent and can go one way: in the neighbour table of whoever must not reach a host, that host gets a hardware
address that nobody has, so what is sent there is lost on the switch, and nobody is told.
"""

import asyncio
import ctypes
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Protocol, Self

from eval.chaos.scenarios import Direction
from eval.hosts.layout import HOSTS, PORTS_A_HOST
from eval.processes import free_block
from services.cluster.errors import CannotDo
from services.cluster.topology import HOST as LOOPBACK

CLIENTS = 0
"""The place of this process and its clients, beside the hosts 1, 2, 3."""
PLACES = (CLIENTS, *HOSTS)
NO_NAMESPACES = "--no-namespaces does without them: kills and pauses only"

_CLONE_NEWNET = 0x40000000  # see unshare(2)
_FIRST_PORT = 8000
_NOBODY = "02:00:00:00:00:ff"


class Ground(Protocol):
    """Where the processes of a run live. addresses: of the hosts; first_port: see `Layout`."""

    addresses: Sequence[str]
    first_port: int

    async def __aenter__(self) -> Self:
        """Lay it out. Raises CannotDo."""

    async def __aexit__(self, *_: object) -> None:
        """Take it away, once no process is on it."""

    def prefix(self, host: int) -> Sequence[str]:
        """What a command is put behind to run on a host; it execs."""

    async def cut(self, host: int, others: Collection[int], direction: Direction) -> None:
        """Have what the host sends to these places be lost (out), what those send to it (in), or both."""

    async def heal(self) -> None:
        """Everybody reaches everybody again."""


class OnePlace:
    """All on this machine's own loopback address; nothing can be cut."""

    def __init__(self) -> None:
        self.addresses: Sequence[str] = [LOOPBACK for _ in HOSTS]
        self.first_port = free_block()

    async def __aenter__(self) -> Self:
        assert PORTS_A_HOST * len(HOSTS) <= 30, "a free block has 30 ports"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing was laid out."""

    def prefix(self, host: int) -> Sequence[str]:
        """See `Ground.prefix`."""
        return ()

    async def cut(self, host: int, others: Collection[int], direction: Direction) -> None:
        """See `Ground.cut`."""
        raise AssertionError(f"there is no network between the hosts: {host} {others} {direction}")

    async def heal(self) -> None:
        """See `Ground.heal`."""


class Namespaces:
    """See the module."""

    def __init__(self) -> None:
        self.addresses: Sequence[str] = [_address(host) for host in HOSTS]
        self.first_port = _FIRST_PORT
        self._holders: dict[int, asyncio.subprocess.Process] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        check_namespaces()
        leave_network()
        try:
            await self._lay()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _lay(self) -> None:
        await self._ip(
            CLIENTS,
            "link set lo up",
            "link add switch type bridge",
            f"link set switch address {_hardware(CLIENTS)}",
            f"addr add {_address(CLIENTS)}/24 dev switch",
            "link set switch up",
        )
        for host in HOSTS:
            holder = self._holders[host] = await self._stack.enter_async_context(_Holder())
            await self._ip(
                CLIENTS,
                f"link add port-{host} type veth peer name eth0 address {_hardware(host)} netns {holder.pid}",
                f"link set port-{host} master switch up",
            )
            await self._ip(host, "link set lo up", f"addr add {_address(host)}/24 dev eth0", "link set eth0 up")
        await self.heal()

    def prefix(self, host: int) -> Sequence[str]:
        """See `Ground.prefix`."""
        return (_tool("nsenter"), f"--net=/proc/{self._holders[host].pid}/ns/net")

    async def cut(self, host: int, others: Collection[int], direction: Direction) -> None:
        """See `Ground.cut`."""
        pairs = lost_pairs(host, others, direction)
        for sender in {sender for sender, _ in pairs}:
            await self._ip(sender, *(_neighbour(sender, to, _NOBODY) for by, to in pairs if by == sender))

    async def heal(self) -> None:
        """See `Ground.heal`."""
        for place in PLACES:
            await self._ip(place, *(_neighbour(place, to, _hardware(to)) for to in PLACES if to != place))

    async def _ip(self, place: int, *lines: str) -> None:
        """Run lines of `ip` in a place. Raises CannotDo."""
        prefix = () if place == CLIENTS else self.prefix(place)
        await _run([*prefix, _tool("ip"), "-batch", "-"], lines)


def lost_pairs(host: int, others: Iterable[int], direction: Direction) -> list[tuple[int, int]]:
    """Who sends in vain to whom."""
    ways = [pair for other in others for pair in ((host, other), (other, host))]
    return [(by, to) for by, to in ways if direction == "both" or (by == host) == (direction == "out")]


def check_namespaces() -> None:
    """Raise CannotDo where there can be no network namespaces."""
    if sys.platform != "linux":
        raise CannotDo(f"network namespaces are Linux's; {NO_NAMESPACES}")
    if os.geteuid() != 0:
        raise CannotDo(f"network namespaces need root: sudo, or unshare --user --map-root-user; {NO_NAMESPACES}")
    for name in ("ip", "nsenter", "unshare"):
        _tool(name)


def leave_network() -> None:
    """Be in a new network, of which nothing is there yet. Raises CannotDo when the kernel forbids it."""
    # For this thread and all that it starts from now on: so before any other thread uses the network.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise CannotDo(f"no network namespace: {os.strerror(ctypes.get_errno())}; {NO_NAMESPACES}")


class _Holder:
    """A process in a network of its own, which waits for our end."""

    async def __aenter__(self) -> asyncio.subprocess.Process:
        self._process = process = await asyncio.create_subprocess_exec(
            *(_tool("unshare"), "--net", "sh", "-c", "echo; exec cat"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise CannotDo(f"no network namespace for a host; {NO_NAMESPACES}")
        return process

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


async def _run(command: Sequence[str], lines: Iterable[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    output, _ = await process.communicate("".join(f"{line}\n" for line in lines).encode())
    if process.returncode != 0:
        raise CannotDo(f"{' '.join(command)}: {output.decode(errors='replace').strip()}; {NO_NAMESPACES}")


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise CannotDo(f"{name} is not installed (Debian: iproute2, util-linux); {NO_NAMESPACES}")
    return path


def _address(place: int) -> str:
    return f"10.7.0.{place or 254}"


def _hardware(place: int) -> str:
    return f"02:00:00:00:00:{place or 254:02x}"


def _neighbour(place: int, to: int, hardware: str) -> str:
    device = "switch" if place == CLIENTS else "eth0"
    return f"neigh replace {_address(to)} lladdr {hardware} dev {device} nud permanent"
