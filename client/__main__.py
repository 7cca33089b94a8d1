"""`python -m client`: the load command by itself."""

from typing import Annotated

import typer

from client.command import load_command
from client.load import MOST_CLIENTS
from services.common.lifeline import die_with_parent

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

EXAMPLES = """Examples:

python -m client --clients 5 --p 0.4 --iterations 200

python -m client --url http://127.0.0.1:8000 --url http://127.0.0.1:8001 --json

python -m client --url http://10.0.0.5:8000,http://10.0.0.6:8000
"""


@app.command(epilog=EXAMPLES)
def load(
    url: Annotated[
        list[str] | None, typer.Option(help="Address of a front-end; several with commas, or again and again.")
    ] = None,
    clients: Annotated[int, typer.Option(min=1, max=MOST_CLIENTS, help="Clients at the same time.")] = 5,
    p: Annotated[float, typer.Option(min=0, max=1, help="Probability of a trade after a look-up.")] = 0.4,
    iterations: Annotated[int, typer.Option(min=1, help="Look-ups of each client.")] = 200,
    seed: Annotated[int | None, typer.Option(help="Repeats the random choices of an earlier load.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON alone.")] = False,
) -> None:
    """Look up random stocks, sometimes trade them, and check every own order at the end.

    Exit codes: 0 all is well, 1 a check failed or an error was seen, 2 usage, 130 interrupted.
    """
    raise typer.Exit(load_command(url or ["http://127.0.0.1:8000"], clients, p, iterations, seed, as_json))


if __name__ == "__main__":
    die_with_parent()  # only when whoever starts it asks for that: the control room
    app(prog_name="python -m client")
