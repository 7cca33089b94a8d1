"""What the world may see and do: the docs without internet, nothing of the inside, and no harm."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

import psutil
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from services.catalog.routes import add_routes as add_catalog_routes
from services.cluster.control import create_control
from services.common.http import SECRET_HEADER
from services.front_end.internal import add_internal_routes
from services.order.routes import add_routes as add_order_routes
from tests.support.system_bazaar import Bazaar
from tests.support.system_hostile import UNFINISHED, every_bad_input, fault, send

PUBLIC = {
    ("GET", "/stocks"),
    ("GET", "/stocks/{name}"),
    ("GET", "/orders"),
    ("GET", "/orders/{number}"),
    ("GET", "/leader"),
}
OPEN = {"/livez", "/readyz", "/metrics"}

Call = tuple[str, str]


def calls(routes: list[BaseRoute]) -> Iterator[Call]:
    """Method and path of every internal call."""
    for route in routes:
        if isinstance(route, APIRoute) and route.path not in OPEN:
            yield from ((method, route.path) for method in route.methods or ())


def internal_calls() -> dict[str, list[Call]]:
    """Those of each kind of listener, from the routes themselves, so that none can be forgotten here."""
    nobody = cast("Any", SimpleNamespace(cache=None))
    front_end, catalog, order = FastAPI(), FastAPI(), FastAPI()
    add_internal_routes(front_end, nobody)
    add_catalog_routes(catalog, nobody)
    add_order_routes(order, nobody)
    control = create_control(nobody, nobody, "x")
    return {
        "catalog": list(calls(catalog.routes)),
        "order": list(calls(order.routes)),
        "front-end": list(calls(front_end.routes)),
        "control": list(calls(control.routes)),
    }


def concrete(path: str) -> str:
    """A path with something in the place of each parameter."""
    filled = path.replace("{number}", "1").replace("{action}", "kill")
    return filled.replace("/services/{name}", "/services/order-1").replace("{name}", "IBM")


def secret_of(bazaar: Bazaar) -> str:
    """The secret of the data folder."""
    return (bazaar.cluster.data_dir / "secret").read_text().strip()


async def test_internal_calls_are_refused_when_the_secret_is_missing_or_wrong(bazaar: Bazaar) -> None:
    topology = bazaar.cluster.topology
    urls = {kind: [each.internal_url for each in topology.of(kind)] for kind in ("catalog", "order", "front-end")}
    urls["control"] = [topology.control]
    secret = secret_of(bazaar)
    for kind, listed in internal_calls().items():
        assert len(listed) >= 2
        for method, path in listed:
            for url in urls[kind]:
                for headers in ({}, {SECRET_HEADER: ""}, {SECRET_HEADER: secret[:-1]}, {SECRET_HEADER: secret + "x"}):
                    answer = await bazaar.http.request(method, url + concrete(path), headers=headers)
                    assert answer.status_code == 403, (method, url, path, headers)
                    assert answer.json()["error"]["code"] == 403


async def test_internal_calls_do_not_exist_when_they_are_made_on_the_public_port(bazaar: Bazaar) -> None:
    headers = {SECRET_HEADER: secret_of(bazaar)}
    wanted = {call for listed in internal_calls().values() for call in listed} - PUBLIC
    assert len(wanted) > 15
    for method, path in wanted:
        answer = await bazaar.http.request(method, bazaar.url + concrete(path), headers=headers, json={})
        if (method, path) in {("POST", "/leader"), ("POST", "/cache")}:  # the public ones can only be read
            assert answer.status_code == 405
        else:
            assert answer.status_code == 404, (method, path)


async def test_secret_is_nowhere_but_in_its_file_when_services_run_and_complain(bazaar: Bazaar) -> None:
    secret = secret_of(bazaar)
    assert (bazaar.cluster.data_dir / "secret").stat().st_mode & 0o777 == 0o600
    for url in (bazaar.url, bazaar.cluster.topology.catalog.url):
        for path in ("/stocks/IBM", f"/{secret}", f"/stocks?after={secret}"):
            answer = await bazaar.http.get(url + path, headers={SECRET_HEADER: secret})
            assert secret not in answer.text
    for service in (await bazaar.cluster.status()).services:
        process = psutil.Process(service.pid)
        assert secret not in " ".join([*process.cmdline(), *process.environ().values()])
    # `Bazaar.check` reads the logs after every test.


async def test_docs_need_no_other_host_when_they_are_opened(bazaar: Bazaar) -> None:
    page = await bazaar.http.get(f"{bazaar.url}/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    links = re.findall(r"""(?:src|href)="([^"]+)"|\burl: '([^']+)'""", page.text)
    paths = [first or second for first, second in links]
    assert len(paths) == 4, "script, style, icon and the API's description"
    for path in paths:
        assert urlsplit(path).netloc == ""
        part = await bazaar.http.get(urljoin(str(page.url), path))
        assert part.status_code == 200, path
        if path.endswith(".css"):
            assert all(link.startswith("data:") for link in re.findall(r"url\(['\"]?([^)]{1,60})", part.text))
        if path.endswith(".json"):
            assert "://" not in part.text
            assert "/orders" in part.json()["paths"]


async def test_customers_notice_nothing_when_somebody_sends_hundreds_of_bad_requests(bazaar: Bazaar) -> None:
    bads = every_bad_input()
    before = len(await bazaar.log())
    async with bazaar.trading() as traders, AsyncExitStack() as stack:
        for unfinished in UNFINISHED:
            _, writer = await asyncio.open_connection(urlsplit(bazaar.url).hostname, urlsplit(bazaar.url).port)
            stack.callback(writer.close)
            writer.write(unfinished)
        urls = bazaar.cluster.urls
        for start in range(0, len(bads), 10):
            ten = bads[start : start + 10]
            answers = await asyncio.gather(*(send(urls[n % len(urls)], bad.request) for n, bad in enumerate(ten)))
            for bad, answer in zip(ten, answers, strict=True):
                assert fault(bad, answer) is None, (fault(bad, answer), answer, bad.request[:300])
        await traders.more(10)
    known = {told.trade.key for told in bazaar.ledger.told}
    assert all(row.key in known for row in (await bazaar.log())[before:])
