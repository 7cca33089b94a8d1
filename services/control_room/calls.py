"""The customer's form: makes one real request to a front-end, and shows it and the answer as they were on the wire."""

import asyncio
import json
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

import httpx
from pydantic import Field

from services.common.errors import NotFound
from services.common.models import KEY_PATTERN, Input, Message

CALL_S = 12.0  # a front-end answers a trade within ten
MOST = 10**15  # what is too much is told by the front-end, and that is worth a look
SHOWN_BYTES = 20_000

Text = Annotated[str, Field(max_length=64)]
Number = Annotated[int, Field(ge=-MOST, le=MOST)]


class CallRequest(Input):
    """What a customer wants; `key` is the idempotency key of a trade, none is made here."""

    front_end: Text = "front-end-1"
    what: Literal["look_up", "buy", "sell", "order"]
    name: Text = ""
    quantity: Number = 1
    number: Number = 1
    key: Annotated[str, Field(pattern=KEY_PATTERN)] | None = None


class CallAnswer(Message):
    """Both sides of the call; `status` is None when there was no answer, which `answer` then says."""

    request: str
    answer: str
    status: int | None
    ms: float


class Calls:
    """Makes calls to the front-ends' public addresses, by name. `client` knows no secret."""

    def __init__(self, urls: Mapping[str, str], client: httpx.AsyncClient) -> None:
        self._urls = urls
        self._client = client

    async def make(self, wanted: CallRequest) -> CallAnswer:
        """One request. Raises NotFound for a front-end that there is not."""
        url = self._urls.get(wanted.front_end)
        if url is None:
            raise NotFound(f"there is no such front-end; there are {', '.join(self._urls)}")
        request = make_request(url, wanted)
        began = time.monotonic()
        try:
            async with asyncio.timeout(CALL_S):
                response = await self._client.send(request)
        except TimeoutError:
            status, answer = None, f"no answer within {CALL_S:.0f} s"
        except (httpx.HTTPError, OSError) as error:
            status, answer = None, f"no answer: {type(error).__name__} {error}"
        else:
            status, answer = response.status_code, show_response(response)
        return CallAnswer(
            request=show_request(request), answer=answer, status=status, ms=round(1_000 * (time.monotonic() - began), 1)
        )


def make_request(url: str, wanted: CallRequest) -> httpx.Request:
    """The request that a customer would send."""
    if wanted.what == "look_up":
        return httpx.Request("GET", f"{url}/stocks/{quote(wanted.name, safe='')}")
    if wanted.what == "order":
        return httpx.Request("GET", f"{url}/orders/{wanted.number}")
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": wanted.key} if wanted.key else {})
    body = json.dumps({"name": wanted.name, "type": wanted.what, "quantity": wanted.quantity})
    return httpx.Request("POST", f"{url}/orders", headers=headers, content=body.encode())


def show_request(request: httpx.Request) -> str:
    """Its text on the wire."""
    path = urlsplit(str(request.url)).path
    lines = [f"{request.method} {path} HTTP/1.1", *_headers(request.headers)]
    return "\n".join([*lines, "", request.content.decode()]).rstrip()


def show_response(response: httpx.Response) -> str:
    """Its text on the wire, as far as a person reads."""
    try:
        phrase = HTTPStatus(response.status_code).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {response.status_code} {phrase}".rstrip(), *_headers(response.headers)]
    return "\n".join([*lines, "", response.content[:SHOWN_BYTES].decode("utf-8", "replace")]).rstrip()


def _headers(headers: httpx.Headers) -> list[str]:
    return [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in headers.raw]
