"""Where the story is told: numbered acts, lines below them, and one line that moves while clients trade."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.text import Text

INDENT = 3


class Stage:
    """Tells on `console`; a quiet console is told nothing."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._act = 0
        self._live: Live | None = None

    @property
    def is_live(self) -> bool:
        """Whether a line can move here."""
        return self._console.is_terminal and not self._console.quiet

    def act(self, title: str) -> None:
        """Begin the next act."""
        self._act += 1
        if self._act > 1:
            self._console.print()
        self._console.print(Text.assemble((f"{self._act}  ", "bold cyan"), (title, "bold")))

    def say(self, *lines: str, style: str = "") -> None:
        """Tell something of this act."""
        for line in lines:
            self._console.print(Padding(Text(line, style=style), (0, 0, 0, INDENT), expand=False))

    def verdict(self, text: str, *, passed: bool) -> None:
        """Tell how it ended."""
        self._console.print()
        self._console.print(text, style="bold green" if passed else "bold red", soft_wrap=True)

    def after(self, *lines: str) -> None:
        """Tell something when the story is over."""
        self._console.print()
        for line in lines:
            self._console.print(line, soft_wrap=True)

    @contextmanager
    def moving(self, text: str) -> Iterator[None]:
        """Keep a line with this text below all others during the body, where one can move; `move` changes it."""
        if not self.is_live:
            yield
            return
        with Live(_moving(text), console=self._console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def move(self, text: str) -> None:
        """Put something else into the moving line."""
        if self._live is not None:
            self._live.update(_moving(text), refresh=True)


def _moving(text: str) -> Padding:
    return Padding(Text(text, style="cyan"), (0, 0, 0, INDENT), expand=False)
