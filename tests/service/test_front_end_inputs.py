"""Bad inputs at the public API: each gets an answer in the one shape, at once, and changes nothing."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.support.fake_bazaar import FakeBazaar
from tests.support.fake_time import in_fake_time

GOOD = {"name": "GameStart", "type": "buy", "quantity": 1}
JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def quiet() -> AsyncIterator[FakeBazaar]:
    """A bazaar to which bad requests are sent: afterwards nothing has happened, and it still serves."""
    async with FakeBazaar().running() as bazaar:
        yield bazaar
        assert not any(replica.batches for replica in bazaar.replicas.values())
        assert (await bazaar.buy()).status_code == 201


def check(response: httpx.Response, *codes: int, sent: str = "") -> None:
    """It is one of these errors, in the one shape, and says nothing of the inside or of what was sent."""
    assert response.status_code in codes
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body == {"error": {"code": response.status_code, "message": body["error"]["message"]}}
    for word in ("Traceback", "pydantic", "services", ".py", *([sent] if len(sent) > 3 else [])):
        assert word not in response.text


async def post(bazaar: FakeBazaar, body: str | bytes, **headers: str) -> httpx.Response:
    return await bazaar.client.post("/orders", content=body, headers={**JSON, **headers})


# Quantities, as they stand in the body.

OUT_OF_RANGE = ["0", "-0", "-5", "1000001", str(2**63), str(2**64), "1" + "0" * 30, "9" * 5_000]
NOT_WHOLE = ["1.0", "1e3", "1E0", "1.5", '"5"', "true", "false", "null", "[1]", '{"a":1}']
NOT_JSON = ["NaN", "Infinity", "-Infinity", "1e400", "0x10", "01", "+1", ".5", ""]


@in_fake_time
@pytest.mark.parametrize("quantity", [*OUT_OF_RANGE, *NOT_WHOLE, *NOT_JSON])
async def test_quantity_that_is_none_is_refused(quantity: str) -> None:
    async with quiet() as bazaar:
        check(await post(bazaar, f'{{"name":"GameStart","type":"buy","quantity":{quantity}}}'), 400, 422)


@in_fake_time
async def test_quantities_at_the_limits_are_taken() -> None:
    async with FakeBazaar().running() as bazaar:
        assert (await bazaar.buy(1)).status_code == 201
        assert (await bazaar.buy(1_000_000)).status_code == 409


# Names, types and fields.


@in_fake_time
@pytest.mark.parametrize("field", ["name", "type", "quantity"])
async def test_trade_without_a_field_is_refused(field: str) -> None:
    async with quiet() as bazaar:
        body = {name: value for name, value in GOOD.items() if name != field}
        check(await post(bazaar, json.dumps(body)), 422)


NOT_TEXT: list[object] = [5, None, [], {}, True]
BLANK_OR_LONG = ["", " ", "GameStart ", "A" * 65]
CONTROLS = ["A\0B", "A\nB", "GameStart\n", "A\x1bB", "\ud800", "\u202eA", "GameStart\u200b"]
OTHER_CHARACTERS = ["'; DROP TABLE", "../etc", "A/B", "\uff21", "\u00e9", "A%00"]


@in_fake_time
@pytest.mark.parametrize("name", [*NOT_TEXT, *BLANK_OR_LONG, *CONTROLS, *OTHER_CHARACTERS])
async def test_name_that_is_none_is_refused(name: object) -> None:
    async with quiet() as bazaar:
        response = await post(bazaar, json.dumps({**GOOD, "name": name}))
        check(response, 400, 422, sent=str(name) if isinstance(name, str) and name.isprintable() else "")


@in_fake_time
@pytest.mark.parametrize("kind", ["BUY", "Sell", "hold", "", " buy", 1, None, True, ["buy"]])
async def test_type_that_is_none_is_refused(kind: object) -> None:
    async with quiet() as bazaar:
        check(await post(bazaar, json.dumps({**GOOD, "type": kind})), 422)


@in_fake_time
@pytest.mark.parametrize("field", ["number", "price", "head", "key", "__class__", "GameStart-surprise"])
async def test_unknown_field_is_refused_and_not_repeated(field: str) -> None:
    async with quiet() as bazaar:
        check(await post(bazaar, json.dumps({**GOOD, field: 1})), 422, sent="surprise")


# Bodies and media types.


@in_fake_time
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"hello",
        b"{",
        b'{"name":"GameStart","type":"buy","quantity":1,}',
        b'{"name":"GameStart","type":"buy","quantity":1}}',
        b'{"name":"GameStart","type":"buy","quantity":1} {}',
        b'{"name":"GameStart","type":"buy","quantity":1,"quantity":2}',
        b'{"name":"GameStart","name":"FishCo","type":"buy","quantity":1}',
        b"[]",
        b'[{"name":"GameStart","type":"buy","quantity":1}]',
        b'"buy"',
        b"1",
        b"null",
        b'{"name":"\xff\xfe","type":"buy","quantity":1}',
        b'\xef\xbb\xbf{"name":"GameStart","type":"buy","quantity":1}',
        json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD).encode("utf-16-be"),
        json.dumps(GOOD).encode("utf-32"),
        b"[" * 60_000,
        b'{"name":' * 7_000,
        b"{'name':'GameStart','type':'buy','quantity':1}",
        b'{"name":"GameStart","type":"buy","quantity":1}\0',
    ],
)
async def test_body_that_is_no_trade_is_refused(body: bytes) -> None:
    async with quiet() as bazaar:
        check(await post(bazaar, body), 400, 422)


@in_fake_time
async def test_body_beyond_64_kib_is_refused_and_one_within_it_is_read() -> None:
    async with FakeBazaar().running() as bazaar:
        good = json.dumps(GOOD)
        check(await post(bazaar, good + " " * (65_537 - len(good))), 413)
        assert (await post(bazaar, good + " " * (65_536 - len(good)))).status_code == 201
        check(await post(bazaar, "[" * 200_000), 413)


@in_fake_time
async def test_body_without_end_is_refused() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1_000

    async with quiet() as bazaar:
        headers = {**JSON, "Transfer-Encoding": "chunked"}
        check(await bazaar.client.post("/orders", content=endless(), headers=headers), 413)


@in_fake_time
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": "application/vnd.api+json"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
async def test_other_media_types_are_refused(headers: dict[str, str]) -> None:
    async with quiet() as bazaar:
        check(await bazaar.client.post("/orders", content=json.dumps(GOOD), headers=headers), 415)


@in_fake_time
@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"'],
)
async def test_json_is_taken_however_it_is_spelt(media_type: str) -> None:
    async with FakeBazaar().running() as bazaar:
        response = await post(bazaar, json.dumps(GOOD), **{"Content-Type": media_type})
        assert response.status_code == 201


# Keys.


@in_fake_time
@pytest.mark.parametrize("key", ["", "a b", "a\tb", "A" * 65, "A" * 1_000, "\x7f", "é", "a\x01"])
async def test_key_that_is_none_is_refused(key: str) -> None:
    async with quiet() as bazaar:
        headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.encode("latin-1"))]
        check(await bazaar.client.post("/orders", content=json.dumps(GOOD), headers=headers), 422, sent=key)  # type: ignore[arg-type]


@in_fake_time
async def test_two_keys_for_one_trade_are_refused() -> None:
    async with quiet() as bazaar:
        headers = [("Content-Type", "application/json"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        check(await bazaar.client.post("/orders", content=json.dumps(GOOD), headers=headers), 422)


@in_fake_time
@pytest.mark.parametrize("key", ["!", "~" * 64, 'a,b;c="d"', "{'$ne':1}"])
async def test_every_printable_key_is_taken(key: str) -> None:
    async with FakeBazaar().running() as bazaar:
        response = await bazaar.buy(1, key)
        assert (response.status_code, response.headers["idempotency-key"]) == (201, key)


# Paths and queries.


WRITTEN_OTHERWISE = ["+1", "%2B1", "1.0", "1_0", "1e1", "01", "0x1", "1,2", "%D9%A1", "%EF%BC%91"]
NO_NUMBER = ["abc", "null", "true", "NaN", "%20", "1%20", "%201", "1%00", "1%0A"]
NO_ORDER_NUMBER = ["0", "-1", str(2**63), str(10**19), "9" * 5_000]


@in_fake_time
@pytest.mark.parametrize("number", [*WRITTEN_OTHERWISE, *NO_NUMBER, *NO_ORDER_NUMBER])
async def test_number_that_is_none_is_refused(number: str) -> None:
    async with quiet() as bazaar:
        check(await bazaar.client.get(f"/orders/{number}"), 422)


NO_STOCK = [
    "%00",
    "%2e%2e%2f",
    "%0A",
    "GameStart%0A",
    "GameStart%20",
    "gamestart",
    "A" * 65,
    "A" * 10_000,
    "%C3%A9",
    "%FF",
]
SLASHES = [
    "/",
    "/stocks/",
    "/stocks/GameStart/",
    "/orders/",
    "/orders/1/",
    "//orders/1",
    "/orders//1",
    "/cache/",
    "/docs/",
]
INTERNAL = ["/replicate", "/decide", "/append", "/invalidate", "/rm?name=GameStart", "/status", "/sessions/recall"]


@in_fake_time
@pytest.mark.parametrize("path", [*(f"/stocks/{name}" for name in NO_STOCK), *SLASHES, *INTERNAL, "/nope", "/redoc"])
async def test_path_that_leads_nowhere_is_not_found_without_a_redirect(path: str) -> None:
    async with quiet() as bazaar:
        check(await bazaar.client.get(path), 404, sent="GameStart")


NO_AFTER = ["-1", "1.0", "a", "", "01", str(2**63), "1_0", "%D9%A1"]
NO_LIMIT = ["0", "1001", "-1", "1e2", "", "9" * 5_000, "1.0", "+1"]


@in_fake_time
@pytest.mark.parametrize(
    "query", [*(f"after={after}" for after in NO_AFTER), *(f"limit={limit}" for limit in NO_LIMIT)]
)
async def test_page_that_makes_no_sense_is_refused(query: str) -> None:
    async with quiet() as bazaar:
        check(await bazaar.client.get(f"/orders?{query}"), 422)
        if query.startswith("limit"):
            check(await bazaar.client.get(f"/stocks?{query}"), 422)


@in_fake_time
@pytest.mark.parametrize("after", ["", "%00", "A%20B", "A" * 65, "%E2%80%AE", "GameStart%0A"])
async def test_list_after_a_name_that_is_none_is_refused(after: str) -> None:
    async with quiet() as bazaar:
        check(await bazaar.client.get(f"/stocks?after={after}"), 422)


@in_fake_time
async def test_unknown_query_parameters_are_ignored() -> None:
    async with FakeBazaar().running() as bazaar:
        assert (await bazaar.client.get("/orders?page=7")).status_code == 200
        assert (await bazaar.client.get("/stocks/GameStart?fresh=1")).status_code == 200


# Methods.

METHODS: dict[str, set[str]] = {
    "/stocks": {"GET"},
    "/stocks/GameStart": {"GET"},
    "/orders": {"GET", "POST"},
    "/orders/1": {"GET"},
    "/leader": {"GET"},
    "/cache": {"GET"},
    "/cache/GameStart": {"DELETE"},
    "/livez": {"GET"},
    "/readyz": {"GET"},
    "/metrics": {"GET"},
    "/docs": {"GET"},
}


@in_fake_time
@pytest.mark.parametrize("path", METHODS)
async def test_other_methods_are_answered_405_with_those_that_are_allowed(path: str) -> None:
    async with quiet() as bazaar:
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - METHODS[path]:
            response = await bazaar.client.request(method, path)
            assert response.status_code == 405, method
            assert set(response.headers["allow"].split(", ")) == METHODS[path]
            if method != "HEAD":
                check(response, 405)


# The description.


def _operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    }


@in_fake_time
async def test_description_lists_every_status_of_every_route_with_the_one_error_shape() -> None:
    async with FakeBazaar().running() as bazaar:
        operations = _operations((await bazaar.client.get("/openapi.json")).json())
    listed = {name: {int(code) for code in operation["responses"]} for name, operation in operations.items()}
    expected = {
        "GET /stocks/{name}": {200, 304, 404, 503},
        "GET /stocks": {200, 422, 503},
        "POST /orders": {201, 400, 404, 409, 413, 415, 422, 429, 503, 504},
        "GET /orders/{number}": {200, 404, 422, 503},
        "GET /orders": {200, 422, 503},
        "GET /leader": {200, 503},
        "GET /cache": {200, 503},
        "DELETE /cache/{name}": {204, 404, 503},
    }
    assert {name: listed[name] for name in expected} == expected
    for operation in operations.values():
        for code, response in operation["responses"].items():
            if int(code) >= 400:
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorData"}
                assert code not in {"429", "503"} or "Retry-After" in response["headers"]


@in_fake_time
async def test_description_tells_the_headers_and_parameters() -> None:
    async with FakeBazaar().running() as bazaar:
        operations = _operations((await bazaar.client.get("/openapi.json")).json())
    look_up, place = operations["GET /stocks/{name}"], operations["POST /orders"]
    assert {parameter["name"] for parameter in look_up["parameters"]} == {"name", "If-None-Match"}
    assert set(look_up["responses"]["200"]["headers"]) == {"X-Cache", "ETag", "Cache-Control"}
    assert [parameter["name"] for parameter in place["parameters"]] == ["Idempotency-Key"]
    assert place["parameters"][0]["schema"] == {"type": "string", "pattern": "^[!-~]{1,64}$"}
    assert set(place["responses"]["201"]["headers"]) == {"Idempotency-Key", "Location", "Idempotency-Replayed"}
    number = operations["GET /orders/{number}"]["parameters"][0]["schema"]
    assert (number["type"], number["minimum"], number["maximum"]) == ("integer", 1, 2**63 - 1)


@in_fake_time
async def test_docs_page_works_without_internet() -> None:
    async with FakeBazaar().running() as bazaar:
        page = (await bazaar.client.get("/docs")).text
        assert "//cdn" not in page
        assert "https://" not in page
        assert '"/docs/assets/swagger-ui-bundle.js"' in page


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        ("{", {}, 400),
        ('{"name": "GameStart", "type": "hold", "quantity": 1}', {}, 422),
        ("{}", {"Content-Type": "text/plain"}, 415),
        ("{" + " " * 70_000 + "}", {}, 413),
    ],
)
async def test_key_is_given_back_when_the_trade_is_refused_at_the_door(
    body: str, headers: dict[str, str], code: int
) -> None:
    async with quiet() as bazaar:
        response = await post(bazaar, body, **{"idempotency-key": "mine-1", **headers})

    assert (response.status_code, response.headers["idempotency-key"]) == (code, "mine-1")


async def test_key_is_not_repeated_when_it_is_none() -> None:
    async with quiet() as bazaar:
        response = await post(bazaar, "{", **{"idempotency-key": "k" * 65})

    assert "idempotency-key" not in response.headers
