"""The internal API of a replica. It parses, calls and shapes the answer; it decides nothing."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from services.common.models import (
    MAX_ENTRIES,
    MAX_NUMBER,
    AdoptAnswer,
    AdoptRequest,
    AppendAnswer,
    AppendRequest,
    EntriesAnswer,
    GenerationAnswer,
    LeaderNotice,
    OrderAnswer,
    OrdersAnswer,
    ReplicaStatus,
    TradesAnswer,
    TradesRequest,
)
from services.common.wire import read_message
from services.order.replica import Replica

After = Annotated[int, Query(ge=0, le=MAX_NUMBER)]
Limit = Annotated[int, Query(ge=1, le=MAX_ENTRIES)]


def make_router(replica: Replica) -> APIRouter:
    """The routes over one replica."""
    router = APIRouter()

    @router.get("/status")
    async def status() -> ReplicaStatus:
        return replica.status()

    @router.get("/generation")
    async def generation() -> GenerationAnswer:
        return replica.generation()

    @router.post("/adopt")
    async def adopt(request: Request) -> AdoptAnswer:
        return await replica.follower.adopt(await read_message(request, AdoptRequest))

    @router.post("/append")
    async def append(request: Request) -> AppendAnswer:
        message = await read_message(request, AppendRequest)
        replica.log.require_generation()
        return await replica.follower.append(message)

    @router.get("/entries")
    async def entries(after: After, limit: Limit = MAX_ENTRIES) -> EntriesAnswer:
        replica.log.require_generation()
        return replica.follower.entries(after, limit)

    @router.post("/trades")
    async def trades(request: Request) -> TradesAnswer:
        message = await read_message(request, TradesRequest)
        replica.log.require_generation()
        return await replica.trades(message)

    @router.get("/orders/{number}")
    async def order(number: int) -> OrderAnswer:
        replica.log.require_generation()
        return await replica.queries.order(number)

    @router.get("/orders")
    async def orders(after: After = 0, limit: Limit = 100) -> OrdersAnswer:
        replica.log.require_generation()
        return await replica.queries.orders(after, limit)

    @router.post("/leader")
    async def leader(request: Request) -> ReplicaStatus:
        replica.note_leader(await read_message(request, LeaderNotice))
        return replica.status()

    return router
