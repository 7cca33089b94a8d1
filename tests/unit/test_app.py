"""What every service starts from: one error shape, the internal secret, health, docs without internet."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Header, Path, Query
from structlog.testing import capture_logs

from services.common.app import make_app
from services.common.errors import NotEnoughStock, OutcomeUnknown, Unavailable
from services.common.http import SECRET_HEADER
from services.common.metrics import Metrics
from services.common.models import TradeRequest
from tests.support.catalog_world import turns

SECRET = "a-secret-of-the-tests"
GOOD = b'{"name": "GameStart", "type": "buy", "quantity": 3}'
JSON = {"content-type": "application/json"}
MARK = "MARK1234"
"""Stands in every bad input, and must not come back."""


class Service:
    """An application with a few routes. `missing` is what is missing before it is ready."""

    def __init__(self, secret: str | None = None, **options: Any) -> None:
        self.missing: str | None = None
        self.trades: list[TradeRequest] = []
        self.app: FastAPI = make_app(
            "bazaar: test", ready=lambda: self.missing, metrics=Metrics(), secret=secret, **options
        )
        self.before_answer = asyncio.Event()
        self.before_answer.set()
        self._add_routes()

    def _add_routes(self) -> None:
        @self.app.post("/orders")
        async def trade(
            trade: TradeRequest, idempotency_key: Annotated[str | None, Header(max_length=64)] = None
        ) -> dict[str, Any]:
            self.trades.append(trade)
            return {"key": idempotency_key}

        @self.app.get("/orders")
        async def orders(after: Annotated[int, Query(ge=0)] = 0) -> dict[str, int]:
            return {"after": after}

        @self.app.get("/orders/{number}")
        async def order(number: Annotated[int, Path(ge=1, le=2**63 - 1)]) -> dict[str, int]:
            return {"number": number}

        @self.app.delete("/orders/{number}")
        async def drop(number: int) -> dict[str, int]:
            return {"number": number}

        @self.app.get("/fails/{how}")
        async def fail(how: str) -> dict[str, str]:
            if how == "crash":
                raise RuntimeError(f"secret detail {MARK}")
            if how == "bad-answer":
                return {"how": object()}  # type: ignore[dict-item]
            raise {"refused": NotEnoughStock, "later": Unavailable, "unknown": OutcomeUnknown}[how]

        @self.app.get("/waits")
        async def wait() -> dict[str, str]:
            await self.before_answer.wait()
            return {}

    @asynccontextmanager
    async def client(self, headers: dict[str, str] | None = None) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            yield client


@pytest.fixture(scope="module")
def shared() -> Service:
    return Service()


@pytest.fixture
def service(shared: Service) -> Service:
    """The same one for all tests, as new: to make one is slower than most of them."""
    shared.trades.clear()
    shared.missing = None
    return shared


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as made:
        yield made


def message_of(response: httpx.Response, status: int) -> str:
    """The message of an error, which must have the one shape and hold nothing of the input."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = json.loads(response.content)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["code"] == status
    message = body["error"]["message"]
    assert isinstance(message, str)
    assert message
    assert MARK not in response.text
    assert response.content.isascii()
    return message


# Bodies.


async def test_body_is_taken_when_it_is_good(service: Service, client: httpx.AsyncClient) -> None:
    response = await client.post("/orders", content=GOOD, headers=JSON)
    assert response.status_code == 200
    assert service.trades == [TradeRequest(name="GameStart", type="buy", quantity=3)]


