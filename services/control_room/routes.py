"""What the page asks for. It parses, calls and shapes the answer; it decides nothing."""

from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import Depends, FastAPI, Path
from fastapi.responses import FileResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.staticfiles import StaticFiles

from services.cluster.control import ActionAnswer
from services.cluster.supervisor import Action
from services.common.models import CacheSwitch
from services.control_room.calls import CallAnswer, CallRequest
from services.control_room.load import LoadRequest, LoadView
from services.control_room.room import Room, Welcome

PAGE = FilePath(__file__).parent / "page"
RETRY_MS = 1_000

Name = Annotated[str, Path(max_length=64)]


def add_page(app: FastAPI) -> None:
    """The page itself: files, no build step, nothing from elsewhere."""
    app.mount("/room/page", StaticFiles(directory=PAGE), name="page")

    @app.get("/")
    async def page() -> Response:
        """The page."""
        return FileResponse(PAGE / "index.html")


def add_room_routes(app: FastAPI, room: Room) -> None:
    """What the page shows and what its buttons do."""

    async def may_watch() -> None:
        room.streams.check()

    @app.get("/room/stream", response_class=EventSourceResponse, dependencies=[Depends(may_watch)])
    async def stream() -> AsyncIterator[ServerSentEvent]:
        """Everything the page shows, as it happens: `welcome` once, then `snapshot`, `story` and `load`."""
        yield _event("welcome", room.welcome)
        yield _event("load", room.load.view)
        async for kind, text in room.streams.follow():
            yield ServerSentEvent(event=kind, raw_data=text)

    @app.post("/room/services/{name}/{action}")
    async def act(name: Name, action: Action) -> ActionAnswer:
        """Kill, pause, resume or start one service; answers when that is done."""
        return await room.act(name, action)

    @app.post("/room/caches/{name}")
    async def switch_cache(name: Name, wish: CacheSwitch) -> CacheSwitch:
        """Turn a front-end's cache on or off."""
        return CacheSwitch(on=await room.switch_cache(name, on=wish.on))

    @app.post("/room/load")
    async def start_load(request: LoadRequest) -> LoadView:
        """Start the load client."""
        return room.load.start(request)

    @app.delete("/room/load")
    async def stop_load() -> LoadView:
        """Tell the load client to come to an end."""
        return room.load.stop()

    @app.post("/room/calls")
    async def call(wanted: CallRequest) -> CallAnswer:
        """Make one request to a front-end, as a customer would."""
        return await room.calls.make(wanted)


def _event(kind: str, message: Welcome | LoadView) -> ServerSentEvent:
    return ServerSentEvent(event=kind, raw_data=message.model_dump_json(), retry=RETRY_MS)
