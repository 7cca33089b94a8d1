"""The file behind `bazaar up --routes`: who reaches whom by another address than that where it listens.

JSON, caller to target to address: `{"front-end-1": {"catalog": "http://127.0.0.1:9001"}}`. What is not in it is
reached directly. It is how an experiment puts itself between the processes.
"""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.cluster.errors import UsageError
from services.cluster.topology import Routes

_ROUTES = TypeAdapter(Routes)


def read_routes(path: Path) -> Routes:
    """The routes in a file; whether such services exist is checked later. Raises UsageError."""
    try:
        return _ROUTES.validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"--routes {path}: {error.strerror}") from error
    except ValidationError as error:
        raise UsageError(f"--routes {path}: must be JSON, caller to target to address") from error


def write_routes(path: Path, routes: Routes) -> None:
    """Write a file that `read_routes` reads."""
    path.write_bytes(_ROUTES.dump_json(routes, indent=2))
