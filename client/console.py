"""Where commands write: colour only on a terminal, and never when NO_COLOR is set; a live bar while they work."""

import os
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn


def make_console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr."""
    return Console(
        stderr=stderr,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )


class LiveBar:
    """A bar that is there while its body runs, and only on a terminal. `count` shows how far it is."""

    def __init__(self, label: str, total: int, count: ProgressColumn, console: Console, text: str = "") -> None:
        self._progress = Progress(
            TextColumn(label),
            BarColumn(),
            count,
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            refresh_per_second=5,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(text, total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
