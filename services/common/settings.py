"""The settings of each service: flags (`--port 8010`), else environment (`BAZAAR_PORT=8010`), else defaults."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.common.durability import Durability
from services.common.tls import TlsFiles

MAX_REPLICAS = 9

_URL = re.compile(r"(https?://[^\s/,]+)/?", re.ASCII)
_ADDRESS = re.compile(r"(\d+)=(https?://[^\s/]+)/?", re.ASCII)


def _addresses(value: object) -> object:
    """Read `1=http://host:port,2=http://host:port`; anything that is no text is left to pydantic."""
    if not isinstance(value, str):
        return value
    addresses: dict[int, str] = {}
    for pair in value.split(","):
        match = _ADDRESS.fullmatch(pair)
        if match is None:
            raise ValueError("write 1=http://host:port,2=http://host:port")
        replica_id = int(match[1])
        if not 1 <= replica_id <= MAX_REPLICAS:
            raise ValueError(f"a replica's id is a number from 1 to {MAX_REPLICAS}")
        if replica_id in addresses:
            raise ValueError(f"replica {replica_id} stands twice")
        addresses[replica_id] = match[2]
    return addresses


def _urls(value: object) -> object:
    """Read `http://a:1,http://b:2`; anything that is no text is left to pydantic."""
    if not isinstance(value, str):
        return value
    urls: list[str] = []
    for part in filter(None, map(str.strip, value.split(","))):
        match = _URL.fullmatch(part)
        if match is None:
            raise ValueError("write http://host:port, or several with commas between")
        urls.append(match[1])
    if not urls:
        raise ValueError("write http://host:port, or several with commas between")
    return urls


def _ids(value: object) -> object:
    """Read `1,3`; anything that is no text is left to pydantic."""
    return [int(part) for part in value.split(",") if part] if isinstance(value, str) else value


Addresses = Annotated[dict[int, str], NoDecode, BeforeValidator(_addresses)]
Urls = Annotated[list[str], NoDecode, BeforeValidator(_urls)]
Ids = Annotated[list[int], NoDecode, BeforeValidator(_ids)]
Port = Annotated[int, Field(ge=0, le=65_535, description="port to listen on")]


_SQLITE = re.compile(r"sqlite:///(.+)", re.DOTALL)
_ETCD = re.compile(r"etcd(s?)://([^\s,/]+:\d+(?:,[^\s,/]+:\d+)*)(?:/([A-Za-z0-9._-]+))?/?", re.ASCII)

STORE_FORMS = "sqlite:///PATH or etcd://host:port,host:port,host:port (etcds:// with TLS)"


def _store(value: object) -> object:
    """Check `sqlite:///PATH` or `etcd://host:port,host:port`, with TLS or without; what is no text goes to pydantic."""
    if not isinstance(value, str) or _SQLITE.fullmatch(value) or _ETCD.fullmatch(value):
        return value
    raise ValueError(f"write {STORE_FORMS}")


StoreUrl = Annotated[str, BeforeValidator(_store)]


class ServiceSettings(BaseSettings):
    """What every service is told."""

    model_config = SettingsConfigDict(
        env_prefix="BAZAAR_", cli_kebab_case=True, cli_implicit_flags=True, cli_hide_none_type=True, extra="forbid"
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port
    data_dir: Path = Field(Path("data"), description="folder of the database files and the internal secret")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged, and above")
    secret_file: Path | None = Field(
        None, description="file of the internal secret, which must exist; by default `secret` in the data folder"
    )
    tls_certificate: Path | None = Field(None, description="certificate (PEM) for internal traffic: with it, https://")
    tls_key: Path | None = Field(None, description="its private key (PEM)")
    tls_authority: Path | None = Field(None, description="certificate (PEM) of the authority that others must have")

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        files = (self.tls_certificate, self.tls_key, self.tls_authority)
        if any(files) and not all(files):
            raise ValueError("--tls-certificate, --tls-key and --tls-authority go together: give all three or none")
        return self

    @property
    def tls(self) -> TlsFiles | None:
        """The files for internal traffic; None when it is plain HTTP."""
        if self.tls_certificate is None or self.tls_key is None or self.tls_authority is None:
            return None
        return TlsFiles(self.tls_certificate, self.tls_key, self.tls_authority)


DurabilityField = Annotated[
    Durability, Field(description="disk: a commit is fsynced; process: it outlives processes, not the machine's power")
]


class CatalogSettings(ServiceSettings):
    """The catalog's settings."""

    port: Port = 8010
    replicas: Addresses = Field(description="every order replica: 1=http://host:port,2=http://host:port")
    stocks: Path | None = Field(None, description="CSV file of the initial stocks, read by a new bazaar only")
    lost: Ids = Field(default_factory=list, description="replicas that are gone for good: rebuild without them")
    durability: DurabilityField = "disk"
    store: StoreUrl | None = Field(
        None,
        description="where the state is kept: sqlite:///PATH (catalog.db in the data folder by default), or "
        "etcd://host:port,host:port,host:port[/PREFIX], which any number of catalogs share; etcds:// with TLS, and the "
        "same certificate as for internal traffic",
    )

    @model_validator(mode="after")
    def _check_store(self) -> Self:
        if (self.store or "").startswith("etcds://") and self.tls is None:
            raise ValueError("etcds:// needs --tls-certificate, --tls-key and --tls-authority")
        return self

    @property
    def database(self) -> Path:
        """The file of the embedded store."""
        match = _SQLITE.fullmatch(self.store or "")
        return self.data_dir / "catalog.db" if match is None else Path(match[1])

    @property
    def etcd(self) -> tuple[list[str], str] | None:
        """The addresses of etcd and the prefix of our keys in it; None when the store is the embedded one."""
        match = _ETCD.fullmatch(self.store or "")
        if match is None:
            return None
        secure, nodes, prefix = match.groups()
        return [f"http{secure}://{each}" for each in nodes.split(",")], prefix or "bazaar"


