"""Composition root of the supervisor's listener: one application for commands, with the secret, one for the page."""

from starlette.types import ASGIApp, Receive, Scope, Send

from services.cluster.control import create_control
from services.cluster.supervisor import Supervisor
from services.common.app import App, make_app
from services.common.metrics import Metrics
from services.control_room.door import Door
from services.control_room.room import Room
from services.control_room.routes import add_page, add_room_routes

MOST_REQUESTS = 100


def create_listener(room: Room, supervisor: Supervisor, secret: str, host: str) -> ASGIApp:
    """Both applications behind one port; `host` is the name or address it listens on."""
    return _Both(create_page(room, host), create_control(supervisor, room.watch.look, secret))


def create_page(room: Room, host: str) -> App:
    """The page's side. Whatever changes something needs the room's token."""
    app = make_app(
        "The bazaar's control room",
        ready=lambda: None,
        metrics=Metrics(),
        max_requests=MOST_REQUESTS,
        with_docs=False,
    )
    app.add_door(Door, room.token, host)
    add_page(app)
    add_room_routes(app, room)
    return app


class _Both:
    """Sends a request where it belongs: the page is `/` and all below `/room/`."""

    def __init__(self, page: ASGIApp, commands: ASGIApp) -> None:
        self._page = page
        self._commands = commands

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        app = self._page if path == "/" or path.startswith("/room/") else self._commands
        await app(scope, receive, send)
