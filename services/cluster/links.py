"""How the `bazaar` command reaches the services' internal listeners."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import httpx

from services.cluster.errors import CannotDo, NotRunning, UsageError
from services.cluster.folder import find_cluster, up_command
from services.cluster.topology import Cluster, Settings
from services.common.http import SECRET_HEADER, PeerAnswered, PeerError, make_client
from services.common.models import Message
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


class Nothing(Message):
    """The empty body of an action."""


@contextmanager
def asking_supervisor(data_dir: Path, cluster: Cluster) -> Iterator[None]:
    """The body asks the supervisor for something: raises CannotDo with its words, or NotRunning when there is none."""
    try:
        yield
    except PeerAnswered as error:
        raise CannotDo(words(error)) from error
    except PeerError as error:
        raise not_running(data_dir, cluster) from error


def not_running(data_dir: Path, cluster: Cluster) -> NotRunning:
    """What to say when nothing of this bazaar answers."""
    return NotRunning(f"the bazaar in {data_dir}/ is not running; start it with: {up_command(data_dir, cluster)}")


def check_names(cluster: Cluster, *names: str) -> None:
    """Raise UsageError for a name that no service has."""
    known = [service.name for service in cluster.services]
    for name in names:
        if name not in known:
            raise UsageError(f"there is no service {name}; the services are {', '.join(known)}")
