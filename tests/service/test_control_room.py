"""The control room's page side: over processes of the test's own, with nobody behind their ports."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cluster.child import Child
from services.cluster.status import Snapshot
from services.cluster.supervisor import Supervisor
from services.cluster.topology import Cluster, Settings, plan
from services.common.http import SECRET_HEADER, make_client
from services.common.runtime import Runtime
from services.common.server import Listener
from services.control_room.app import create_listener
from services.control_room.door import TOKEN_HEADER
from services.control_room.history import Story
from services.control_room.room import Room, Welcome
from services.control_room.watch import now_ms
from tests.support.fake_time import until
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port, free_ports
from tests.support.serving import serving

SECRET = "a-secret-of-the-tests"
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


class Page:
    """A page in a browser, in a few lines."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.token = ""

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        """Open the stream; gives its events as they come."""
        async with self.http.stream("GET", "/room/stream") as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            yield _events(response)

    async def learn_token(self) -> Welcome:
        async with self.stream() as events:
            kind, data = await anext(events)
        assert kind == "welcome"
        welcome = Welcome.model_validate(data)
        self.token = welcome.token
        return welcome

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        told = {TOKEN_HEADER: self.token, **headers}
        return await self.http.request(method, path, json=body, headers=told)


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    kind = ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


async def first(events: AsyncIterator[tuple[str, Any]], wanted: str) -> Any:
    """The next message of this kind."""
    async for kind, data in events:
        if kind == wanted:
            return data
    raise AssertionError(f"the stream ended without a {wanted}")


class Stage:
    """The room, its supervisor and a page."""

    def __init__(self, room: Room, supervisor: Supervisor, page: Page, url: str) -> None:
        self.room = room
        self.supervisor = supervisor
        self.page = page
        self.url = url


def supervise(cluster: Cluster, folder: Path) -> Supervisor:
    async def probe() -> str | None:
        return None

    return Supervisor(
        [[Child(each.name, SLEEPER, log=folder / "log", env=os.environ, probe=probe) for each in cluster.services]]
    )


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    cluster = plan(Settings(port=free_ports()))
    supervisor = supervise(cluster, folder)
    async with make_client(Runtime(), {SECRET_HEADER: SECRET}) as client:
        room = Room(cluster, supervisor, client, os.environ)
        app = create_listener(room, supervisor, SECRET, "127.0.0.1")
        listener = Listener(app, "127.0.0.1", free_port(), drain_s=1.0)
        async with serving(listener, on_stop=room.streams.close) as (ports, _):
            url = f"http://127.0.0.1:{ports[0]}"
            async with supervisor.running(), room.open(), httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
                await supervisor.wait_settled()
                yield Stage(room, supervisor, Page(http), url)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with asyncio.timeout(PATIENCE_S), staged(tmp_path) as made:
        yield made


# The page and its stream.


async def test_page_and_all_its_parts_come_from_here(stage: Stage) -> None:
    page = await stage.page.http.get("/")
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("style.css", "app.js", "show.js", "plots.js", "icon.svg"):
        part = await stage.page.http.get(f"/room/page/{name}")
        assert part.status_code == 200
        assert "https://" not in part.text
    assert "://" not in page.text


async def test_stream_begins_with_a_welcome_and_goes_on_with_snapshots_and_the_story(stage: Stage) -> None:
    seen: dict[str, Any] = {}
    async with stage.page.stream() as events:
        kind, _ = await anext(events)
        assert kind == "welcome"
        async for kind, data in events:
            seen[kind] = data
            if {"load", "snapshot", "story"} <= set(seen):
                break
    snapshot = Snapshot.model_validate(seen["snapshot"])
    assert [each.name for each in snapshot.services] == ["catalog", "order-1", "order-2", "order-3", "front-end-1"]
    assert snapshot.health.condition == "down"
    assert set(Story.model_validate(seen["story"]).timeline) == {each.name for each in snapshot.services}


async def test_page_and_command_are_told_the_same(stage: Stage) -> None:
    told = await stage.page.http.get("/status", headers={SECRET_HEADER: SECRET})
    by_command = Snapshot.model_validate_json(told.content)
    async with stage.page.stream() as events:
        by_page = Snapshot.model_validate(await first(events, "snapshot"))
    assert by_page.health == by_command.health
    assert [each.pid for each in by_page.services] == [each.pid for each in by_command.services]


async def test_stream_is_refused_when_too_many_watch_already(stage: Stage) -> None:
    stage.room.streams.most = 1
    async with stage.page.stream() as events:
        await anext(events)
        await first(events, "snapshot")
        refused = await stage.page.http.get("/room/stream")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, 503)


