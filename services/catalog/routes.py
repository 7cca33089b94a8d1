"""The catalog's internal API. It parses, calls and shapes the answer; it decides nothing."""

from fastapi import APIRouter, Request

from services.catalog.catalog import Catalog
from services.common.models import (
    CatalogStatus,
    DecideAnswer,
    DecideRequest,
    GenerationAnswer,
    SessionAnswer,
    SessionOutcome,
    SessionRequest,
    StockAnswer,
    StocksAnswer,
)
from services.common.wire import read_message

RENEWAL: dict[bool | None, SessionOutcome] = {True: "renewed", False: "busy", None: "no_session"}


def make_router(catalog: Catalog) -> APIRouter:
    """The routes over one catalog."""
    router = APIRouter()

    @router.get("/status")
    async def status() -> CatalogStatus:
        return catalog.status()

    @router.get("/generation")
    async def generation() -> GenerationAnswer:
        return catalog.generation()

    @router.get("/stocks")
    async def stocks() -> StocksAnswer:
        return catalog.stocks()

    @router.get("/stocks/{name}")
    async def stock(name: str) -> StockAnswer:
        return catalog.stock(name)

    @router.post("/decide")
    async def decide(request: Request) -> DecideAnswer:
        return await catalog.decide(await read_message(request, DecideRequest))

    @router.post("/sessions/open")
    async def open_session(request: Request) -> SessionAnswer:
        message = await read_message(request, SessionRequest)
        generation, sessions = catalog.sessions()
        floor = await sessions.open(message.session, message.url)
        if floor is None:
            return SessionAnswer(generation=generation, outcome="no_session", floor=0)
        return SessionAnswer(generation=generation, outcome="opened", floor=floor)

    @router.post("/sessions/renew")
    async def renew_session(request: Request) -> SessionAnswer:
        message = await read_message(request, SessionRequest)
        generation, sessions = catalog.sessions()
        return SessionAnswer(generation=generation, outcome=RENEWAL[sessions.renew(message.session)], floor=0)

    @router.post("/sessions/end")
    async def end_session(request: Request) -> SessionAnswer:
        message = await read_message(request, SessionRequest)
        generation, sessions = catalog.sessions()
        await sessions.end(message.session)
        return SessionAnswer(generation=generation, outcome="ended", floor=0)

    return router
