"""Composition root of an order replica."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from services.common.app import make_app
from services.common.background import background, ends_process
from services.common.errors import IntegrityFailure
from services.common.http import SECRET_HEADER, Peer, make_client
from services.common.metrics import Metrics
from services.common.runtime import Runtime
from services.common.settings import OrderSettings
from services.common.several import service_at
from services.common.wire import MAX_MESSAGE_BYTES
from services.order.figures import Figures
from services.order.replica import Replica
from services.order.routes import add_routes
from services.order.store import LogStore


def create_app(settings: OrderSettings, runtime: Runtime, secret: str) -> FastAPI:
    """A replica as an application; it opens its database here and closes it at the end of its lifespan."""
    client = make_client(runtime, {SECRET_HEADER: secret})
    replica = Replica(
        runtime,
        settings.replica_id,
        LogStore(settings.data_dir / f"order-{settings.replica_id}.db", settings.durability),
        service_at(client, settings.catalog, runtime.monotonic),
        {i: Peer(client, url) for i, url in settings.replicas.items() if i != settings.replica_id},
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client:
            async with background(runtime, replica.log.run(), replica.follower.run(), replica.watch()):
                yield
            await replica.close()

    metrics = Metrics()
    metrics.registry.register(Figures(replica))
    app = make_app(
        f"bazaar: order replica {settings.replica_id}",
        ready=replica.missing,
        metrics=metrics,
        lifespan=lifespan,
        secret=secret,
        max_body_bytes=MAX_MESSAGE_BYTES,
    )

    async def on_integrity_failure(_: Request, error: Exception) -> Response:
        with ends_process(runtime):
            raise error

    app.add_exception_handler(IntegrityFailure, on_integrity_failure)  # a page that cannot be read, say
    add_routes(app, replica)
    app.state.replica = replica
    return app
