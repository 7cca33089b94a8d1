"""Run a front-end: `python -m services.front_end --help`."""

import ssl

from fastapi import FastAPI

from services.common.launch import launch
from services.common.server import Listener
from services.common.settings import FrontEndSettings
from services.front_end.app import create_app


def listeners(settings: FrontEndSettings, app: FastAPI, tls: ssl.SSLContext | None) -> tuple[Listener, ...]:
    """The internal listener, then the public one: they start in this order and stop in reverse.

    The public one is plain HTTP, whatever is spoken inside.

    The catalog calls back while the public application starts, and calls until the end of its lifespan has ended the
    session.
    """
    return (
        Listener(app=app.state.internal, host=settings.internal_host, port=settings.internal_port, tls=tls),
        Listener(
            app=app,
            host=settings.host,
            port=settings.port,
            head_timeout_s=settings.arrival_timeout_s,
            body_timeout_s=settings.arrival_timeout_s,
            keep_alive_s=settings.idle_timeout_s,
            max_head_bytes=settings.max_head_bytes,
            max_connections=settings.max_connections,
        ),
    )


if __name__ == "__main__":
    launch(FrontEndSettings, lambda settings: settings.name, create_app, listeners)
