"""The body of `bazaar bench`."""

import asyncio
from pathlib import Path

from client.console import LiveSteps, make_console
from eval.bench import scale
from eval.bench.generators import choose
from eval.bench.plot import plot_result
from eval.bench.results import LABELS, Result, Subject
from eval.bench.run import Bench, BenchSettings
from eval.bench.show import print_result
from eval.deliver import INTERRUPTED, deliver, run_to_end
from eval.interrupt import stop_on_signals
from services.cluster.errors import UsageError

MOST_CONNECTIONS = 900  # a front-end takes 1,000

QUICK = BenchSettings(rounds=1, seconds=1.0, connections=(1, 32))
GROUPS: dict[str, tuple[Subject, ...]] = {
    "look_up": ("bare_uvicorn", "bare_route", "look_up_cached", "look_up_uncached"),
    "trade": ("bare_post", "bare_chain", "bare_trade", "trade"),
    "order_query": ("bare_route", "order_query"),
}
"""What belongs together: a subject with what it is held against."""


def chosen_settings(
    *,
    quick: bool,
    only: str | None,
    rounds: int | None,
    seconds: float | None,
    connections: str | None,
    scale: bool,
    most_orders: int,
) -> BenchSettings:
    """What the flags mean; what is None is as `--quick`, or its absence, says. Raises UsageError."""
    if quick and scale:
        raise UsageError("--quick and --scale do not go together")
    short = QUICK if quick else BenchSettings()
    flags = {"--rounds": rounds, "--seconds": seconds, "--connections": connections, "--only": only}
    command = ["bazaar bench", *(["--quick"] if quick else []), *(["--scale"] if scale else [])]
    command += [f"{flag} {value}" for flag, value in flags.items() if value is not None]
    command += [f"--most-orders {most_orders}"] if most_orders != short.most_orders else []
    return BenchSettings(
        subjects=chosen_subjects(only),
        rounds=rounds or short.rounds,
        seconds=seconds or short.seconds,
        connections=chosen_connections(connections) if connections is not None else short.connections,
        scale=scale,
        most_orders=most_orders,
        command=" ".join(command),
    )


def chosen_subjects(only: str | None) -> tuple[Subject, ...]:
    """The subjects behind `--only`, in the order in which they are measured. Raises UsageError."""
    if only is None:
        return tuple(LABELS)
    wanted: set[str] = set()
    for name in only.split(","):
        if name not in GROUPS and name not in LABELS:
            raise UsageError(f"--only {name}: there are {', '.join(dict.fromkeys([*GROUPS, *LABELS]))}")
        wanted |= set(GROUPS.get(name, (name,)))
    return tuple(subject for subject in LABELS if subject in wanted)


def chosen_connections(text: str) -> tuple[int, ...]:
    """The numbers behind `--connections`. Raises UsageError."""
    parts = text.split(",")
    if not all(part.isdecimal() and 1 <= int(part) <= MOST_CONNECTIONS for part in parts):
        raise UsageError(f"--connections {text}: must be numbers from 1 to {MOST_CONNECTIONS}, such as 1,32")
    return tuple(sorted({int(part) for part in parts}))


def bench_command(settings: BenchSettings, out: Path, *, as_json: bool) -> int:
    """Measure, write `bench.json` and `bench.png`, show the result, and give the exit code. Raises CannotDo.

    Ctrl-C ends everything at once and writes nothing.
    """
    result = run_to_end(_run(settings), asyncio.new_event_loop)
    if result is None:
        return INTERRUPTED
    deliver(result, out / "bench.json", _plot, print_result, as_json=as_json)
    return 0


def _plot(result: Result, folder: Path) -> None:
    plot_result(result, folder / "bench.png")


async def _run(settings: BenchSettings) -> Result:
    stop_on_signals()
    bench = Bench(settings, choose())
    if settings.scale:
        scale.check_scale(bench)
    steps = bench.steps + (scale.steps(bench) if settings.scale else 0)
    with LiveSteps("bench", steps, make_console(stderr=True)) as live:
        bench.on_step = live.on_step
        await bench.side_by_side()
        if settings.scale:
            await scale.measure_scale(bench)
    return bench.finish()
