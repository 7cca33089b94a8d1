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

FAILED = 1
INTERRUPTED = 130

T = TypeVar("T")
ResultT = TypeVar("ResultT", bound=BaseModel)


def run_to_end(
    work: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
) -> T | None:
    """The result of `work`, which is never None; None when a signal ended it."""
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
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


def exit_code(*, passed: bool, is_stopped: bool, kept: Path | None) -> int:
    """The exit code of a run that was judged; `kept`: the folder of one that failed, which is told."""
    if kept is not None:
        make_console(stderr=True).print(f"its databases and logs are kept in {kept}", soft_wrap=True)
    return INTERRUPTED if is_stopped else 0 if passed else FAILED
