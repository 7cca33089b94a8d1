"""What stands in a topology file: its tables and keys, each of its own type. How a file is read: topology_file.py."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.cluster.topology import END_OF_PORTS, FIRST_PORT, MAX_SERVICES, Kind
from services.common.durability import Durability

ADDRESS = r"^[A-Za-z0-9.:-]{1,253}$"
CONTROL = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})")
TABLES: Mapping[str, tuple[Kind, str]] = {
    "catalogs": ("catalog", "catalog"),
    "replicas": ("order", "order"),
    "front_ends": ("front-end", "front-end"),
}
"""The arrays of tables, with the kind of service each holds and how these are called."""

Address = Annotated[str, Field(pattern=ADDRESS)]
Id = Annotated[int, Field(ge=1, le=MAX_SERVICES)]
Port = Annotated[int, Field(ge=FIRST_PORT, lt=END_OF_PORTS)]
Name = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    """A table of the file: every key is known, and of its own type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Host(_Part):
    """A machine. `address` is where others reach it, also under `names`; `listen` where it listens, if elsewhere."""

    address: Address
    listen: Address | None = None
    names: list[Address] = []
    control: str = "127.0.0.1:8009"


class Placed(_Part):
    """A service on a host."""

    id: Id
    host: Name
    port: Port


class FrontEnd(Placed):
    """With two listeners: for customers and, at `internal_port`, for the other services."""

    internal_port: Port


class Tls(_Part):
    """Files for the traffic between services."""

    authority: Name
    certificate: Name
    key: Name


class Topology(_Part):
    """A whole file."""

    store: str | None = None
    stocks: Name | None = None
    cache_size: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    durability: Durability = "disk"
    secret_file: Name | None = None
    tls: Tls | None = None
    hosts: dict[str, Host]
    catalogs: list[Placed]
    replicas: list[Placed]
    front_ends: list[FrontEnd]

    def addresses(self, name: str) -> list[str]:
        """Under which addresses and names a host is reached; what its certificate must be good for."""
        host = self.hosts[name]
        return list(dict.fromkeys([host.address, *host.names, name]))

    def placed(self) -> Iterator[tuple[str, int, Placed]]:
        """Every service, with the table it stands in and its place there, in the order of their start."""
        for table in TABLES:
            for place, each in enumerate(getattr(self, table), 1):
                yield table, place, each

    def name_of(self, table: str, service_id: int) -> str:
        """How a service is called: an only catalog has no number, as on one machine."""
        _, name = TABLES[table]
        return name if table == "catalogs" and len(self.catalogs) == 1 else f"{name}-{service_id}"


def control_address(text: str) -> tuple[str, int]:
    """The address and port of a control room. Raises ValueError."""
    match = CONTROL.fullmatch(text)
    if match is None or not FIRST_PORT <= int(match[3]) < END_OF_PORTS:
        raise ValueError(text)
    return match[1] or match[2], int(match[3])
