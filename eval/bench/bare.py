"""The yardsticks: what uvicorn and FastAPI cost when they do nothing but answer.

`python -m eval.bench.bare KIND --port P`; KIND is one of

bytes   an ASGI application under uvicorn that answers any request with the bytes of a stock
route   a FastAPI route that answers with the same stock
post    a FastAPI POST with the bazaar's strict model, and its answer
pass    a FastAPI POST that passes the body on to each `--next` in turn, to several at once where it names several, and
        the last answer back; at /told, a `take`. Three of them and a `post` are the chain
take    a FastAPI POST that takes the body and answers with a few bytes: a follower. Front-end, leader and catalog that
        are a `pass` exchange with two of them the messages of a trade
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.http import make_client
from services.common.lifeline import die_with_parent
from services.common.models import Order, OrderData, PublicStock, StockData, TradeRequest
from services.common.runtime import Runtime

STOCK = StockData(data=PublicStock(name="GameStart", price=15.99, quantity=100_000))


async def answer_bytes(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request with the same bytes."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


_BODY = STOCK.model_dump_json().encode("ascii")
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


def route_app() -> FastAPI:
    """One route with a parameter and a declared answer."""
    app = FastAPI()

    @app.get("/stocks/{name}")
    async def look_up_stock(name: str) -> StockData:
        return STOCK

    return app


def post_app() -> FastAPI:
    """One POST: the body is checked by the bazaar's model, the answer has the bazaar's shape."""
    app = FastAPI()

    @app.post("/orders", status_code=201)
    async def place_order(wanted: TradeRequest) -> OrderData:
        return OrderData(data=Order(number=1, name=wanted.name, type=wanted.type, quantity=wanted.quantity))

    return app


def take_app() -> FastAPI:
    """One POST without a model."""
    app = FastAPI()
    app.post("/orders", status_code=201)(take)
    return app


async def take(request: Request) -> Response:
    """Take the body, and say so."""
    await request.body()
    return Response(b"{}", 201, media_type="application/json")


def pass_app(steps: Sequence[str]) -> FastAPI:
    """One POST that is passed on, by the same HTTP client that the bazaar's services use. steps: see `--next`."""
    client = make_client(Runtime())
    *before, last = [[httpx.URL(url) for url in step.split(",")] for step in steps]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)
    app.post("/told", status_code=201)(take)

    async def call(url: httpx.URL, body: bytes) -> httpx.Response:
        headers = {"content-type": "application/json"}
        return await client.send(httpx.Request("POST", url, headers=headers, content=body))

    async def call_all(urls: Sequence[httpx.URL], body: bytes) -> httpx.Response:
        if len(urls) == 1:
            return await call(urls[0], body)
        return (await asyncio.gather(*(call(url, body) for url in urls)))[0]

    @app.post("/orders", status_code=201)
    async def pass_on(request: Request) -> Response:
        body = await request.body()
        for step in before:
            await call_all(step, body)
        answer = await call_all(last, body)
        return Response(answer.content, answer.status_code, media_type="application/json")

    return app


def main() -> None:
    """Serve one of them until told to stop."""
    parser = argparse.ArgumentParser(description="A yardstick of the benchmark.")
    parser.add_argument("kind", choices=["bytes", "route", "post", "pass", "take"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--next", action="append", default=[], help="URL[,URL], as often as there are steps")
    arguments = parser.parse_args()
    die_with_parent()
    uvicorn.run(
        _app(arguments.kind, arguments.next),
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,
    )


def _app(kind: str, steps: Sequence[str]) -> ASGIApp:
    match kind:
        case "bytes":
            return answer_bytes
        case "route":
            return route_app()
        case "post":
            return post_app()
        case "take":
            return take_app()
    return pass_app(steps)


if __name__ == "__main__":
    main()
