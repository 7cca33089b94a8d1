"""Composition root of the catalog."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from services.catalog.catalog import Catalog
from services.catalog.etcd import Etcd
from services.catalog.etcd_store import EtcdStore
from services.catalog.figures import Figures
from services.catalog.routes import add_routes
from services.catalog.sqlite_store import EmbeddedStore, SqliteStore
from services.catalog.stocks_file import DEFAULT_STOCKS, BadStocksFile, read_stocks
from services.catalog.store import Store
from services.common.app import make_app
from services.common.background import background
from services.common.errors import IntegrityFailure
from services.common.http import SECRET_HEADER, Peer, make_client
from services.common.metrics import Metrics
from services.common.models import Stock
from services.common.runtime import Runtime
from services.common.settings import CatalogSettings
from services.common.wire import MAX_MESSAGE_BYTES


def create_app(settings: CatalogSettings, runtime: Runtime, secret: str) -> FastAPI:
    """The catalog as an application; it opens its database here and closes it at the end of its lifespan."""
    client = make_client(runtime, {SECRET_HEADER: secret})
    etcd_client = make_client(runtime)  # which is not told our secret
    catalog = Catalog(
        runtime,
        _open_store(settings, runtime, etcd_client),
        {replica_id: Peer(client, url) for replica_id, url in settings.replicas.items()},
        settings.lost,
        lambda: _initial_stocks(settings),
        lambda url: Peer(client, url),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with client, etcd_client:
            async with background(runtime, catalog.run()):
                yield
            await catalog.close()

    metrics = Metrics()
    metrics.registry.register(Figures(catalog))
    app = make_app(
        "bazaar: catalog",
        ready=catalog.missing,
        metrics=metrics,
        lifespan=lifespan,
        secret=secret,
        max_body_bytes=MAX_MESSAGE_BYTES,
    )
    add_routes(app, catalog)
    app.state.catalog = catalog
    return app


def _open_store(settings: CatalogSettings, runtime: Runtime, client: httpx.AsyncClient) -> Store:
    if settings.etcd is not None:
        urls, prefix = settings.etcd
        return EtcdStore(runtime, Etcd(client, urls), prefix, settings.replicas)
    return EmbeddedStore(runtime, SqliteStore(settings.database, settings.durability))


def _initial_stocks(settings: CatalogSettings) -> list[Stock]:
    try:
        return read_stocks(settings.stocks or DEFAULT_STOCKS)
    except BadStocksFile as error:
        raise IntegrityFailure(f"the stocks to begin with cannot be read: {error}") from error
