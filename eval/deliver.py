"""From an experiment to what its command leaves behind: a result on the disk, plots of it, and words on the screen."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from pydantic import BaseModel
from rich.console import Console

from client.console import make_console
from eval.json_text import to_json

T = TypeVar("T")
ResultT = TypeVar("ResultT", bound=BaseModel)


def run_to_end(work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`, which is never None; None when a signal ended it."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except asyncio.CancelledError:
        return None


def deliver(
    result: ResultT,
    path: Path,
    plot: Callable[[ResultT, Path], object],
    show: Callable[[ResultT, Console], None],
    *,
    as_json: bool,
) -> None:
    """Write the result to `path`, have it plotted into the same folder, and show it (`as_json`: print it)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = to_json(result)
    path.write_text(text, encoding="utf-8")
    plot(result, path.parent)
    if as_json:
        sys.stdout.write(text)
    else:
        show(result, make_console())
