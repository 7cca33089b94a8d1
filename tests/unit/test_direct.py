"""Direct routes: answered past the web framework, and still routes of the application."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.app import App, make_app
from services.common.direct import direct
from services.common.errors import NotFound, Unavailable
from services.common.metrics import Metrics


class Counting:
    """A door, and a middleware of FastAPI's own, that counts what passes."""

    def __init__(self, app: ASGIApp, passed: list[str]) -> None:
        self._app = app
        self._passed = passed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._passed.append(scope.get("path", scope["type"]))
        await self._app(scope, receive, send)


class Made:
    """An application with direct routes and a usual one."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.app: App = make_app("test", ready=lambda: None, metrics=self.metrics)
        self.through_door: list[str] = []
        self.through_framework: list[str] = []
        self.app.add_door(Counting, self.through_door)
        self.app.add_middleware(Counting, passed=self.through_framework)
        _add_routes(self.app)


def _add_routes(app: FastAPI) -> None:
    @direct(app, "GET", "/things/{name}")
    async def thing(request: Request) -> Response:
        if request.path_params["name"] == "crash":
            raise RuntimeError("secret words")
        if request.path_params["name"] == "none":
            raise NotFound("there is no such thing")
        if request.path_params["name"] == "later":
            raise Unavailable
        return Response(request.path_params["name"])

    @direct(app, "POST", "/things")
    async def make(request: Request) -> Response:
        return Response(await request.body(), 201)

    @app.get("/usual")
    async def usual() -> dict[str, str]:
        return {}


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
async def client(made: Made) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(made.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_framework_is_passed_by_and_the_doors_are_not_when_a_route_is_direct(
    made: Made, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/things/a%20b")
    assert (answer.status_code, answer.text) == (200, "a b")
    answer = await client.post("/things", content=b"a body")
    assert (answer.status_code, answer.text) == (201, "a body")
    assert made.through_framework == []
    assert (await client.get("/usual")).status_code == 200
    assert made.through_framework == ["/usual"]
    assert made.through_door == ["/things/a b", "/things", "/usual"]


@pytest.mark.parametrize("path", ["/things/", "/things/a/b", "/things/a/", "/thing", "/"])
async def test_404_when_the_path_is_only_like_that_of_a_direct_route(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == 404


@pytest.mark.parametrize(("method", "path", "allowed"), [("PUT", "/things/a", "GET"), ("GET", "/things", "POST")])
async def test_405_when_the_method_is_another(client: httpx.AsyncClient, method: str, path: str, allowed: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(("name", "status"), [("none", 404), ("later", 503), ("crash", 500)])
async def test_error_has_the_one_shape_when_a_direct_route_fails(
    client: httpx.AsyncClient, name: str, status: int
) -> None:
    answer = await client.get(f"/things/{name}")
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == status
    assert "secret" not in answer.text


async def test_requests_are_counted_by_their_template_when_a_route_is_direct(
    made: Made, client: httpx.AsyncClient
) -> None:
    for name in ("a", "b", "none"):
        await client.get(f"/things/{name}")
    labels = {"route": "/things/{name}", "method": "GET", "cache": "", "listener": "public"}
    counted = made.metrics.registry.get_sample_value
    assert counted("bazaar_request_seconds_count", {**labels, "status": "200"}) == 2
    assert counted("bazaar_request_seconds_count", {**labels, "status": "404"}) == 1


async def test_description_holds_direct_routes(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert set(paths["/things/{name}"]) == {"get"}
    assert set(paths["/things"]) == {"post"}
