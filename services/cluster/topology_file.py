"""The topology file: which service of a bazaar runs on which host. TOML, the same file on every host.

docs/examples/topology.toml is one, explained. Nothing is guessed: what is not known, missing or contradicts itself is
refused in a line that names the file, the place in it, and what to do. Paths are relative to the file's folder, and
`{host}` in them is the name of the host that reads it.
"""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from services.cluster.errors import UsageError
from services.cluster.topology import KINDS, Cluster, Restart, Service, Settings, control_url, url_at
from services.cluster.topology_faults import problems, words
from services.cluster.topology_parts import TABLES, FrontEnd, Topology, control_address
from services.common.tls import TlsFiles


def read_topology(path: Path) -> Topology:
    """What a file says. Raises UsageError."""
    try:
        topology = Topology.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"--topology {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is no UTF-8; write the file anew as UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: this is no TOML: {error}") from error
    except ValidationError as error:
        raise UsageError("\n".join(f"{path}: {words(problem)}" for problem in error.errors()[:5])) from error
    problem = next(problems(topology), None)
    if problem is not None:
        raise UsageError(f"{path}: {problem}")
    return topology


def plan_host(
    topology: Topology, path: Path, host: str, *, restart: Restart = "always", lost: Sequence[int] = ()
) -> Cluster:
    """The bazaar as `host` sees it."""
    base = path.absolute().parent
    scheme = "http" if topology.tls is None else "https"
    address, port = control_address(topology.hosts[host].control)

    def file(name: str) -> Path:
        return base / name.replace("{host}", host)

    settings = Settings(
        replicas=len(topology.replicas),
        front_ends=len(topology.front_ends),
        cache_size=topology.cache_size,
        durability=topology.durability,
        catalog=None if topology.stocks is None else file(topology.stocks),
        restart=restart,
        lost=list(lost),
        control_host=address,
        store=topology.store,
        secret_file=None if topology.secret_file is None else file(topology.secret_file),
        tls=None
        if topology.tls is None
        else TlsFiles(file(topology.tls.certificate), file(topology.tls.key), file(topology.tls.authority)),
    )
    services = sorted(_services(topology, scheme), key=lambda each: (KINDS.index(each.kind), each.id))
    return Cluster(
        settings=settings,
        services=services,
        control=control_url(address, port),
        host=host,
        topology=path.absolute(),
    )


def _services(topology: Topology, scheme: str) -> Iterator[Service]:
    for table, _, each in topology.placed():
        host = topology.hosts[each.host]
        internal = each.internal_port if isinstance(each, FrontEnd) else each.port
        internal_url = url_at(host.address, internal, scheme)
        yield Service(
            name=topology.name_of(table, each.id),
            kind=TABLES[table][0],
            id=each.id,
            # The public API is plain HTTP: TLS for customers is the business of a proxy in front.
            url=url_at(host.address, each.port) if isinstance(each, FrontEnd) else internal_url,
            internal_url=internal_url,
            host=each.host,
            listen=host.listen,
        )
