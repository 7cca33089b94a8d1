"""Calls from one service to another: one client factory, one kind of call, three ways to fail.

PeerError
├── PeerRefused    definite: no connection came about, so nothing was executed
│   └── PeerGone     and the reason is that nobody listens there
├── PeerAnswered   the peer answered with an error; its status says what happened
└── PeerLost       indefinite: the connection broke
    └── PeerTimeout  indefinite: no answer in time; the peer may be slow or paused
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from services.common.models import ErrorData
from services.common.runtime import Runtime
from services.common.transport import NotConnected

SECRET_HEADER = "x-bazaar-secret"  # noqa: S105 - the name of the header, not a secret

AnswerT = TypeVar("AnswerT", bound=BaseModel)


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
        self._direct = transport

    async def send(self, request: httpx.Request, *, stream: bool = False, **_: object) -> httpx.Response:
        """Hand the request to the transport, and read the answer."""
        response = await self._direct.handle_async_request(request)
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


class Peer:
    """Another service, by its address."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self.url = url
        self._client = client
        self._headers = [*client.headers.raw, (b"content-type", b"application/json")]

    async def call(
        self, path: str, answer: type[AnswerT], message: BaseModel | None = None, *, timeout_s: float
    ) -> AnswerT:
        """POST `message` (GET when there is none) and read the answer.

        Raises PeerRefused (PeerGone), PeerLost (PeerTimeout) or PeerAnswered; see the module.
        """
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._send(path, message)
        except NotConnected as error:
            raise PeerRefused(f"no connection to {self.url} came about") from error
        except httpx.ConnectError as error:
            raise PeerGone(f"{self.url} refused the connection") from error
        except TimeoutError as error:  # before OSError, which it is a kind of
            raise PeerTimeout(f"{self.url} did not answer within {timeout_s:.2f} s") from error
        except (httpx.RequestError, httpx.InvalidURL, OSError) as error:
            raise PeerLost(f"the connection to {self.url} broke") from error
        if response.status_code != httpx.codes.OK:
            raise PeerAnswered(response.status_code, _message_of(response))
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise PeerLost(f"{self.url} gave an answer that is none of ours") from error

    async def _send(self, path: str, message: BaseModel | None) -> httpx.Response:
        url = _parsed(self.url + path)
        if message is None:
            request = httpx.Request("GET", url, headers=self._headers)
        else:
            request = httpx.Request("POST", url, headers=self._headers, content=message.model_dump_json().encode())
        return await self._client.send(request)


@lru_cache(maxsize=1_024)
def _parsed(url: str) -> httpx.URL:
    """Addresses are few and parsing them is slow."""
    return httpx.URL(url)


def _message_of(response: httpx.Response) -> str:
    try:
        return ErrorData.model_validate_json(response.content).error.message
    except ValidationError:
        return "an error without a message"
