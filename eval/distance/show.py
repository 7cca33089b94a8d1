"""What distance does, for human eyes."""

from rich.console import Console
from rich.table import Table

from eval.bench.results import Spread
from eval.latency.results import CacheMode, Result
from eval.latency.show import print_end
from eval.latency.statistics import Condition
from eval.tables import new_table, number, span

CACHES: tuple[CacheMode, ...] = ("on", "off")


def print_result(result: Result, console: Console) -> None:
    """Print the tables, what follows from them, and the verdict last."""
    console.print(benefit_table(result))
    console.print(load_table(result))
    for line in findings(result):
        console.print(line, soft_wrap=True)
    print_end(result, console)


def benefit_table(result: Result) -> Table:
    """One row for each distance and trade probability."""
    title = "Look-ups from a distance: means in ms, median (lowest to highest) of the repetitions"
    table = new_table(title, "round trip", "p")
    for heading in ("look-up on", "off", "off / on", "saved", "trade on", "off", "query on"):
        table.add_column(heading, justify="right")
    for round_trip_ms in result.settings.round_trips_ms:
        for p in result.settings.probabilities:
            each = Condition(result, p, round_trip_ms)
            cells = [each.latency("look_up", cache, "mean_ms") for cache in CACHES]
            cells += [each.benefit(), each.saved_ms()]
            cells += [each.latency("trade", cache, "mean_ms") for cache in CACHES]
            cells.append(each.latency("order_query", "on", "mean_ms"))
            table.add_row(f"{round_trip_ms:g} ms", f"{p:.0%}", *map(span, cells))
        table.add_section()
    return table


def load_table(result: Result) -> Table:
    """What a look-up costs the catalog, for each distance and trade probability."""
    table = new_table("Load on the catalog for each look-up of a client", "round trip", "p")
    for heading in ("requests on", "requests off", "CPU us on", "CPU us off"):
        table.add_column(heading, justify="right")
    for round_trip_ms in result.settings.round_trips_ms:
        for p in result.settings.probabilities:
            each = Condition(result, p, round_trip_ms)
            cells = [each.catalog_look_ups(cache) for cache in CACHES]
            cells += [each.catalog_cpu_us(cache) for cache in CACHES]
            table.add_row(f"{round_trip_ms:g} ms", f"{p:.0%}", *map(span, cells))
        table.add_section()
    return table


def findings(result: Result) -> list[str]:
    """What the cache is good for at each distance, in words."""
    lines = []
    for round_trip_ms in result.settings.round_trips_ms:
        each = Condition(result, result.settings.probabilities[0], round_trip_ms)
        benefit, saved = each.benefit(), each.saved_ms()
        requests = [each.catalog_look_ups(cache) for cache in CACHES]
        if benefit is None or saved is None or None in requests:
            continue
        lines.append(
            f"{round_trip_ms:g} ms away, p = {result.settings.probabilities[0]:.0%}: without the cache a look-up takes "
            f"{number(benefit.median)} times as long ({number(saved.median)} ms more); the catalog is asked "
            f"{_times(requests)} for each look-up"
        )
    return lines


def _times(requests: list[Spread | None]) -> str:
    on, off = (number(each.median) if each is not None else "-" for each in requests)
    return f"{on} times with it, {off} times without it,"
