"""One live bar for all clients of a load, with rates; on stderr, and only when that is a terminal."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import TaskProgressColumn

from client.console import LiveBar, make_console
from client.record import Event, What

RATE_EVERY_S = 0.5


class LiveProgress(LiveBar):
    """Counts events. A look-up is a step, and so is the check of an order, which joins the total when it is known."""

    def __init__(
        self, look_ups: int, console: Console | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or make_console(stderr=True)
        super().__init__("load", look_ups, TaskProgressColumn(), self._console)
        self._monotonic = monotonic
        self._total = look_ups
        self._seen: dict[What, int] = dict.fromkeys(
            ("looked_up", "acknowledged", "refused", "checked", "error", "wrong"), 0
        )
        self._rates = ""
        self._rated = (monotonic(), 0, 0)

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        if not self._console.is_terminal:
            return
        self._seen[event.what] += 1
        is_lost_step = event.error is not None and event.error.request != "trade"
        self._progress.update(
            self._task,
            total=self._total + self._seen["acknowledged"],
            advance=1 if event.what in {"looked_up", "checked"} or is_lost_step else 0,
            description=self._text(),
        )

    def _text(self) -> str:
        seen = self._seen
        now = self._monotonic()
        then, look_ups, trades = self._rated
        if now - then >= RATE_EVERY_S:
            new_trades = seen["acknowledged"] + seen["refused"]
            per_second = 1 / (now - then)
            self._rates = (
                f"{(seen['looked_up'] - look_ups) * per_second:,.0f} look-ups/s  "
                f"{(new_trades - trades) * per_second:,.0f} trades/s  "
            )
            self._rated = (now, seen["looked_up"], new_trades)
        return f"{self._rates}{seen['error']} errors  {seen['wrong']} wrong"
