"""Where commands write: colour only on a terminal, and never when NO_COLOR is set; a live bar while they work."""

import os
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn


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


class LiveSteps(LiveBar):
    """A bar over steps whose number is known, with the words for the one under way."""

    def __init__(self, label: str, steps: int, console: Console, text: str = "starting") -> None:
        super().__init__(label, steps, MofNCompleteColumn(), console, text)
        self._begun = 0

    def on_step(self, text: str) -> None:
        """The next step begins."""
        self._progress.update(self._task, completed=self._begun, description=text)
        self._begun += 1
