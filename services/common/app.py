"""The FastAPI application that every service starts from: one error shape, health, metrics, docs without internet."""

import hmac
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send
from swagger_ui_bundle import swagger_ui_path

from services.common import tracing
from services.common.direct import Direct
from services.common.errors import BazaarError, Forbidden, MalformedBody, NotFound, Unavailable, error_body
from services.common.http import SECRET_HEADER
from services.common.limits import LimitBody, LimitConcurrency
from services.common.logs import get_log
from services.common.metrics import CONTENT_TYPE_LATEST, CountRequests, Metrics
from services.common.models import ErrorData
from services.common.strict import StrictRoute

log = get_log(__name__)

Ready = Callable[[], str | None]
"""Gives what is missing, in words, or None when the service can do its job now."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})


def error_response(error: BazaarError) -> Response:
    """The answer for `error`, in the one shape."""
    headers = None if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return Response(error_body(error.code, error.message), error.code, headers, "application/json")


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """For a route's OpenAPI: these statuses have the one error shape."""
    wait = {"Retry-After": {"description": "seconds to wait before the next try", "schema": {"type": "string"}}}
    return {code: {"model": ErrorData, **({"headers": wait} if code == 503 else {})} for code in codes}


def make_app(  # noqa: PLR0913 - all but one are given by name
    title: str,
    *,
    ready: Ready,
    metrics: Metrics,
    lifespan: Lifespan | None = None,
    secret: str | None = None,
    description: str = "",
    max_body_bytes: int = 65_536,
    max_requests: int = 2_000,
    with_docs: bool = True,
) -> "App":
    """An application without routes of its own. With a `secret` it is internal: no docs, and callers must know it."""
    assert secret != "", "with an empty secret, a request without one would be let in"
    app = App(
        title=title,
        description=description,
        lifespan=lifespan,
        openapi_url="/openapi.json" if secret is None and with_docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.router.route_class = StrictRoute
    metrics.missing = ready
    _add_error_handlers(app)
    _add_operations(app, ready, metrics)
    if secret is None and with_docs:
        _add_docs(app, title)
    if secret is not None:
        app.add_door(RequireSecret, secret)
    app.add_door(LimitBody, max_body_bytes)
    app.add_door(LimitConcurrency, max_requests)
    app.add_door(CountRequests, metrics, "public" if secret is None else "internal")
    if tracing.is_on():
        app.add_door(partial(tracing.Trace, begins=secret is None))
    return app


class App(FastAPI):
    """FastAPI behind doors: what every request passes first, whether its route is a direct one or not."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._doors: list[Callable[[ASGIApp], ASGIApp]] = []

    def add_door(self, door: Callable[..., ASGIApp], *arguments: object) -> None:
        """Put `door(app, *arguments)` outside of those that are there."""
        self._doors.append(lambda app: door(app, *arguments))

    def build_middleware_stack(self) -> ASGIApp:
        """The doors, the direct routes, then FastAPI as it is."""
        app: ASGIApp = Direct(super().build_middleware_stack(), self.routes, self.exception_handlers)
        for door in self._doors:
            app = door(app)
        return app


class RequireSecret:
    """Refuses every call without the internal secret, but for the paths that operators and Prometheus read."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret.encode("ascii")
        self._header = SECRET_HEADER.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what knows the secret."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            given = next((value for name, value in scope["headers"] if name == self._header), b"")
            if not hmac.compare_digest(given, self._secret):
                await error_response(Forbidden())(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _add_error_handlers(app: FastAPI) -> None:
    async def on_bazaar_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, BazaarError)
        return error_response(error)

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # Where and what is wrong, never what was sent: the input may be anything, also what cannot be encoded.
        problems = "; ".join(f"{_place(problem['loc'])}: {problem['msg']}" for problem in error.errors()[:3])
        return Response(error_body(422, problems), 422, media_type="application/json")

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = NotFound.message if error.status_code == NotFound.code else str(error.detail)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _methods_at(request) or headers.get("Allow", "")
        return Response(error_body(error.status_code, message), error.status_code, headers, "application/json")

    async def on_hang_up(_: Request, __: Exception) -> Response:
        # Its body stopped short, or was no HTTP: no fault of ours, so no line in the log, and nobody reads the answer.
        return error_response(MalformedBody())

    async def on_crash(_: Request, error: Exception) -> Response:
        log.error("a request crashed", exc_info=error)
        return error_response(BazaarError())

    app.add_exception_handler(BazaarError, on_bazaar_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(ClientDisconnect, on_hang_up)
    app.add_exception_handler(Exception, on_crash)


def _methods_at(request: Request) -> str:
    """Every method of the request's path: the router names those of the first route only."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in routes for method in getattr(route, "methods", ())}))


def _place(location: tuple[int | str, ...]) -> str:
    """Where a problem is. Names of fields that we do not know are the caller's own words, so they are left out."""
    known = {
        "body",
        "query",
        "path",
        "header",
        "name",
        "type",
        "quantity",
        "after",
        "limit",
        "number",
        "idempotency-key",
    }
    return ".".join(str(part) if str(part).lower() in known else "?" for part in location)


def _add_operations(app: FastAPI, ready: Ready, metrics: Metrics) -> None:
    @app.get("/livez", tags=["operations"])
    async def livez() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["operations"], responses=responses(503))
    async def readyz() -> dict[str, str]:
        """The service can do its job now; if not, the message says what is missing."""
        missing = ready()
        if missing is not None:
            raise Unavailable(missing)
        return {"status": "ready"}

    @app.get("/metrics", tags=["operations"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def read_metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _add_docs(app: FastAPI, title: str) -> None:
    """The docs page with its assets served from here: it works without internet."""
    app.mount("/docs/assets", StaticFiles(directory=swagger_ui_path), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=title,
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon-32x32.png",
        )