MALFORMED = {
    "a word": MARK.encode(),
    "an open brace": b"{",
    "trailing garbage": GOOD + MARK.encode(),
    "a trailing comma": b'{"quantity": 3,}',
    "a key twice": b'{"name": "GameStart", "type": "buy", "quantity": 3, "quantity": 4}',
    "NaN": b'{"name": "GameStart", "type": "buy", "quantity": NaN}',
    "invalid UTF-8": b'{"name": "\xff' + MARK.encode() + b'"}',
    "UTF-16": GOOD.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "5,000 digits": b'{"quantity": ' + b"9" * 5_000 + b"}",
    "60,000 brackets": b"[" * 60_000,
    "blanks": b"   ",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_400_and_no_echo_when_the_body_is_not_json(
    service: Service, client: httpx.AsyncClient, body: bytes
) -> None:
    message = message_of(await client.post("/orders", content=body, headers=JSON), 400)
    assert "JSON" in message or "twice" in message, "the answer says what was wrong"
    assert service.trades == []


INVALID: dict[str, bytes] = {
    "empty": b"",
    "an array": f'["{MARK}"]'.encode(),
    "a string": f'"{MARK}"'.encode(),
    "null": b"null",
    "no fields": b"{}",
    "an extra field": b'{"name": "GameStart", "type": "buy", "quantity": 3, "' + MARK.encode() + b'": 1}',
    "a field that cannot be encoded": b'{"name": "GameStart", "type": "buy", "quantity": 3, "\\ud800": "\\udfff"}',
    "quantity in words": f'{{"name": "GameStart", "type": "buy", "quantity": "{MARK}"}}'.encode(),
    "quantity true": b'{"name": "GameStart", "type": "buy", "quantity": true}',
    "quantity 1.0": b'{"name": "GameStart", "type": "buy", "quantity": 1.0}',
    "quantity 1e400": b'{"name": "GameStart", "type": "buy", "quantity": 1e400}',
    "quantity of 4,000 digits": b'{"name": "GameStart", "type": "buy", "quantity": ' + b"9" * 4_000 + b"}",
    "a surrogate": b'{"name": "\\ud800' + MARK.encode() + b'", "type": "buy", "quantity": 3}',
    "an escape": b'{"name": "\\u001b[31m' + MARK.encode() + b'", "type": "buy", "quantity": 3}',
    "another type": f'{{"name": "GameStart", "type": "{MARK}", "quantity": 3}}'.encode(),
    "a deep value": b'{"name": ' + b"[" * 400 + b"]" * 400 + b', "type": "buy", "quantity": 3}',
}


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
async def test_422_and_no_echo_when_the_body_makes_no_sense(
    service: Service, client: httpx.AsyncClient, body: bytes
) -> None:
    message_of(await client.post("/orders", content=body, headers=JSON), 422)
    assert service.trades == []


async def test_422_says_where_and_what_when_a_known_field_is_wrong(client: httpx.AsyncClient) -> None:
    body = f'{{"name": "{MARK}\\n", "type": "hold", "quantity": 0}}'.encode()
    message = message_of(await client.post("/orders", content=body, headers=JSON), 422)
    for place in ("body.name", "body.type", "body.quantity"):
        assert place in message


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json2"},
        {"content-type": "application/vnd.api+json"},
        {"content-type": "text/json"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": f"application/{MARK}"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": "application/json", "content-encoding": "br"},
        {"content-type": "application/json", "content-encoding": "gzip, identity"},
    ],
    ids=str,
)
async def test_415_when_the_media_type_is_another(
    service: Service, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    message_of(await client.post("/orders", content=GOOD, headers=headers), 415)
    assert service.trades == []


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
        'application/json ; charset="UTF-8"',
        "application/json;",
    ],
)
async def test_200_when_the_media_type_is_written_in_another_way(client: httpx.AsyncClient, content_type: str) -> None:
    assert (await client.post("/orders", content=GOOD, headers={"content-type": content_type})).status_code == 200


async def test_413_when_the_body_is_one_byte_too_long(service: Service, client: httpx.AsyncClient) -> None:
    padded = GOOD + b" " * (65_536 - len(GOOD))
    assert (await client.post("/orders", content=padded, headers=JSON)).status_code == 200
    message_of(await client.post("/orders", content=padded + b" ", headers=JSON), 413)
    assert len(service.trades) == 1


async def test_413_when_a_body_without_length_grows_too_long(service: Service, client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b" " * 8_192

    message_of(await client.post("/orders", content=chunks(), headers=JSON), 413)
    assert service.trades == []


# Paths, methods, queries, headers.


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nonsense",
        f"/{MARK}",
        "/orders/",
        "/orders/1/",
        "//orders/1",
        "/orders/1/2",
        "/ORDERS",
        "/%00",
        "/orders/1%2F2",
        "/docs/",
        "/redoc",
    ],
)
async def test_404_and_no_redirect_when_the_path_is_unknown(client: httpx.AsyncClient, path: str) -> None:
    assert message_of(await client.request("GET", f"http://test{path}"), 404) == "there is no such page"


@pytest.mark.parametrize("number", ["0", "-1", "abc", "1.5", "9223372036854775808", "1e3", "%31%00", MARK, "9" * 5_000])
async def test_404_or_422_when_a_number_in_the_path_is_none(client: httpx.AsyncClient, number: str) -> None:
    response = await client.get(f"/orders/{number}")
    message_of(response, 404 if response.status_code == 404 else 422)


@pytest.mark.parametrize(
    "query", ["after=x", "after=-1", "after=1.5", "after=", f"after={MARK}", "after=NaN", "after=%00"]
)
async def test_422_when_a_query_makes_no_sense(client: httpx.AsyncClient, query: str) -> None:
    assert "query.after" in message_of(await client.get(f"/orders?{query}"), 422)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/orders", "GET, POST"),
        ("/orders/1", "DELETE, GET"),
        ("/orders/abc", "DELETE, GET"),
        ("/livez", "GET"),
        ("/readyz", "GET"),
        ("/metrics", "GET"),
        ("/docs", "GET"),
    ],
)
async def test_405_with_every_allowed_method_when_the_method_is_another(
    client: httpx.AsyncClient, path: str, allowed: str
) -> None:
    for method in ("PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND", "BREW"):
        response = await client.request(method, path)
        message_of(response, 405)
        assert response.headers["allow"] == allowed, method


async def test_405_with_allow_when_an_asset_is_posted_to(client: httpx.AsyncClient) -> None:
    response = await client.post("/docs/assets/swagger-ui.css")
    message_of(response, 405)
    assert response.headers["allow"] == "GET, HEAD"


