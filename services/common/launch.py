"""How a service's process begins: settings, logs, secret, then its application on its listeners."""

import asyncio
import gc
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fastapi import FastAPI
from pydantic import ValidationError
from pydantic_settings import SettingsError

from services.common.background import log_failure
from services.common.database import DatabaseLocked, DiskFull
from services.common.errors import FAILED_STATUS, NO_ROOM_STATUS, IntegrityFailure
from services.common.lifeline import die_with_parent
from services.common.logs import set_up_logs
from services.common.runtime import Runtime
from services.common.secret import BadSecret, load_secret
from services.common.server import Listener, run, serve
from services.common.settings import ServiceSettings
from services.common.tls import BadTls, client_context, server_context, warn_of_end
from services.common.tracing import set_up_tracing
from services.common.transport import make_transport

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


def load_settings(kind: type[SettingsT]) -> SettingsT:
    """The settings from flags, environment and defaults; what is wrong is said in a line each, exit status 2."""
    try:
        return kind(_cli_parse_args=True)
    except ValidationError as error:
        lines = (f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors())
        sys.stderr.write("\n".join(line.removeprefix(": ") for line in lines) + "\n")
    except (SettingsError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
    raise SystemExit(2)


def launch(
    kind: type[SettingsT],
    named: Callable[[SettingsT], str],
    create_app: Callable[[SettingsT, Runtime, str], FastAPI],
    listeners: Callable[[SettingsT, FastAPI, ssl.SSLContext | None], tuple[Listener, ...]] | None = None,
) -> None:
    """Run a service until it is told to stop. named: its name in logs.

    listeners: other than one on its host and port; those for other services speak TLS when a context is given.
    """
    die_with_parent()
    settings = load_settings(kind)
    set_up_logs(named(settings), settings.log_level)
    set_up_tracing(named(settings))

    async def main() -> None:
        runtime, tls = _with_tls(settings)
        app = create_app(settings, runtime, load_secret(settings.data_dir, settings.secret_file))
        served = listeners(settings, app, tls) if listeners else (_one(settings, app, tls),)
        await serve(*served, on_ready=_spare_collector)

    try:
        run(main)
    except (BadSecret, BadTls, DatabaseLocked, DiskFull) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(NO_ROOM_STATUS if isinstance(error, DiskFull) else 1) from None
    except IntegrityFailure as failure:
        log_failure(failure)
        raise SystemExit(FAILED_STATUS) from None
    except asyncio.CancelledError:
        raise SystemExit(1) from None


def _with_tls(settings: ServiceSettings) -> tuple[Runtime, ssl.SSLContext | None]:
    """The world as these settings want it, and the context of listeners for other services. Raises BadTls."""
    files = settings.tls
    if files is None:
        return Runtime(), None
    warn_of_end(files)
    return Runtime(transport=partial(make_transport, client_context(files))), server_context(files)


def _one(settings: ServiceSettings, app: FastAPI, tls: ssl.SSLContext | None) -> Listener:
    return Listener(app=app, host=settings.host, port=settings.port, tls=tls)


def _spare_collector(_: object) -> None:
    """What start-up made stays until the end: the garbage collector need not look at it again and again.

    Nor need it look as often as after every 700 objects: a burst of requests makes thousands, and few are in cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
