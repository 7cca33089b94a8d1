"""How the `bazaar` command reaches the services' internal listeners."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from services.common.http import SECRET_HEADER, PeerAnswered, make_client
from services.common.runtime import Runtime
from services.common.secret import load_secret


@asynccontextmanager
async def internal_client(data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client that knows the secret of this data folder, if there is one: nobody would know a new one."""
    secret = load_secret(data_dir) if (data_dir / "secret").exists() else ""
    async with make_client(Runtime(), {SECRET_HEADER: secret}) as client:
        yield client


def words(error: PeerAnswered) -> str:
    """The message of an error answer, without its status."""
    return str(error).partition(": ")[2]
