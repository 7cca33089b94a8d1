"""The commands that talk to a running bazaar. Each gives its exit code, or raises CannotDo or UsageError."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel
from rich.console import Group
from rich.live import Live

from client import BazaarClient, BazaarClientError, TradeRefused
from client.console import make_console
from services.cluster.audit import verify_cluster
from services.cluster.console import show_verdict, status_page, watch_page
from services.cluster.control import ActionAnswer
from services.cluster.errors import CannotDo, UsageError
from services.cluster.folder import read_cluster
from services.cluster.links import Nothing, asking_supervisor, check_names, internal_client, not_running
from services.cluster.status import Snapshot, take_snapshot
from services.cluster.supervisor import Action
from services.cluster.topology import Cluster
from services.cluster.verify import Verdict
from services.common.http import Peer, PeerError
from services.common.models import Order, Type

CONTROL_S = 10.0
SNAPSHOT_S = 5.0
WATCH_EVERY_S = 0.5

T = TypeVar("T")


# What is known of the bazaar.


def show_status(data_dir: Path, *, as_json: bool, watch: bool) -> int:
    """Print how the bazaar is, once or until Ctrl-C."""
    cluster = read_cluster(data_dir)
    asyncio.run(_watch(data_dir, cluster) if watch else _show_once(data_dir, cluster, as_json=as_json))
    return 0


def act(data_dir: Path, name: str, action: Action) -> int:
    """Have the supervisor kill, pause, resume or start one service."""
    cluster = read_cluster(data_dir)
    check_names(cluster, name)
    answer = asyncio.run(_act(data_dir, cluster, name, action))
    make_console().print(f"{answer.name}: {answer.state}" + (f" (pid {answer.pid})" if answer.pid else ""))
    return 0


def verify(data_dir: Path, *, as_json: bool) -> int:
    """Judge the whole bazaar."""
    cluster = read_cluster(data_dir)
    verdict = asyncio.run(_verify(data_dir, cluster))
    if as_json:
        _print_json(verdict)
    else:
        show_verdict(verdict, make_console())
    return 0 if verdict.passed else 1


async def _show_once(data_dir: Path, cluster: Cluster, *, as_json: bool) -> None:
    async with internal_client(data_dir) as client:
        snapshot = await _snapshot(cluster, client)
    if as_json:
        _print_json(snapshot)
    else:
        console = make_console()
        console.print(Group(*status_page(snapshot, console.width)))


async def _watch(data_dir: Path, cluster: Cluster) -> None:
    console = make_console()
    async with internal_client(data_dir) as client:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                page = watch_page(await _snapshot(cluster, client), console.width)
                live.update(Group(*page), refresh=True)
                await asyncio.sleep(WATCH_EVERY_S)


async def _snapshot(cluster: Cluster, client: httpx.AsyncClient) -> Snapshot:
    """The supervisor's snapshot; without a supervisor, what can be found out from here."""
    try:
        return await Peer(client, cluster.control).call("/status", Snapshot, timeout_s=SNAPSHOT_S)
    except PeerError:
        return await take_snapshot(cluster, client)


async def _act(data_dir: Path, cluster: Cluster, name: str, action: Action) -> ActionAnswer:
    async with internal_client(data_dir) as client:
        control = Peer(client, cluster.control)
        with asking_supervisor(data_dir, cluster):
            return await control.call(f"/services/{name}/{action}", ActionAnswer, Nothing(), timeout_s=CONTROL_S)


async def _verify(data_dir: Path, cluster: Cluster) -> Verdict:
    async with internal_client(data_dir) as client:
        if all(service.head is None for service in (await _snapshot(cluster, client)).services):
            raise not_running(data_dir, cluster)
        return await verify_cluster(cluster, client)


# What a customer does.


def public_urls(data_dir: Path, urls: Sequence[str]) -> list[str]:
    """The front-ends' addresses: those given, else those of the bazaar in the data folder."""
    return list(urls) or [service.url for service in read_cluster(data_dir).of("front-end")]


def show_stock(urls: Sequence[str], name: str, *, as_json: bool) -> int:
    """Look up one stock."""
    stock = _call(urls, lambda bazaar: bazaar.look_up(name))
    if as_json:
        members = {"name": stock.name, "price": float(stock.price), "quantity": stock.quantity, "cache": stock.cache}
        _print_members(members)
    else:
        make_console().print(f"{stock.name}: price {stock.price:.2f}, {stock.quantity} left (cache {stock.cache})")
    return 0


def trade(urls: Sequence[str], type: Type, name: str, quantity: int, *, as_json: bool) -> int:  # noqa: A002
    """Buy or sell once."""
    result = _call(urls, lambda bazaar: bazaar.trade(type, name, quantity))
    if isinstance(result, TradeRefused):
        raise CannotDo(f"{name}: not enough stock; see how much there is: bazaar stock {name}")
    _show_order(result, as_json=as_json)
    return 0


def show_order(urls: Sequence[str], number: int, *, as_json: bool) -> int:
    """Look up one order."""
    order = _call(urls, lambda bazaar: bazaar.order(number))
    if order is None:
        raise CannotDo(f"there is no order {number}")
    _show_order(order, as_json=as_json)
    return 0


def _show_order(order: Order, *, as_json: bool) -> None:
    if as_json:
        _print_json(order)
    else:
        make_console().print(f"order {order.number}: {order.type} {order.quantity} {order.name}")


def _call(urls: Sequence[str], work: Callable[[BazaarClient], Awaitable[T]]) -> T:
    """One call through the client library, its errors in words."""

    async def call() -> T:
        async with BazaarClient(*urls) as bazaar:
            return await work(bazaar)

    try:
        return asyncio.run(call())
    except ValueError as error:
        raise UsageError(str(error)) from error
    except BazaarClientError as error:
        raise CannotDo(f"{error} [{', '.join(urls)}]") from error


def _print_json(value: BaseModel) -> None:
    sys.stdout.write(value.model_dump_json(indent=2) + "\n")


def _print_members(members: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(members, indent=2) + "\n")