async def test_streams_end_at_once_when_the_listener_stops(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with staged(tmp_path) as stage:
            stream = asyncio.create_task(_read_all(stage.url))
            await until(lambda: stage.room.streams.count)
        await stream


async def _read_all(url: str) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as http, http.stream("GET", f"{url}/room/stream") as response:
        async for _ in response.aiter_bytes():
            pass


async def test_nobody_is_counted_as_watching_when_the_page_was_closed(stage: Stage) -> None:
    async with stage.page.stream() as events:
        await first(events, "snapshot")
        assert stage.room.streams.count == 1
    await until(lambda: not stage.room.streams.count)


# What the buttons do.


async def test_service_is_killed_and_started_again_when_the_page_asks(stage: Stage) -> None:
    await stage.page.learn_token()
    child = stage.supervisor.children["order-3"]
    old = child.pid
    answer = await stage.page.send("POST", "/room/services/order-3/kill")
    assert (answer.status_code, answer.json()) == (200, {"name": "order-3", "state": "down", "pid": None})
    assert child.strike is not None
    assert child.strike.how == "was killed"
    answer = await stage.page.send("POST", "/room/services/order-3/start")
    assert answer.status_code == 200
    assert answer.json()["pid"] not in {None, old}


async def test_service_is_paused_and_goes_on_when_the_page_asks(stage: Stage) -> None:
    await stage.page.learn_token()
    for action, state in (("pause", "paused"), ("resume", "running")):
        answer = await stage.page.send("POST", f"/room/services/order-1/{action}")
        assert (answer.status_code, answer.json()["state"]) == (200, state)


async def test_blow_is_told_with_the_moment_it_fell_and_what_follows_with_its_own(stage: Stage) -> None:
    await stage.page.learn_token()
    await stage.page.send("POST", "/room/services/order-3/kill")
    strike = stage.supervisor.children["order-3"].strike
    assert strike is not None
    await until(lambda: now_ms() > strike.at_ms + 1)
    for text in ("was killed by the operator and stays down", "was started by the operator"):
        stage.room.watch.note("order-3", text)
    later, first_one = stage.room.watch.history.events(2)
    assert (first_one.text, first_one.at_ms) == ("order-3 was killed by the operator and stays down", strike.at_ms)
    assert later.at_ms > strike.at_ms


ACTIONS = [
    ("POST", "/room/services/order-3/kill", None),
    ("POST", "/room/caches/front-end-1", {"on": False}),
    ("POST", "/room/load", {"clients": 1, "p": 0.1, "seconds": 1}),
    ("DELETE", "/room/load", None),
    ("POST", "/room/calls", {"what": "look_up", "name": "GameStart"}),
]


@pytest.mark.parametrize(("method", "path", "body"), ACTIONS)
async def test_nothing_is_done_when_the_token_is_missing_or_of_another_run(
    stage: Stage, method: str, path: str, body: Any
) -> None:
    pid = stage.supervisor.children["order-3"].pid
    for token in ("", "of-another-run"):
        stage.page.token = token
        answer = await stage.page.send(method, path, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, 403)
    assert stage.supervisor.children["order-3"].pid == pid
    assert stage.room.load.view.state == "idle"


async def test_nothing_is_done_when_another_page_asks_that_knows_the_token(stage: Stage) -> None:
    await stage.page.learn_token()
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = await stage.page.send("POST", "/room/services/order-3/kill", **headers)
        assert answer.status_code == 403
    assert stage.supervisor.children["order-3"].pid is not None


async def test_token_opens_no_door_to_the_commands(stage: Stage) -> None:
    await stage.page.learn_token()
    assert (await stage.page.send("GET", "/status")).status_code == 403
    assert (await stage.page.send("POST", "/services/order-3/kill")).status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("POST", "/room/services/order-9/kill", None, 404),
        ("POST", "/room/services/order-1/explode", None, 422),
        ("POST", "/room/services/order-1/resume", None, 200),
        ("POST", "/room/caches/front-end-9", {"on": True}, 404),
        ("POST", "/room/caches/front-end-1", {"on": True}, 409),  # it does not answer
        ("POST", "/room/load", {"clients": 51}, 422),
        ("POST", "/room/load", {"clients": 0}, 422),
        ("POST", "/room/load", {"p": 1.5}, 422),
        ("POST", "/room/load", {"seconds": 601}, 422),
        ("POST", "/room/load", {"seconds": 10, "iterations": 1}, 422),
        ("POST", "/room/calls", {"what": "delete"}, 422),
        ("POST", "/room/calls", {"what": "look_up", "name": "x" * 65}, 422),
        ("POST", "/room/calls", {"what": "look_up", "front_end": "http://evil.example"}, 404),
        ("GET", "/room/nothing", None, 404),
        ("GET", "/room/page/../app.py", None, 404),
        ("GET", "/room/page/%2e%2e/app.py", None, 404),
    ],
)
async def test_request_is_answered_in_the_one_shape_when_it_makes_no_sense(
    stage: Stage, method: str, path: str, body: Any, code: int
) -> None:
    await stage.page.learn_token()
    answer = await stage.page.send(method, path, body)
    assert answer.status_code == code
    if code != 200:
        assert answer.json()["error"]["code"] == code


async def test_call_shows_what_was_sent_when_nobody_answers(stage: Stage) -> None:
    await stage.page.learn_token()
    wanted = {"what": "buy", "name": "GameStart", "quantity": 3, "key": "mine-1"}
    answer = (await stage.page.send("POST", "/room/calls", wanted)).json()
    lines = answer["request"].splitlines()
    assert lines[0] == "POST /orders HTTP/1.1"
    assert "Idempotency-Key: mine-1" in lines
    assert json.loads(lines[-1]) == {"name": "GameStart", "type": "buy", "quantity": 3}
    assert answer["status"] is None
    assert answer["answer"].startswith("no answer")


# The load.


async def test_only_one_load_runs_at_a_time_and_its_end_is_told(stage: Stage) -> None:
    await stage.page.learn_token()
    wanted = {"clients": 2, "p": 0.5, "seconds": 600}
    async with stage.page.stream() as events:
        assert (await stage.page.send("POST", "/room/load", wanted)).json()["state"] == "running"
        assert (await stage.page.send("POST", "/room/load", wanted)).status_code == 409
        await stage.page.send("DELETE", "/room/load")
        data = await first(events, "load")
        while data["result"] is None:
            data = await first(events, "load")
    assert data["state"] == "idle"
    assert data["passed"] is not True, "there was no bazaar to trade with"
    texts = [event.text for event in stage.room.watch.history.events(10)]
    assert any(text.startswith("load ended") for text in texts)
    assert "load started: 2 clients, p = 0.5, 600 s" in texts
