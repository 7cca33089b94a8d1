"""The body of the load command, for every command line that offers it."""

import asyncio
import signal
import sys
from collections.abc import Sequence

import uvloop

from client.console import make_console
from client.errors import BazaarClientError
from client.load import LoadReport, run_load
from client.report import exit_code, print_report

FAILED = 1
USAGE = 2
INTERRUPTED = 130


def load_command(
    urls: Sequence[str], clients: int, p: float, iterations: int, seed: int | None = None, as_json: bool = False
) -> int:
    """Run a load, print its report on stdout (`as_json`: JSON alone) and give the exit code.

    Ctrl-C ends the iterations, checks the orders so far and prints the report; a second one ends at once.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(_run(urls, clients, p, iterations, seed))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED
    except ValueError as error:
        return _complain(str(error), USAGE)
    except BazaarClientError as error:
        return _complain(f"{', '.join(urls)}: {error}", FAILED)
    if as_json:
        sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    else:
        print_report(report, make_console())
    return INTERRUPTED if report.is_stopped else exit_code(report)


async def _run(urls: Sequence[str], clients: int, p: float, iterations: int, seed: int | None) -> LoadReport:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def on_interrupt() -> None:
        if stop.is_set():
            task.cancel()
            return
        stop.set()
        make_console(stderr=True).print("stopping: the orders so far are checked; Ctrl-C again ends at once")

    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        return await run_load(urls, clients, p, iterations, seed, stop=stop)
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _complain(message: str, code: int) -> int:
    make_console(stderr=True).print(f"error: {message}", soft_wrap=True)
    return code
