"""What is known of one service: its process, and what it says of itself."""

from pydantic import BaseModel, Field

from services.cluster.child import State, Strike
from services.common.models import CacheState, Head, LeaderChange


class ProcessView(BaseModel):
    """What is known of a service's process. `reason`: why it is down, failed or not ready yet."""

    pid: int | None = None
    state: State
    uptime_s: float | None = None
    restarts: int | None = None
    reason: str | None = None
    strike: Strike | None = None


class ServiceView(BaseModel):
    """One service: its process, and what it says of itself; what it does not say, now or ever, is null."""

    name: str
    host: str | None = Field(None, exclude_if=lambda host: host is None)  # with several: which of them runs it
    pid: int | None
    url: str
    state: State
    role: str | None = None  # catalog, leader, follower, front-end; null for a replica that does not answer
    head: Head | None = None
    leader: int | None = None  # front-ends only: their choice
    level: bool | None = None  # replicas only
    lag: int | None = None  # replicas only: positions behind the catalog
    generation: int | None = None
    cache: CacheState | None = None  # front-ends only
    uptime_s: float | None
    restarts: int | None
    reason: str | None
    strike: Strike | None = None
    changes: list[LeaderChange] = Field(default_factory=list, exclude=True)  # front-ends only
