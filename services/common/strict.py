"""Reading JSON bodies without mercy, and paths and queries likewise.

FastAPI reads a body with `json.loads`, which takes UTF-16, a doubled key (the last wins), NaN and Infinity. Here a
body is UTF-8, each key stands once, and a number is a number. What is inside is then judged by strict pydantic
models.
"""

import json
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NoReturn, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from services.common.errors import MalformedBody, WrongMediaType
from services.common.wire import body_of

T = TypeVar("T")

JSON = b"application/json"


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedBody("a key stands twice in the body")
    return members


def _no_constant(_: str) -> NoReturn:
    raise MalformedBody("the body holds a number that JSON does not have")


_decode = json.JSONDecoder(object_pairs_hook=_no_doubles, parse_constant=_no_constant).decode


def parse_json(body: bytes) -> Any:
    """The value of a JSON body. Raises MalformedBody for anything else, however odd."""
    try:
        return _decode(body.decode("utf-8"))
    except (ValueError, RecursionError):  # not UTF-8, not JSON, a number of 5,000 digits; 20,000 brackets
        raise MalformedBody from None


class StrictRequest(Request):
    """A request whose body is read by `parse_json`, once."""

    async def json(self) -> Any:
        """The body's value. Raises MalformedBody."""
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json


class StrictRoute(APIRoute):
    """A route whose JSON bodies are read by `StrictRequest`, after a look at the media type."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, given a StrictRequest."""
        handler = super().get_route_handler()
        takes_body = self.body_field is not None

        async def handle(request: Request) -> Response:
            strict_request = StrictRequest(request.scope, request.receive)
            if takes_body:
                _check_media_type(request.scope["headers"])
                if await strict_request.body():
                    await strict_request.json()  # here: within FastAPI's handler, what it raises loses its words
            return await handler(strict_request)

        return handle


async def read_body(request: Request, kind: TypeAdapter[T]) -> T:
    """The body of a direct route's request, judged as FastAPI would. Raises what a StrictRoute raises."""
    _check_media_type(request.scope["headers"])
    body = await body_of(request)
    if not body:
        raise RequestValidationError([{"loc": ("body",), "msg": "Field required"}])
    return read_value(parse_json(body), kind, "body")


def read_value(value: object, kind: TypeAdapter[T], *place: str) -> T:
    """A part of a direct route's request, found at `place`. Raises RequestValidationError."""
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**each, "loc": (*place, *each["loc"])} for each in problems]) from None


def _check_media_type(headers: Iterable[tuple[bytes, bytes]]) -> None:
    told = b""
    for name, value in headers:
        if name == b"content-type":
            told = value
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise WrongMediaType
    if told == JSON:
        return
    media_type, _, parameter = told.partition(b";")
    if media_type.strip().lower() != JSON:
        raise WrongMediaType
    if parameter.strip() and parameter.strip().lower().replace(b'"', b"") != b"charset=utf-8":
        raise WrongMediaType("the body must be in UTF-8")
