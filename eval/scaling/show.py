"""What came out, for human eyes."""

from rich.console import Console
from rich.table import Table

from eval.scaling.results import Result
from eval.tables import new_table, number


def print_result(result: Result, console: Console) -> None:
    """Print the check against what was measured first, then what follows."""
    for table in (
        check_table(result),
        front_end_table(result),
        series_table(result),
        few_table(result),
        distance_table(result),
    ):
        console.print(table)
    console.print(
        f"simulated, not measured; seed {result.settings.seed}; costs from: {result.bench.command} "
        f"(commit {result.bench.machine.commit})",
        soft_wrap=True,
    )


def check_table(result: Result) -> Table:
    """One shard on one machine: measured and simulated."""
    table = new_table("One shard on two cores: measured, and what the simulation makes of it", "connections")
    for heading in ("trades/s", "simulated", "off by", "p50 ms", "simulated", "p99 ms", "simulated", "in a batch"):
        table.add_column(heading, justify="right")
    for each in result.checks:
        was, now = each.measured, each.simulated
        figures = (was.p50_ms, now.p50_ms, was.p99_ms, now.p99_ms, now.trades_in_a_batch)
        rates = (number(was.per_second), number(now.per_second), f"{each.error:+.0%}")
        table.add_row(f"{was.connections}", *rates, *map(number, figures))
    return table


def front_end_table(result: Result) -> Table:
    """One shard, its processes on cores of their own, with more and more front-ends."""
    table = new_table(f"One shard, {result.settings.many:,} customers", "front-ends")
    for heading in ("trades/s", "p50 ms", "p99 ms", "in a batch", "front-end busy", "leader busy", "catalog busy"):
        table.add_column(heading, justify="right")
    for many, each in result.front_ends.items():
        figures = (each.per_second, each.p50_ms, each.p99_ms, each.trades_in_a_batch)
        busy = (f"{each.busy[name]:.0%}" for name in ("front-end", "leader", "catalog"))
        table.add_row(f"{many}", *map(number, figures), *busy)
    return table


def few_table(result: Result) -> Table:
    """What each way to have order numbers costs when there is time, and how busy the allocator is when there is not."""
    few, all_of_them = result.settings.few, result.settings.customers
    title = f"Order numbers: p50 in ms with {few} customers for each shard (with {all_of_them}: allocator busy)"
    table = new_table(title, "order numbers")
    for shards in result.settings.shards:
        table.add_column(f"{shards}", justify="right")
    for each in result.series:
        if each.few:
            cells = (
                f"{number(each.few[shards].p50_ms)} ({each.points[shards].busy['allocator']:.1%})"
                for shards in result.settings.shards
            )
            table.add_row(each.numbers, *cells)
    return table


def series_table(result: Result) -> Table:
    """Trades a second, and latency, for each number of shards."""
    table = new_table("Shards: trades/s (p50, p99 in ms)", "front-ends", "popularity", "order numbers")
    for shards in result.settings.shards:
        table.add_column(f"{shards}", justify="right")
    for each in result.series:
        cells = [
            f"{number(point.per_second)} ({number(point.p50_ms)}, {number(point.p99_ms)})"
            for point in each.points.values()
        ]
        table.add_row(f"{each.doors}", each.popularity, each.numbers, *cells)
    return table


def distance_table(result: Result) -> Table:
    """Two regions: p50 here and there, for each layout and distance."""
    table = new_table("Two regions: p50 in ms of customers here / there (trades/s)", "in the other region")
    for far_ms in result.settings.far_ms:
        table.add_column(f"{far_ms:g} ms", justify="right")
    for layout in dict.fromkeys(each.layout for each in result.distances):
        cells = [
            f"{number(each.near_p50_ms)} / {number(each.far_p50_ms)} ({number(each.per_second)})"
            for each in result.distances
            if each.layout == layout
        ]
        table.add_row(layout, *cells)
    return table