class OrderSettings(ServiceSettings):
    """The settings of one order replica."""

    port: Port = 8011
    replica_id: int = Field(ge=1, le=MAX_REPLICAS, description="unique id of this replica")
    catalog: Urls = Field(
        ["http://127.0.0.1:8010"], description="address of the catalog, or of several: first choice first"
    )
    replicas: Addresses = Field(description="every order replica, this one included")
    durability: DurabilityField = "disk"


class FrontEndSettings(ServiceSettings):
    """The settings of one front-end."""

    port: Port = 8000
    name: str = Field("front-end-1", description="name of this front-end in logs and in the replicas' status")
    internal_host: str = Field("127.0.0.1", description="address of the internal listener")
    internal_port: Port = Field(8021, description="port of the internal listener")
    advertised_url: str | None = Field(
        None, description="where the catalog reaches this process alone; by default the internal listener's address"
    )
    catalog: Urls = Field(
        ["http://127.0.0.1:8010"], description="address of the catalog, or of several: first choice first"
    )
    replicas: Addresses = Field(description="every order replica: 1=http://host:port,2=http://host:port")
    cache_size: int = Field(10, ge=0, le=1_000_000, description="how many stocks the cache holds; 0 turns it off")
    max_trades: int = Field(1_000, ge=1, description="trades in flight; more are answered 503")
    refused_trades_per_s: float = Field(
        100.0, ge=0, allow_inf_nan=False, description="refused trades of one client address; beyond: 429; 0: no limit"
    )
    refused_trades_burst: int = Field(1_000, ge=1, description="so many at once, before the rate counts")
    max_connections: int = Field(1_000, ge=1, description="public connections; more are answered 503")
    max_requests: int = Field(2_000, ge=1, description="public requests in flight; more are answered 503")
    max_head_bytes: int = Field(16_384, ge=1_024, description="URL and headers of a public request; beyond: 414, 431")
    max_body_bytes: int = Field(65_536, ge=1_024, description="body of a public request; beyond: 413")
    arrival_timeout_s: float = Field(
        9.0, gt=0, le=3_600, description="for a public request's head, and its body, to arrive; beyond: 408, closed"
    )
    idle_timeout_s: float = Field(75.0, gt=0, le=3_600, description="for the next request to begin; beyond: closed")

    @property
    def internal_url(self) -> str:
        """Where the catalog reaches this front-end."""
        scheme = "http" if self.tls is None else "https"
        return self.advertised_url or f"{scheme}://{self.internal_host}:{self.internal_port}"
