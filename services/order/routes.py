"""The internal API of a replica. It parses, calls and shapes the answer; it decides nothing."""

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from pydantic import TypeAdapter

from services.common.direct import direct
from services.common.models import (
    MAX_ENTRIES,
    MAX_NUMBER,
    AdoptAnswer,
    AdoptRequest,
    AppendRequest,
    GenerationAnswer,
    LeaderNotice,
    OrdersAnswer,
    ReplicaStatus,
    TradesRequest,
)
from services.common.strict import read_value
from services.common.wire import message_response, read_message
from services.order.replica import Replica

After = Annotated[int, Query(ge=0, le=MAX_NUMBER)]
Limit = Annotated[int, Query(ge=1, le=MAX_ENTRIES)]

_NUMBER = TypeAdapter(int)


def add_routes(app: FastAPI, replica: Replica) -> None:
    """The routes over one replica. Those of a trade, a query and a health check are direct ones."""

    @direct(app, "GET", "/status")
    async def status(_: Request) -> Response:
        return message_response(replica.status())

    @direct(app, "POST", "/trades")
    async def trades(request: Request) -> Response:
        message = await read_message(request, TradesRequest)
        replica.log.require_generation()
        return message_response(await replica.trades(message))

    @direct(app, "POST", "/append")
    async def append(request: Request) -> Response:
        message = await read_message(request, AppendRequest)
        replica.log.require_generation()
        return message_response(await replica.follower.append(message))

    @direct(app, "GET", "/orders/{number}")
    async def order(request: Request) -> Response:
        number = read_value(request.path_params["number"], _NUMBER, "path", "number")
        replica.log.require_generation()
        return message_response(await replica.queries.order(number))

    @app.get("/orders")
    async def orders(after: After = 0, limit: Limit = 100) -> OrdersAnswer:
        replica.log.require_generation()
        return await replica.queries.orders(after, limit)

    @app.get("/entries")
    async def entries(after: After, limit: Limit = MAX_ENTRIES) -> Response:
        replica.log.require_generation()
        return message_response(replica.follower.entries(after, limit))

    @app.get("/generation")
    async def generation() -> GenerationAnswer:
        return replica.generation()

    @app.post("/adopt")
    async def adopt(request: Request) -> AdoptAnswer:
        return await replica.follower.adopt(await read_message(request, AdoptRequest))

    @app.post("/leader")
    async def leader(request: Request) -> ReplicaStatus:
        replica.note_leader(await read_message(request, LeaderNotice))
        return replica.status()
