"""`bazaar evaluate` as it is run, with very few requests; and nothing is left when it is interrupted."""

import asyncio
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from eval.latency.results import Result
from tests.support.experiment import Experiment, experiment
from tests.support.fake_front_end import FakeFrontEnd
from tests.support.ports import free_port
from tests.support.system_bazaar import Bazaar


def evaluate(folder: Path, *flags: str) -> AbstractAsyncContextManager[Experiment]:
    """`bazaar evaluate` with these flags."""
    return experiment(folder, "services.cluster", "evaluate", *flags)


async def result_of(run: Experiment) -> Result:
    """What it printed; it must have ended well, and said nothing else."""
    code, output, errors = await run.end()
    assert (code, errors) == (0, ""), output
    return Result.model_validate_json(output)


@pytest.mark.slow
async def test_both_modes_are_measured_and_every_order_is_checked_when_latency_is_evaluated(tmp_path: Path) -> None:
    flags = ("latency", "--quick", "--p", "1", "--iterations", "8", "--clients", "2")
    async with evaluate(tmp_path, *flags) as run:
        result = await result_of(run)
        assert list(run.data.iterdir()) == []
    assert Result.model_validate_json((tmp_path / "results" / "latency.json").read_text()) == result
    assert {each.name for each in (tmp_path / "results").iterdir()} == {"latency.json", "latency.png", "cache.png"}
    assert result.command == f"bazaar evaluate {' '.join(flags)}"
    on, off = sorted(result.runs, key=lambda run: run.cache, reverse=True)
    assert on.counts.look_ups == off.counts.look_ups == 16
    assert all(each.counts.checked == each.counts.acknowledged > 0 for each in (on, off))
    assert off.of_all.keys() == {"look_up", "look_up_off", "trade", "order_query"}
    assert off.of_all["look_up"].count == sum(each["look_up"].count for each in off.of_clients) == 16
    assert off.usage is not None
    assert off.usage.catalog_look_ups == 16, "each look-up reaches the catalog"
    assert len(result.verified) == len(result.commits_ms) == 2


async def test_running_bazaar_is_measured_as_it_is_when_its_address_is_given(bazaar: Bazaar, tmp_path: Path) -> None:
    flags: list[str] = ["latency", "--quick", "--p", "0.5", "--iterations", "6", "--clients", "2", "--rate", "200"]
    for url in bazaar.cluster.urls:
        flags += ["--url", url]
    async with evaluate(tmp_path, *flags) as run:
        result = await result_of(run)
    assert [(each.cache, each.usage) for each in result.runs] == [("on", None)]
    assert (result.settings.caches, result.settings.rate, result.rests) == (("on",), 200.0, [])
    assert not (tmp_path / "results" / "cache.png").exists()


async def test_both_modes_of_a_running_bazaar_are_measured_when_its_cache_can_be_switched(
    bazaar: Bazaar, tmp_path: Path
) -> None:
    data_dir = str(bazaar.cluster.data_dir)
    switch = shlex.join([sys.executable, "-m", "services.cluster", "evaluate", "switch", "--data-dir", data_dir])
    flags = ("latency", "--quick", "--p", "0", "--iterations", "6", "--clients", "2", "--url", bazaar.url)
    async with evaluate(tmp_path, *flags, "--switch-cache", switch) as run:
        result = await result_of(run)
    assert {each.cache for each in result.runs} == {"on", "off"}
    assert (tmp_path / "results" / "cache.png").exists()
    async with bazaar.cluster.client() as client:
        assert (await client.look_up("GameStart")).cache != "off", "it is left on"


async def test_evaluation_fails_and_says_why_when_the_bazaar_lies(tmp_path: Path) -> None:
    with liar() as url:
        flags = ("latency", "--quick", "--p", "1", "--iterations", "1", "--clients", "1", "--url", url)
        async with evaluate(tmp_path, *flags) as run:
            code, output, errors = await run.end()
    assert (code, errors) == (1, "")
    (problem,) = Result.model_validate_json(output).problems
    assert "p = 100%, clients: order 1: expected order 1: " in problem
    assert problem.endswith(" FishCo, found order 1: buy 77 FishCo")


@contextmanager
def liar() -> Iterator[str]:
    """The address of a front-end that is honest but for the content of orders."""
    front_end = FakeFrontEnd({"FishCo": 100})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer("GET", b"")

        def do_POST(self) -> None:
            self.answer("POST", self.rfile.read(int(self.headers["content-length"])))

        def answer(self, method: str, body: bytes) -> None:
            request = httpx.Request(method, f"http://x{self.path}", headers=dict(self.headers), content=body)
            response = asyncio.run(front_end.handle(request))
            for order in front_end.orders:
                order |= {"type": "buy", "quantity": 77}
            self.send_response(response.status_code)
            for name, value in response.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_nothing_is_left_and_nothing_written_when_it_is_interrupted(tmp_path: Path) -> None:
    async with evaluate(tmp_path, "latency", "--iterations", "100000", "--p", "0") as run:
        await run.wait_until(run.has_begun)
        started = psutil.Process(run.process.pid).children(recursive=True)
        assert len(started) == 5 + 1 + 5, "clients, supervisor, services"
        run.process.send_signal(signal.SIGINT)
        assert await run.end() == (130, "", "")
        await run.wait_until(lambda: not any(each.is_running() for each in started))
    assert not (tmp_path / "results").exists()


async def test_wrong_usage_is_told_in_a_word(tmp_path: Path) -> None:
    async with evaluate(tmp_path, "latency", "--switch-cache", "true") as run:
        code, output, errors = await run.end()
    assert (code, output) == (2, "")
    assert "--switch-cache needs --url" in errors
    assert "Traceback" not in errors
