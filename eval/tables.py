"""Tables of figures that were measured several times."""

from rich import box
from rich.table import Table

from eval.bench.results import Spread


def new_table(title: str, *names: str) -> Table:
    """A table with these first columns, which name what is in a row."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name)
    return table


def span(value: Spread | None) -> str:
    """A median with the lowest and the highest."""
    if value is None:
        return "-"
    if value.low == value.high:
        return number(value.median)
    return f"{number(value.median)} ({number(value.low)} to {number(value.high)})"


def number(value: float) -> str:
    """Three digits, or more before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
