"""Which request a line, a call and an error belong to: what is taken from the caller, what is made, where it goes."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from services.common.app import make_app
from services.common.batching import Batcher
from services.common.direct import direct
from services.common.errors import NotFound
from services.common.metrics import Metrics
from services.common.request_id import begin, carried, request_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def app() -> FastAPI:
    made = make_app("test", ready=lambda: None, metrics=Metrics())

    @direct(made, "GET", "/direct")
    async def answer(_: Request) -> Response:
        return Response(str(request_id()))

    @made.get("/none")
    async def none() -> None:
        raise NotFound

    @made.get("/carried")
    async def show() -> Mapping[str, str]:
        return carried()

    return made


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as made:
        yield made


async def test_id_of_the_caller_is_used_and_told(client: httpx.AsyncClient) -> None:
    answer = await client.get("/direct", headers={"X-Request-Id": "visit-7"})
    assert (answer.text, answer.headers["x-request-id"]) == ("visit-7", "visit-7")


@pytest.mark.parametrize("bad", ["", "x" * 65, "two words", "new\x0bline", 'q"', "\xe9"])
async def test_id_is_made_here_when_the_callers_is_none(client: httpx.AsyncClient, bad: str) -> None:
    answer = await client.get("/direct", headers=[(b"X-Request-Id", bad.encode("latin-1"))])
    assert answer.text not in {bad, "None"}
    assert "x-request-id" not in answer.headers


async def test_id_is_made_here_when_there_are_two(client: httpx.AsyncClient) -> None:
    answer = await client.get("/direct", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")])
    assert answer.text not in {"a", "b"}


async def test_error_tells_its_id_when_the_caller_sent_none(client: httpx.AsyncClient) -> None:
    first, second = await client.get("/none"), await client.get("/none")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_trace_id_is_the_id_when_there_is_no_other(client: httpx.AsyncClient) -> None:
    assert (await client.get("/direct", headers={"traceparent": TRACEPARENT})).text == TRACE


async def test_traceparent_and_tracestate_are_passed_on_as_they_came(client: httpx.AsyncClient) -> None:
    headers = {"X-Request-Id": "a", "traceparent": TRACEPARENT, "tracestate": "vendor=1"}
    answer = await client.get("/carried", headers=headers)
    assert answer.json() == {"x-request-id": "a", "traceparent": TRACEPARENT, "tracestate": "vendor=1"}


@pytest.mark.parametrize(
    "bad", [TRACEPARENT.upper(), f"ff{TRACEPARENT[2:]}", f"00-{'0' * 32}-00f067aa0ba902b7-01", TRACEPARENT + "-x", ""]
)
async def test_traceparent_is_not_passed_on_when_it_is_none(client: httpx.AsyncClient, bad: str) -> None:
    assert set((await client.get("/carried", headers={"traceparent": bad})).json()) == {"x-request-id"}


def test_nothing_is_carried_outside_of_a_request() -> None:
    assert request_id() is None
    assert carried() == {}


async def test_trip_carries_the_id_of_the_first_of_its_own_batch() -> None:
    """Also the second trip, which the task of the first one's callers makes."""
    seen: list[Any] = []

    async def send(batch: list[int]) -> Sequence[int]:
        seen.append(request_id())
        return batch

    batcher: Batcher[int, int] = Batcher(send, max_batch=2)

    async def ask(name: str) -> None:
        begin({"type": "http", "headers": [(b"x-request-id", name.encode())]})
        await batcher.submit(1)

    await asyncio.gather(*(asyncio.create_task(ask(name)) for name in ("a", "b", "c")))
    assert seen == ["a", "c"]