async def test_404_when_an_asset_is_none(client: httpx.AsyncClient) -> None:
    for path in (
        "",
        "nonsense.js",
        "..%2f..%2fpyproject.toml",
        "../../../etc/passwd",
        "%2e%2e/__init__.py",
        "index.html%00",
    ):
        response = await client.get(f"http://test/docs/assets/{path}")
        assert response.status_code == 404, path
        message_of(response, 404)


async def test_422_when_a_header_is_too_long(client: httpx.AsyncClient) -> None:
    message_of(await client.post("/orders", content=GOOD, headers={**JSON, "idempotency-key": MARK * 9}), 422)


# Failures.


async def test_500_without_details_when_a_route_crashes(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        message = message_of(await client.get("/fails/crash"), 500)
    assert "RuntimeError" not in message
    assert "Traceback" not in message
    assert MARK in str(logs[0]["exc_info"]), "the log says what"


async def test_log_is_silent_when_a_client_hangs_up_within_its_body(service: Service) -> None:
    messages: list[Any] = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/orders", "query_string": b"", "headers": headers}

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_: Any) -> None:
        pass

    with capture_logs() as logs:
        await service.app(scope, receive, send)

    assert logs == []
    assert service.trades == []


async def test_500_without_details_when_an_answer_cannot_be_written(client: httpx.AsyncClient) -> None:
    with capture_logs():
        assert "object" not in message_of(await client.get("/fails/bad-answer"), 500)


@pytest.mark.parametrize(("how", "status"), [("refused", 409), ("later", 503), ("unknown", 504)])
async def test_error_of_the_bazaar_becomes_its_status(client: httpx.AsyncClient, how: str, status: int) -> None:
    response = await client.get(f"/fails/{how}")
    message_of(response, status)
    assert response.headers.get("retry-after") == ("1" if status == 503 else None)


async def test_503_at_once_when_too_many_requests_are_in_flight() -> None:
    service = Service(max_requests=2)
    service.before_answer.clear()
    async with service.client() as client:
        waiting = [asyncio.create_task(client.get("/waits")) for _ in range(2)]
        await turns()
        message_of(await client.get("/orders"), 503)
        response = await client.get("/readyz")
        message_of(response, 503)
        assert response.headers["retry-after"] == "1"
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        service.before_answer.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]
        assert (await client.get("/orders")).status_code == 200


# Health.


async def test_ready_when_nothing_is_missing_else_503_and_what_is(service: Service, client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    service.missing = "no generation yet: waiting for order-2"
    response = await client.get("/readyz")
    assert message_of(response, 503) == "no generation yet: waiting for order-2"
    assert response.headers["retry-after"] == "1"
    assert (await client.get("/livez")).json() == {"status": "alive"}


# The internal secret.


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {SECRET_HEADER: ""},
        {SECRET_HEADER: "wrong"},
        {SECRET_HEADER: SECRET[:-1]},
        {SECRET_HEADER: SECRET + "x"},
        {SECRET_HEADER: SECRET.upper()},
        {SECRET_HEADER: SECRET.encode() + b"\xff"},
        {"authorization": f"Bearer {SECRET}"},
    ],
    ids=str,
)
async def test_403_for_every_path_when_the_secret_is_missing_or_wrong(headers: dict[str, Any]) -> None:
    service = Service(secret=SECRET)
    known = ["/orders", "/orders/1"]
    unknown = ["/nonsense", "/", "/docs", "/openapi.json"]
    nearly_open = ["/livez/", "/LIVEZ", "/metrics/x", "/livez%00", "//livez"]
    async with service.client() as client:
        for path in known + unknown + nearly_open:
            for method in ("GET", "POST", "BREW"):
                response = await client.request(method, f"http://test{path}", headers=headers, content=GOOD)
                assert SECRET not in message_of(response, 403)
    assert service.trades == []


async def test_health_needs_no_secret_and_everything_else_is_served_with_it() -> None:
    service = Service(secret=SECRET)
    async with service.client() as client:
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200
    async with service.client({SECRET_HEADER: SECRET}) as client:
        assert (await client.get("/orders/1")).json() == {"number": 1}
        for path in ("/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
            message_of(await client.get(path), 404)


async def test_413_comes_before_the_secret_is_asked_for() -> None:
    """A stranger cannot make an internal listener read more than its limit."""
    async with Service(secret=SECRET, max_body_bytes=10).client() as client:
        message_of(await client.post("/orders", content=GOOD), 413)


def test_an_internal_application_is_not_made_when_its_secret_is_empty() -> None:
    with pytest.raises(AssertionError):
        Service(secret="")


# Docs.


async def test_docs_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    links = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert len(links) >= 3
    for link in links:
        assert link.startswith("/docs/assets/"), link
        asset = await client.get(link)
        assert asset.status_code == 200
        assert asset.content
    assert not re.search(r"https?://(?!json-schema)|//cdn", page.text), "nothing external, not even in a script"


async def test_every_error_has_the_one_shape_in_the_description(client: httpx.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()
    assert description["paths"]["/readyz"]["get"]["responses"]["503"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ErrorData"
    }
