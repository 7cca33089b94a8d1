"""Starting, stopping, signals and ports of the runner that every service uses."""

import asyncio
import os
import resource
import signal
import socket
import sys
import textwrap
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from services.common.server import CannotListen, Listener, serve
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_port
from tests.support.serving import GET, App, connection, on_uvloop, served, serving

ROOT = Path(__file__).parents[2]


async def _is_refused(port: int) -> bool:
    try:
        async with connection(port):
            return False
    except ConnectionRefusedError:
        return True


async def _until_refused(port: int, *, is_refused: bool = True) -> None:
    while await _is_refused(port) is not is_refused:  # noqa: ASYNC110 - a port tells nobody when it opens
        await asyncio.sleep(0.01)


@on_uvloop
async def test_listeners_start_in_order_and_stop_in_reverse_when_there_are_two() -> None:
    notes: list[str] = []
    listeners = [Listener(App(name, notes), "127.0.0.1", free_port()) for name in ("first", "second")]
    async with serving(*listeners, on_stop=lambda: notes.append("stop")) as (ports, _):
        assert ports == (listeners[0].port, listeners[1].port)
        assert not await _is_refused(ports[0])
        assert not await _is_refused(ports[1])
    assert notes == ["first startup", "second startup", "stop", "second shutdown", "first shutdown"]


@on_uvloop
async def test_first_listener_answers_when_the_second_is_stopping() -> None:
    first, second = App(), App()
    gate = asyncio.Event()
    second.before_answer = gate.wait
    listeners = [Listener(app, "127.0.0.1", free_port()) for app in (first, second)]
    async with serving(*listeners) as (ports, task), connection(ports[1]) as busy:
        await busy.send(GET)
        await second.was_asked.wait()
        task.cancel()
        await _until_refused(ports[1])
        async with connection(ports[0]) as client:
            await client.send(GET)
            assert (await client.answer())[0] == 200
        gate.set()
        status, headers, _ = await busy.answer()
        assert (status, headers["connection"]) == (200, "close")


@on_uvloop
async def test_connection_is_refused_when_the_application_is_still_starting_up() -> None:
    gate = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await App()(scope, receive, send)

    listener = Listener(slow, "127.0.0.1", free_port())
    task = asyncio.create_task(serve(listener))
    await asyncio.sleep(0.05)
    assert await _is_refused(listener.port)
    gate.set()
    await _until_refused(listener.port, is_refused=False)
    task.cancel()
    await asyncio.wait([task])


@on_uvloop
async def test_startup_is_cancelled_and_the_rest_stopped_when_told_to_stop_too_early() -> None:
    notes: list[str] = []
    is_waiting = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        try:
            is_waiting.set()
            await asyncio.Event().wait()
        finally:
            notes.append("endless ended")

    listeners = [Listener(app, "127.0.0.1", free_port()) for app in (App("first", notes), endless)]
    task = asyncio.create_task(serve(*listeners))
    await is_waiting.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await task
    assert notes == ["first startup", "endless ended", "first shutdown"]


@on_uvloop
async def test_signal_is_left_to_the_caller_when_it_says_so() -> None:
    caught = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, caught.set)
    async with serving(Listener(App(), "127.0.0.1", free_port()), catch_signals=False) as (_, task):
        os.kill(os.getpid(), signal.SIGTERM)
        await caught.wait()
        assert not task.done()
    os.kill(os.getpid(), signal.SIGTERM)
    caught.clear()
    await caught.wait()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


@on_uvloop
async def test_error_is_raised_and_the_rest_stopped_when_a_startup_fails() -> None:
    notes: list[str] = []

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no such thing")

    listeners = [Listener(app, "127.0.0.1", free_port()) for app in (App("first", notes), broken)]
    with pytest.raises(LookupError, match="no such thing"):
        await serve(*listeners)
    assert notes == ["first startup", "first shutdown"]


@on_uvloop
async def test_nothing_starts_when_one_of_the_ports_is_in_use() -> None:
    app = App()
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"cannot listen on 127\.0\.0\.1 port {port}: Address already in use"):
            await serve(Listener(app, "127.0.0.1", free_port()), Listener(app, "127.0.0.1", port))
    assert app.notes == []


@on_uvloop
async def test_port_can_be_taken_over_at_once_when_the_server_before_has_stopped() -> None:
    port = free_port()
    for _ in range(3):
        async with serving(Listener(App(), "127.0.0.1", port)), connection(port) as client:
            await client.send(GET)
            assert (await client.answer())[0] == 200


@on_uvloop
async def test_port_is_told_when_any_port_will_do() -> None:
    async with serving(Listener(App(), "127.0.0.1", 0)) as (ports, _), connection(ports[0]) as client:
        await client.send(GET)
        assert (await client.answer())[0] == 200


@on_uvloop
async def test_request_is_dropped_when_it_outlasts_the_drain() -> None:
    app = App()
    app.before_answer = asyncio.Event().wait
    async with serving(Listener(app, "127.0.0.1", free_port(), drain_s=0.1)) as (ports, task):
        async with connection(ports[0]) as client, connection(ports[0]) as idle:
            await client.send(GET)
            await app.was_asked.wait()
            task.cancel()
            await idle.closed()
            await client.closed()
        await asyncio.wait([task])
        assert app.notes[-1] == "app shutdown"


@on_uvloop
async def test_state_reaches_requests_when_the_lifespan_sets_it() -> None:
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["it"] = 7
        else:
            seen.append(scope["state"]["it"])
        await App()(scope, receive, send)

    async with served(app) as port, connection(port) as client:
        await client.send(GET)
        await client.answer()
    assert seen == [7]


@on_uvloop
async def test_more_files_are_allowed_when_there_may_be_many_connections() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        async with served(App(), max_connections=1_000):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(3_024, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


MAIN = """
import asyncio, sys
from services.common.server import Listener, run, serve
from tests.support.serving import App

app = App()
app.before_answer = lambda: asyncio.sleep(float(sys.argv[2]))

async def main():
    await serve(
        Listener(app, "127.0.0.1", int(sys.argv[1])),
        on_ready=lambda ports: print("ready", flush=True),
        on_stop=lambda: print("stop", flush=True),
    )
    print("end", flush=True)

run(main)
"""


@asynccontextmanager
async def _process(port: int, answer_after_s: float = 0) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(MAIN), str(port), str(answer_after_s), stdout=PIPE, stderr=PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _reads(process: Process, line: bytes) -> None:
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == line + b"\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_request_is_answered_and_the_status_is_0_when_signalled_once(number: int) -> None:
    port = free_port()
    async with _process(port, answer_after_s=0.4) as process:
        await _reads(process, b"ready")
        async with connection(port) as client:
            await client.send(GET)
            await asyncio.sleep(0.1)
            process.send_signal(number)
            process.send_signal(number)  # as when make and a terminal both pass it on
            assert (await client.answer())[0] == 200
        await _reads(process, b"stop")
        await _reads(process, b"end")
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def test_process_ends_at_once_when_signalled_twice() -> None:
    port = free_port()
    async with _process(port, answer_after_s=60) as process:
        await _reads(process, b"ready")
        async with connection(port) as client:
            await client.send(GET)
            await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            await _reads(process, b"stop")
            await asyncio.sleep(0.4)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 130


async def test_one_line_and_status_1_when_the_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        async with _process(port) as process:
            output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert (process.returncode, output) == (1, b"")
    assert errors.decode() == f"cannot listen on 127.0.0.1 port {port}: Address already in use\n"
