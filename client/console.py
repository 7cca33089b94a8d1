"""Where the client writes: colour only on a terminal, and never when NO_COLOR is set."""

import os

from rich.console import Console


def make_console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr."""
    return Console(
        stderr=stderr,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )
