"""Routes that are answered past the web framework: those on whose way every microsecond counts.

A direct route is declared on the application like any other, so its description knows it and other methods of its path
are refused. But its endpoint takes the request and gives the response, and is called before FastAPI's own middlewares,
routing, dependencies and serialisation, which cost many times what such an endpoint does (docs/performance.md).
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]
Handlers: TypeAlias = Mapping[Any, Callable[..., Any]]
"""What answers an exception, by its class: `FastAPI.exception_handlers`."""


class DirectRoute(APIRoute):
    """A route whose endpoint takes the request and gives the response. Only the end of its path may be a parameter."""

    def get_route_handler(self) -> Endpoint:
        """The endpoint itself."""
        endpoint: Endpoint = self.endpoint
        return endpoint


def direct(app: FastAPI, method: str, path: str, **described: Any) -> Callable[[Endpoint], Endpoint]:
    """Decorates the endpoint of a direct route; `described` is for the description, as with FastAPI's decorators."""

    def declare(endpoint: Endpoint) -> Endpoint:
        app.router.add_api_route(path, endpoint, methods=[method], route_class_override=DirectRoute, **described)
        return endpoint

    return declare


class Direct:
    """Answers direct routes and passes everything else on. Errors are answered by the application's own handlers."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], handlers: Handlers) -> None:
        self._app = app
        self._handlers = handlers
        self._exact: dict[tuple[str, str], DirectRoute] = {}
        self._last: dict[tuple[str, str], tuple[DirectRoute, str]] = {}  # by what stands before the parameter
        for route in routes:
            if isinstance(route, DirectRoute):
                self._add(route)

    def _add(self, route: DirectRoute) -> None:
        before, is_parameter, name = route.path.partition("{")
        assert before.endswith("/") or not is_parameter, "a parameter is a whole part of a path"
        assert name.find("}") == len(name) - 1, "and the last one"
        for method in route.methods or ():
            if is_parameter:
                self._last[method, before] = route, name[:-1]
            else:
                self._exact[method, route.path] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request if its route is a direct one."""
        route = self._route(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive)
        try:
            response = await route.endpoint(request)
        except Exception as error:  # noqa: BLE001 - there is a handler for every kind
            response = await self._handle(request, error)
        await response(scope, receive, send)

    def _route(self, scope: Scope) -> DirectRoute | None:
        method, path = scope["method"], scope["path"]
        route = self._exact.get((method, path))
        if route is None:
            before, slash, last = path.rpartition("/")
            found = self._last.get((method, before + slash))
            if found is None or not last:
                return None
            route, name = found
            scope["path_params"] = {name: last}
        return route

    async def _handle(self, request: Request, error: Exception) -> Response:
        """The answer of the nearest handler; one that raises leaves it to the next, of a more general kind."""
        for kind in type(error).__mro__:
            if kind in self._handlers:
                with suppress(Exception):
                    response: Response = await self._handlers[kind](request, error)
                    return response
        raise error
