"""`bazaar up` as a process, over services that only say that they are ready: signals, locks, and nobody left behind."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psutil
import pytest

from services.cluster.folder import find_cluster, read_cluster, write_cluster
from services.cluster.topology import Settings, plan
from tests.support.patience import PATIENCE_S
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]

SERVICE = """
import signal, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from services.common.lifeline import die_with_parent
die_with_parent()
if "stubborn" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "broken" in sys.argv: sys.exit("this is what is wrong")
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"status": "ready"}'
        self.send_response(200 if self.path == "/readyz" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

SUPERVISOR = f"""
import sys
from pathlib import Path
from services.cluster import cli, up
from services.cluster.topology import port_of
kind = sys.argv.pop(1)
def command(cluster, service, data_dir):
    return [sys.executable, "-c", {SERVICE!r}, str(port_of(service.internal_url)), str(data_dir), kind]
up.command = command
cli.main()
"""


class Up:
    """A running `bazaar up`."""

    def __init__(self, data_dir: Path, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid
        self.output = ""
        self._data_dir = data_dir

    async def wait_for(self, words: str) -> None:
        """Read its output until `words` come."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while words not in self.output:
                line = await self.process.stdout.readline()
                assert line, f"it ended before {words!r}:\n{self.output}"
                self.output += line.decode()

    async def end(self) -> int:
        """Read the rest of its output; gives its exit code."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            self.output += (await self.process.stdout.read()).decode()
            return await self.process.wait()

    def close_output(self) -> None:
        """Read no more, as a pager that was quit."""
        transport = self.process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
        transport.close()

    def services(self) -> list[psutil.Process]:
        """The live processes of its services."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self._data_dir) in process.cmdline() and "-c" in process.cmdline() and process.pid != self.pid:
                    found.append(process)
        return found


MakeUp = Callable[..., "asyncio.Future[Up]"]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[MakeUp]:
    """Starts `bazaar up` with some flags; kind says how the services behave."""
    async with AsyncExitStack() as stack:

        async def start_one(*flags: str, kind: str = "good", port: int | None = None) -> Up:
            data_dir = tmp_path / "data"
            arguments = [kind, "up", "--data-dir", str(data_dir), "--port", str(port or free_ports()), *flags]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", SUPERVISOR, *arguments,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
            )  # fmt: skip
            up = Up(data_dir, process)

            async def clean() -> None:
                if process.returncode is None:
                    process.kill()
                await up.end()

            stack.push_async_callback(clean)
            return up

        yield lambda *flags, **options: asyncio.ensure_future(start_one(*flags, **options))


async def _gone(processes: list[psutil.Process]) -> None:
    """Wait until all of them have ended."""
    await asyncio.to_thread(psutil.wait_procs, processes, PATIENCE_S)
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
async def test_it_stops_everything_when_told_to(start: MakeUp, number: int, code: int) -> None:
    up = await start()
    await up.wait_for("Ctrl-C stops it.")
    services = up.services()
    assert len(services) == 5
    os.kill(up.pid, number)
    assert await up.end() == code
    assert up.output.rstrip().endswith("stopped")
    assert not any(process.is_running() for process in services)


async def test_it_tells_addresses_and_processes_when_it_is_up(start: MakeUp, tmp_path: Path) -> None:
    up = await start("--front-ends", "2")
    await up.wait_for("Ctrl-C stops it.")
    cluster = read_cluster(tmp_path / "data")
    assert cluster.supervisor == up.pid
    for service in cluster.services:
        assert re.search(rf"^{service.name} +running .*{re.escape(service.url)}", up.output, re.MULTILINE), up.output
    assert f"{cluster.of('front-end')[0].url}/docs" in up.output
    assert "\x1b" not in up.output


async def test_it_kills_when_a_second_signal_comes(start: MakeUp) -> None:
    up = await start(kind="stubborn")
    await up.wait_for("Ctrl-C stops it.")
    services = up.services()
    os.kill(up.pid, signal.SIGINT)
    await up.wait_for("stopping")
    while up.process.returncode is None:
        os.kill(up.pid, signal.SIGINT)  # the first few are taken for copies of the first one
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await up.process.wait()
    assert await up.end() == 130
    assert up.output.rstrip().endswith("killed")
    assert not any(process.is_running() for process in services)


async def test_it_goes_on_when_nobody_reads_its_output(start: MakeUp) -> None:
    up = await start()
    await up.wait_for("Ctrl-C stops it.")
    up.close_output()
    services = up.services()
    services[0].kill()  # which it would tell
    await asyncio.to_thread(services[0].wait, PATIENCE_S)
    while len(again := up.services()) < 5:  # noqa: ASYNC110 - it can tell us nothing
        await asyncio.sleep(0.02)
    os.kill(up.pid, signal.SIGTERM)
    assert await up.process.wait() == 0
    await _gone(again)


async def test_no_process_is_left_when_it_is_killed_itself(start: MakeUp) -> None:
    up = await start(kind="stubborn")
    await up.wait_for("Ctrl-C stops it.")
    services = up.services()
    assert len(services) == 5
    services[1].suspend()
    os.kill(up.pid, signal.SIGKILL)
    await _gone(services)


async def test_it_can_be_started_again_at_once_when_it_was_killed(start: MakeUp) -> None:
    port = free_ports()
    first = await start(port=port)
    await first.wait_for("Ctrl-C stops it.")
    os.kill(first.pid, signal.SIGKILL)
    second = await start(port=port)
    await second.wait_for("Ctrl-C stops it.")


async def test_a_second_one_on_the_same_folder_is_refused(start: MakeUp) -> None:
    first = await start()
    await first.wait_for("Ctrl-C stops it.")
    second = await start()
    assert await second.end() == 1
    assert f"its supervisor is process {first.pid}" in second.output
    assert "Traceback" not in second.output


async def test_the_owner_of_a_busy_port_is_named(start: MakeUp, tmp_path: Path) -> None:
    port = free_ports()
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", port + 12)
    async with server:
        up = await start(port=port)
        assert await up.end() == 1
    assert f"port {port + 12}, which order-2 needs, is taken by process {os.getpid()}: " in up.output
    assert "bazaar up --port" in up.output
    assert not (tmp_path / "data" / "cluster.json").exists()


async def test_it_gives_up_when_a_service_never_starts(start: MakeUp) -> None:
    up = await start(kind="broken")
    assert await up.end() == 1
    assert "this is what is wrong" in up.output
    assert "Traceback" not in up.output


async def test_another_number_of_replicas_is_refused_when_there_is_data(start: MakeUp, tmp_path: Path) -> None:
    first = await start()
    await first.wait_for("Ctrl-C stops it.")
    os.kill(first.pid, signal.SIGTERM)
    await first.end()
    second = await start("--replicas", "4")
    assert await second.end() == 1
    assert "start it with --replicas 3" in second.output
    assert len(read_cluster(tmp_path / "data").of("order")) == 3


async def test_a_bad_stocks_file_is_refused_before_anything_starts(start: MakeUp, tmp_path: Path) -> None:
    stocks = tmp_path / "stocks.csv"
    stocks.write_text("name,price,quantity\nA,1.00,5\nB,cheap,5\n")
    up = await start("--catalog", str(stocks))
    assert await up.end() == 1
    assert f"{stocks}:3: a price is" in up.output
    assert not (tmp_path / "data" / "cluster.json").exists()


def test_cluster_json_says_what_was_planned(tmp_path: Path) -> None:
    cluster = plan(Settings(port=9000, catalog=Path("s.csv"), lost=[2]))
    assert find_cluster(tmp_path) is None
    write_cluster(tmp_path, cluster)
    assert find_cluster(tmp_path) == cluster
    assert [path.name for path in tmp_path.iterdir()] == ["cluster.json"]
