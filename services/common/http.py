"""Calls from one service to another: one client factory, one kind of call, three ways to fail.

PeerError
├── PeerRefused    definite: no connection came about, so nothing was executed
│   └── PeerGone     and the reason is that nobody listens there
├── PeerAnswered   the peer answered with an error; its status says what happened
└── PeerLost       indefinite: the connection broke
    └── PeerTimeout  indefinite: no answer in time; the peer may be slow or paused
        └── PeerSilent  and it did not answer a simple question either
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from multidict import CIMultiDict
from pydantic import BaseModel, ValidationError

from services.common.models import ErrorData
from services.common.request_id import carried
from services.common.runtime import Runtime
from services.common.silence import unless_silent
from services.common.tracing import calling, injected
from services.common.transport import NotConnected, Reply, Transport

SECRET_HEADER = "x-bazaar-secret"  # noqa: S105 - the name of the header, not a secret

AnswerT = TypeVar("AnswerT", bound=BaseModel)
T = TypeVar("T")


class PeerError(Exception):
    """A call to another service did not end with an answer of the expected kind."""


class PeerRefused(PeerError):
    """Definite: no connection came about, so the peer did nothing. It may be alive, and the fault be ours."""


class PeerGone(PeerRefused):
    """Definite: the connection was refused, so nobody listens there."""


class PeerLost(PeerError):
    """Indefinite: the connection broke or the time ran out; the peer may have done it."""


class PeerTimeout(PeerLost):
    """Indefinite: the time ran out while the connection stood."""


class PeerSilent(PeerTimeout):
    """Indefinite: no answer for a while, and none to a question that can be answered at once."""


class PeerAnswered(PeerError):
    """The peer answered with the error `status`; a 503 is definite."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"{status}: {message}")


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine, where a refused connection proves that no process listens."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Client(httpx.AsyncClient):
    """httpx's client without cookies, redirects, authentication and hooks, which cost more than the call itself."""

    def __init__(self, transport: httpx.AsyncBaseTransport, headers: Mapping[str, str] | None) -> None:
        super().__init__(transport=transport, headers=headers, timeout=None)
        self.direct = transport

    async def send(self, request: httpx.Request, *, stream: bool = False, **_: object) -> httpx.Response:
        """Hand the request to the transport, and read the answer."""
        response = await self.direct.handle_async_request(request)
        response.request = request
        if not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response


def make_client(runtime: Runtime, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """The one place where a client is made. Time limits are the caller's (`Peer.call`), not the client's."""
    return _Client(runtime.transport(), headers)


Exchange = Callable[[str, str, Mapping[str, str], bytes | None], Awaitable[Reply]]
"""Sends a method, an address, headers and a body; see `Transport.exchange`."""


def _exchange_of(client: httpx.AsyncClient) -> Exchange:
    """The short way of the real transport; any other one, a simulation's say, is spoken to in httpx's requests."""
    if isinstance(client, _Client) and isinstance(client.direct, Transport):
        return client.direct.exchange

    async def exchange(method: str, url: str, headers: Mapping[str, str], content: bytes | None) -> Reply:
        response = await client.send(httpx.Request(method, url, headers=headers, content=content))
        return Reply(response.status_code, tuple(response.headers.raw), response.content)

    return exchange


class Peer:
    """Another service, by its address."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self.url = url
        self._exchange = _exchange_of(client)
        own = {SECRET_HEADER: client.headers[SECRET_HEADER]} if SECRET_HEADER in client.headers else {}
        self._headers = CIMultiDict({"Content-Type": "application/json", **own})

    async def call(
        self, path: str, answer: type[AnswerT], message: BaseModel | None = None, *, timeout_s: float
    ) -> AnswerT:
        """POST `message` (GET when there is none) and read the answer.

        Raises PeerRefused (PeerGone), PeerLost (PeerTimeout) or PeerAnswered; see the module.
        """
        method, content = ("GET", None) if message is None else ("POST", message.model_dump_json().encode())
        with calling(method, self.url + path):
            reply = await self._reply(method, path, content, timeout_s)
        if reply.status != httpx.codes.OK:
            raise PeerAnswered(reply.status, _message_of(reply.content))
        try:
            return answer.model_validate_json(reply.content)
        except ValidationError as error:
            raise PeerLost(f"{self.url} gave an answer that is none of ours") from error

    async def ask(
        self, path: str, answer: type[AnswerT], message: BaseModel | None = None, *, timeout_s: float
    ) -> AnswerT:
        """A call that changes nothing, so that it may be made to several at once; see `services.common.several`."""
        return await self.call(path, answer, message, timeout_s=timeout_s)

    async def unless_silent(self, work: Coroutine[Any, Any, T], path: str, silent_s: float) -> T:
        """The result of a call of this peer. Raises PeerSilent once a GET of `path` is not answered within `silent_s`.

        It is asked as often as the call is silent for so long; any answer will do.
        """
        try:
            return await unless_silent(work, partial(self._answers, path, silent_s), silent_s)
        except TimeoutError as error:
            raise PeerSilent(f"{self.url} is silent") from error

    async def _answers(self, path: str, timeout_s: float) -> bool:
        try:
            _ = await self._reply("GET", path, None, timeout_s)
        except PeerError:
            return False
        return True

    async def _reply(self, method: str, path: str, content: bytes | None, timeout_s: float) -> Reply:
        """The answer, whatever it is."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._exchange(method, self.url + path, self._headers_now(), content)
        except NotConnected as error:
            raise PeerRefused(f"no connection to {self.url} came about") from error
        except httpx.ConnectError as error:
            raise PeerGone(f"{self.url} refused the connection") from error
        except TimeoutError as error:  # before OSError, which it is a kind of
            raise PeerTimeout(f"{self.url} did not answer within {timeout_s:.2f} s") from error
        except (httpx.RequestError, httpx.InvalidURL, OSError) as error:
            raise PeerLost(f"the connection to {self.url} broke") from error

    def _headers_now(self) -> Mapping[str, str]:
        """Our own headers, and those that tell which request this call is made for."""
        for_request = carried()
        if not for_request:
            return self._headers
        headers = self._headers.copy()
        headers.update(for_request)
        headers.update(injected())
        return headers


def _message_of(content: bytes) -> str:
    try:
        return ErrorData.model_validate_json(content).error.message
    except ValidationError:
        return "an error without a message"
