"""The parts of the control room, and what its buttons do."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from pydantic import BaseModel

from services.cluster.control import ActionAnswer
from services.cluster.errors import CannotDo
from services.cluster.links import words
from services.cluster.supervisor import Action, Supervisor
from services.cluster.topology import Cluster
from services.common.background import background
from services.common.errors import NotFound
from services.common.http import Peer, PeerAnswered, PeerError, make_client
from services.common.models import CacheState, CacheSwitch
from services.common.runtime import Runtime
from services.control_room.calls import Calls
from services.control_room.load import LoadControl, LoadView
from services.control_room.streams import Streams
from services.control_room.watch import Watch

SWITCH_S = 5.0


class Welcome(BaseModel):
    """What a page is told first: the token for its buttons, and the public addresses of the front-ends."""

    token: str
    public: dict[str, str]


class Room:
    """The watch, the load and the calls over one supervisor. `client` knows the secret, `env` is the load client's."""

    def __init__(
        self, cluster: Cluster, supervisor: Supervisor, client: httpx.AsyncClient, env: Mapping[str, str]
    ) -> None:
        self.token = secrets.token_urlsafe(32)
        self.watch = Watch(cluster, supervisor, client)
        front_ends = cluster.of("front-end")
        public = {each.name: each.url for each in front_ends}
        self.welcome = Welcome(token=self.token, public=public)
        self.load = LoadControl(list(public.values()), env, self._tell_load)
        self._customer = make_client(Runtime())
        self.calls = Calls(public, self._customer)
        self._supervisor = supervisor
        self._inside = {each.name: Peer(client, each.internal_url) for each in front_ends}

    @property
    def streams(self) -> Streams:
        """Those who watch."""
        return self.watch.streams

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Look at the bazaar during the body; at its end the load is over."""
        async with self._customer, background(Runtime(), self.watch.run()):
            try:
                yield
            finally:
                await self.load.close()

    async def act(self, name: str, action: Action) -> ActionAnswer:
        """Kill, pause, resume or start one service. Raises NotFound and CannotDo."""
        child = await self._supervisor.act(name, action)
        return ActionAnswer(name=child.name, state=child.state, pid=child.pid)

    async def switch_cache(self, name: str, *, on: bool) -> bool:
        """Turn a front-end's cache on or off; whether it is on now. Raises NotFound and CannotDo."""
        peer = self._inside.get(name)
        if peer is None:
            raise NotFound(f"there is no such front-end; there are {', '.join(self._inside)}")
        try:
            cache = await peer.call("/cache", CacheState, CacheSwitch(on=on), timeout_s=SWITCH_S)
        except PeerAnswered as error:
            raise CannotDo(words(error)) from error
        except PeerError as error:
            raise CannotDo(f"{name} does not answer") from error
        self.watch.note(name, f"turned its cache {'on: it begins empty' if cache.on else 'off'}")
        return cache.on

    def _tell_load(self, view: LoadView, text: str | None) -> None:
        if text is not None:
            self.watch.note("load", text)
        self.streams.publish("load", view.model_dump_json())
