"""What the `bazaar` command asks of the supervisor, with the secret: to show the bazaar, and to break it."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import FastAPI, Path
from pydantic import BaseModel

from services.cluster.child import Child, State
from services.cluster.errors import CannotDo
from services.cluster.status import ProcessView, Snapshot
from services.cluster.supervisor import Action, Supervisor
from services.common.app import make_app, responses
from services.common.errors import NotFound
from services.common.metrics import Metrics

FOR_SERVICE = responses(CannotDo.code, NotFound.code)


class ActionAnswer(BaseModel):
    """The service after the action."""

    name: str
    state: State
    pid: int | None


def create_control(supervisor: Supervisor, look: Callable[[], Awaitable[Snapshot]], secret: str) -> FastAPI:
    """The commands' side of the supervisor's listener; `look` takes a snapshot. For people: services/control_room."""
    app = make_app("The bazaar's control room", ready=lambda: None, metrics=Metrics(), secret=secret)

    @app.get("/status")
    async def status() -> Snapshot:
        """How every service is."""
        return await look()

    @app.post("/services/{name}/{action}", responses=FOR_SERVICE)
    async def act(name: Annotated[str, Path(max_length=64)], action: Action) -> ActionAnswer:
        """Kill, pause, resume or start one service; answers when that is done."""
        child = await supervisor.act(name, action)
        return ActionAnswer(name=child.name, state=child.state, pid=child.pid)

    return app


def process_view(child: Child) -> ProcessView:
    """What the supervisor knows of a child."""
    uptime_s = child.uptime_s
    return ProcessView(
        pid=child.pid,
        state=child.state,
        uptime_s=round(uptime_s, 3) if uptime_s is not None else None,
        restarts=child.restarts,
        reason=child.reason or child.missing,
        strike=child.strike,
    )
