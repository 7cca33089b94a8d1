"""How the `bazaar` command reaches the services' internal listeners."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from services.cluster.errors import CannotDo
from services.common.http import SECRET_HEADER, PeerAnswered, make_client
from services.common.runtime import Runtime
from services.common.secret import load_secret


@asynccontextmanager
async def internal_client(data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client that knows the secret of this data folder. Raises CannotDo when that is gone."""
    if not (data_dir / "secret").exists():  # a new one would be none that the running services know
        raise CannotDo(
            f"{data_dir / 'secret'} is missing; start the bazaar again with: bazaar up --data-dir {data_dir}"
        )
    async with make_client(Runtime(), {SECRET_HEADER: load_secret(data_dir)}) as client:
        yield client


def words(error: PeerAnswered) -> str:
    """The message of an error answer, without its status."""
    return str(error).partition(": ")[2]
