"""How the `bazaar` command reaches the services' internal listeners."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx

from services.cluster.errors import CannotDo
from services.cluster.folder import find_cluster
from services.cluster.topology import Settings
from services.common.http import SECRET_HEADER, PeerAnswered, make_client
from services.common.runtime import Runtime
from services.common.secret import BadSecret, load_secret
from services.common.tls import BadTls, client_context
from services.common.transport import make_transport


@asynccontextmanager
async def internal_client(data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client that knows the secret of this data folder, if there is one: nobody would know a new one.

    With the certificate of this host, if the bazaar has several. Raises CannotDo when a file of these cannot be used.
    """
    cluster = find_cluster(data_dir)
    settings = cluster.settings if cluster is not None else Settings()
    try:
        is_there = settings.secret_file is not None or (data_dir / "secret").exists()
        secret = load_secret(data_dir, settings.secret_file) if is_there else ""
        tls = client_context(settings.tls) if settings.tls is not None else None
    except (BadSecret, BadTls) as error:
        raise CannotDo(str(error)) from error
    async with make_client(Runtime(transport=partial(make_transport, tls)), {SECRET_HEADER: secret}) as client:
        yield client


def words(error: PeerAnswered) -> str:
    """The message of an error answer, without its status."""
    return str(error).partition(": ")[2]
