"""Who may speak to the control room's page."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from services.control_room.door import TOKEN_HEADER, Door, is_ours

TOKEN = "a-token-of-the-tests"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()

    @app.get("/thing")
    @app.post("/thing")
    async def thing() -> dict[str, bool]:
        return {"done": True}

    transport = httpx.ASGITransport(Door(app, TOKEN, "bazaar.example"))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8009") as made:
        yield made


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8009", True),
        ("[::1]:8009", True),
        ("10.0.0.5", True),
        ("localhost:8009", True),
        ("bazaar.example:8009", True),
        ("evil.example:8009", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_host_is_ours_when_it_is_an_address_or_our_name(host: str, expected: bool) -> None:
    assert is_ours(host, "bazaar.example") is expected


async def test_reading_is_allowed_when_the_page_is_ours(client: httpx.AsyncClient) -> None:
    answer = await client.get("/thing", headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8009"},  # DNS rebinding
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8000"},  # another port is another page
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_request_is_refused_when_it_comes_from_another_page_even_with_the_token(
    client: httpx.AsyncClient, method: str, headers: dict[str, str]
) -> None:
    answer = await client.request(method, "/thing", headers={TOKEN_HEADER: TOKEN, **headers})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, 403)


@pytest.mark.parametrize("token", [None, "", TOKEN[:-1], TOKEN + "x", "é"])
async def test_action_is_refused_when_the_token_is_missing_or_wrong(
    client: httpx.AsyncClient, token: str | None
) -> None:
    headers = {} if token is None else {TOKEN_HEADER.encode(): token.encode()}
    answer = await client.post("/thing", headers=headers)
    assert answer.status_code == 403
    assert "token" in answer.json()["error"]["message"]


async def test_action_is_done_when_the_page_is_ours_and_knows_the_token(client: httpx.AsyncClient) -> None:
    headers = {TOKEN_HEADER: TOKEN, "Origin": "http://127.0.0.1:8009", "Sec-Fetch-Site": "same-origin"}
    assert (await client.post("/thing", headers=headers)).json() == {"done": True}
