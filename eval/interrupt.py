"""What a signal does to an experiment that runs."""

import asyncio
import signal

from client.console import make_console


def stop_on_signals(stop: asyncio.Event | None = None, what: str = "") -> None:
    """From now on signals end the task that calls this, and so everything that it started.

    With `stop`, the first Ctrl-C sets that, and says that it stops after this `what`; a second one ends the task.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def on_interrupt() -> None:
        if stop is None or stop.is_set():
            task.cancel()
            return
        stop.set()
        make_console(stderr=True).print(f"stopping after this {what}; Ctrl-C again ends at once")

    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
