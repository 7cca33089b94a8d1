"""The catalog's internal API. It parses, calls and shapes the answer; it decides nothing."""

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response

from services.catalog.catalog import Catalog
from services.catalog.stocks_file import MAX_STOCKS
from services.common.direct import direct
from services.common.models import (
    CatalogStatus,
    DecideRequest,
    GenerationAnswer,
    SessionAnswer,
    SessionOutcome,
    SessionRequest,
)
from services.common.wire import message_response, read_message

Limit = Annotated[int, Query(ge=1, le=MAX_STOCKS)]

RENEWAL: dict[bool | None, SessionOutcome] = {True: "renewed", False: "busy", None: "no_session"}


def add_routes(app: FastAPI, catalog: Catalog) -> None:
    """The routes over one catalog. Those of a decision, a look-up and a renewal are direct ones."""

    @app.get("/status")
    async def status() -> CatalogStatus:
        return catalog.status()

    @app.get("/generation")
    async def generation() -> GenerationAnswer:
        await catalog.refresh()
        return catalog.generation()

    @app.get("/stocks")
    async def stocks(after: str = "", limit: Limit = MAX_STOCKS) -> Response:
        await catalog.refresh()
        return message_response(catalog.stocks(after, limit))

    @direct(app, "GET", "/stocks/{name}")
    async def stock(request: Request) -> Response:
        await catalog.refresh()
        return message_response(catalog.stock(request.path_params["name"]))

    @direct(app, "POST", "/decide")
    async def decide(request: Request) -> Response:
        return message_response(await catalog.decide(await read_message(request, DecideRequest)))

    @app.post("/sessions/open")
    async def open_session(request: Request) -> SessionAnswer:
        message = await read_message(request, SessionRequest)
        generation, sessions = catalog.sessions()
        floor = await sessions.open(message.session, message.url, message.grantors)
        if floor is None:
            return SessionAnswer(generation=generation, outcome="no_session", floor=0)
        return SessionAnswer(generation=generation, outcome="opened", floor=floor)

    @direct(app, "POST", "/sessions/renew")
    async def renew_session(request: Request) -> Response:
        message = await read_message(request, SessionRequest)
        generation, sessions = catalog.sessions()
        outcome = RENEWAL[await sessions.renew(message.session)]
        return message_response(
            SessionAnswer(generation=generation, outcome=outcome, floor=0, grantor=sessions.grantor)
        )

    @app.post("/sessions/end")
    async def end_session(request: Request) -> SessionAnswer:
        message = await read_message(request, SessionRequest)
        generation, sessions = catalog.sessions()
        await sessions.end(message.session)
        return SessionAnswer(generation=generation, outcome="ended", floor=0)
