"""Composition root of a front-end: two applications, one public and one internal, over the same parts."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from services.common.app import make_app
from services.common.background import background
from services.common.http import SECRET_HEADER, Peer, make_client
from services.common.metrics import Metrics
from services.common.models import TradeRequest
from services.common.runtime import Runtime
from services.common.settings import FrontEndSettings
from services.common.several import service_at
from services.common.wire import MAX_MESSAGE_BYTES
from services.front_end.cache import Cache
from services.front_end.description import describe_as_3_0
from services.front_end.echo import EchoKey
from services.front_end.figures import Figures
from services.front_end.forwarder import Forwarder
from services.front_end.front_end import FrontEnd
from services.front_end.grantors import Grantors
from services.front_end.health import Replicas
from services.front_end.internal import add_internal_routes
from services.front_end.openapi import DESCRIPTION, TAGS
from services.front_end.refusals import RefusalLimit
from services.front_end.routes import add_inside_routes, add_order_routes, add_stock_routes
from services.front_end.session import SessionKeeper
from services.front_end.stocks import Stocks


def create_app(settings: FrontEndSettings, runtime: Runtime, secret: str) -> FastAPI:
    """The public application; the internal one is its `state.internal`.

    The internal one must be served before the public one starts, because the catalog calls back when a session is
    opened, and after it has stopped: the end of the public one's lifespan ends the session.
    """
    metrics = Metrics()
    client = make_client(runtime, {SECRET_HEADER: secret})
    catalog = service_at(client, settings.catalog, runtime.monotonic)
    catalogs = [Peer(client, url) for url in settings.catalog]
    grantors = Grantors(catalog, catalogs, settings.internal_url, runtime.monotonic)
    cache = Cache(settings.cache_size, runtime.monotonic)
    peers = {replica_id: Peer(client, url) for replica_id, url in settings.replicas.items()}
    replicas = Replicas(settings.name, peers, runtime)
    front_end = FrontEnd(
        name=settings.name,
        runtime=runtime,
        cache=cache,
        keeper=SessionKeeper(cache, grantors, runtime),
        stocks=Stocks(cache, catalog, runtime),
        replicas=replicas,
        forwarder=Forwarder(replicas, runtime, lambda: cache.newest_generation, max_trades=settings.max_trades),
        refusals=RefusalLimit(settings.refused_trades_per_s, settings.refused_trades_burst),
    )
    metrics.registry.register(Figures(front_end))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            async with background(runtime, *_works(front_end)):
                yield
            await front_end.keeper.stop()
            await front_end.forwarder.close()
            await front_end.stocks.close()

    app = make_app(
        "The bazaar",
        ready=front_end.missing,
        metrics=metrics,
        lifespan=lifespan,
        description=DESCRIPTION,
        max_body_bytes=settings.max_body_bytes,
        max_requests=settings.max_requests,
    )
    app.add_door(EchoKey)
    app.openapi_tags = TAGS
    describe_as_3_0(app, TradeRequest)
    add_stock_routes(app, front_end)
    add_order_routes(app, front_end)
    add_inside_routes(app, front_end)

    internal = make_app(
        f"The bazaar: {settings.name}, internal",
        ready=front_end.missing,
        metrics=metrics,
        secret=secret,
        max_body_bytes=MAX_MESSAGE_BYTES,
    )
    add_internal_routes(internal, front_end)
    app.state.internal = internal
    app.state.front_end = front_end
    return app


def _works(front_end: FrontEnd) -> list[Coroutine[Any, Any, None]]:
    """What goes on beside the requests. Without a cache there is nothing that a session would protect."""
    works = [front_end.replicas.run(), front_end.stocks.load_names()]
    if front_end.cache.capacity:
        works.append(front_end.keeper.run())
    return works
