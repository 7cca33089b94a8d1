"""An experiment for human eyes: a bar while it goes on, and tables at the end."""

from rich.console import Console
from rich.table import Table

from eval.bench.statistics import spread
from eval.latency.results import LABELS, CacheMode, LatencySettings, Result
from eval.latency.statistics import MEASURES, SERIES, Condition
from eval.tables import new_table, span

HEADINGS = {"mean_ms": "mean", "p50_ms": "p50", "p90_ms": "p90", "p99_ms": "p99"}


def print_result(result: Result, console: Console) -> None:
    """Print the tables, under which conditions it was measured, and the verdict last."""
    console.print(latency_table(result))
    if len(result.settings.caches) > 1:
        console.print(cache_table(result))
    print_end(result, console)


def print_end(result: Result, console: Console) -> None:
    """Print the conditions, what went wrong, and the verdict."""
    for line in facts(result):
        console.print(line, soft_wrap=True)
    for line in result.problems:
        console.print(line, style="red", soft_wrap=True)
    console.print(verdict(result), style="bold green" if result.passed else "bold red", soft_wrap=True)


def latency_table(result: Result) -> Table:
    """One row for each kind of request and measure, one column for each trade probability."""
    settings = result.settings
    table = new_table("Latency in ms: median (lowest to highest) of the repetitions", "request", "", "")
    for p in settings.probabilities:
        table.add_column(f"p = {p:.0%}", justify="right")
    conditions = [Condition(result, p, settings.round_trips_ms[0]) for p in settings.probabilities]
    for kind, cache in SERIES:
        for measure in MEASURES:
            cells = [each.latency(kind, cache, measure) for each in conditions]
            if any(cells):
                table.add_row(LABELS[kind], f"cache {cache}", HEADINGS[measure], *map(span, cells))
        table.add_section()
    return table


def cache_table(result: Result) -> Table:
    """What the cache is good for, for each trade probability."""
    table = new_table("The cache: off / on is how many times as long a request takes without it", "p")
    headings = ("hit ratio", "look-up on ms", "look-up off ms", "look-up off / on", "trade off / on")
    for heading in (*headings, "catalog asked, on", "off"):
        table.add_column(heading, justify="right")
    for p in result.settings.probabilities:
        each = Condition(result, p, result.settings.round_trips_ms[0])
        latencies = [each.latency("look_up", cache, "mean_ms") for cache in ("on", "off")]
        cells = [each.hit_ratio(), *latencies, each.benefit(), each.benefit("trade")]
        cells += [each.catalog_look_ups(cache) for cache in ("on", "off")]
        table.add_row(f"{p:.0%}", *map(span, cells))
    return table


def facts(result: Result) -> list[str]:
    """Under which conditions it was measured."""
    machine, settings = result.machine, result.settings
    system = f"{machine.system}, Python {machine.python}"
    lines = [
        f"{machine.processor}, {machine.cores} cores, {system}, commit {machine.commit}",
        f"{result.command}, seed {settings.seed}, {result.duration_s:,.0f} s in all; {loop(settings)}",
    ]
    commits = spread(result.commits_ms)
    if commits is not None:
        lines.append(f"one durable commit {span(commits)} ms")
    lines += [f"bazaar verify: {line}" for line in dict.fromkeys(result.verified)]
    return lines


def loop(settings: LatencySettings) -> str:
    """How the clients ask, in words."""
    visits = f"{settings.iterations:,} look-ups each"
    if settings.rate is None:
        return f"{settings.clients} clients, {visits}, closed loop: each asks again when it was answered"
    return (
        f"{settings.clients} clients, {visits}, open loop: {settings.rate:g} visits/s in all, from their intended start"
    )


def verdict(result: Result) -> str:
    """What came out, in one line."""
    orders, checked = (sum(getattr(each.counts, name) for each in result.runs) for name in ("acknowledged", "checked"))
    wrong = "nothing was wrong" if result.passed else f"{len(result.problems)} problems"
    return f"{len(result.runs)} runs, {orders:,} orders acknowledged, {checked:,} checked: {wrong}"


def caches(result: Result) -> tuple[CacheMode, ...]:
    """The modes that were measured, on before off."""
    return tuple(sorted(result.settings.caches, reverse=True))
