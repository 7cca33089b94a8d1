"""The `bazaar` command line. What the commands need is imported when they run, so that `--help` is quick.

Exit codes: 0 done, 1 a check failed or it cannot be done, 2 wrong usage, 130 ended by Ctrl-C.
"""
# ruff: noqa: PLC0415 - see above

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from eval.evaluate.cli import app as evaluate

FAILED = 1
USAGE = 2
INTERRUPTED = 130

app = typer.Typer(
    name="bazaar",
    help="A stock bazaar of replicated services that keeps its promises when machines die.",
    epilog="Begin with: bazaar up. Then, in another terminal: bazaar load, bazaar kill order-3, bazaar verify",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(evaluate, name="evaluate")


class Safety(StrEnum):
    """What an acknowledged order outlives, at the least."""

    DISK = "disk"
    PROCESS = "process"


class Restart(StrEnum):
    """Whether services that die are started again."""

    ALWAYS = "always"
    NEVER = "never"


DataDir = Annotated[Path, typer.Option("--data-dir", help="Folder of the bazaar's data.", metavar="D")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON alone.")]
Url = Annotated[list[str] | None, typer.Option("--url", help="Address of a front-end; may be repeated.", metavar="U")]
ServiceName = Annotated[str, typer.Argument(metavar="NAME", help="catalog, order-1, front-end-1, ...")]
StockName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the stock, such as GameStart.")]
Quantity = Annotated[int, typer.Argument(metavar="N", min=1, max=1_000_000, help="How many.")]

DATA = Path("data")


@app.command(
    epilog="Examples: bazaar up; bazaar up --front-ends 2 --cache-size 0; bazaar up --data-dir /tmp/b --port 9000; "
    "bazaar up --topology bazaar.toml --host a"
)
def up(  # noqa: PLR0913, PLR0917 - every flag is an argument
    context: typer.Context,
    data_dir: DataDir = DATA,
    port: Annotated[int, typer.Option(help="First of 30 ports; the first front-end's.", metavar="P")] = 8000,
    replicas: Annotated[int, typer.Option(min=1, max=9, help="How many order replicas.")] = 3,
    front_ends: Annotated[int, typer.Option(min=1, max=9, help="How many front-ends.")] = 1,
    cache_size: Annotated[int, typer.Option(min=0, max=1_000_000, help="Stocks in a cache; 0: no cache.")] = 10,
    durability: Annotated[
        Safety, typer.Option(help="What an order outlives: the power of the machine, or only its processes (faster).")
    ] = Safety.DISK,
    catalog: Annotated[
        Path | None, typer.Option(help="CSV file of the initial stocks; read by a new bazaar only.", metavar="FILE")
    ] = None,
    restart: Annotated[Restart, typer.Option(help="Whether what dies is started again.")] = Restart.ALWAYS,
    lost: Annotated[
        list[str] | None,
        typer.Option(help="A replica that is gone for good, such as order-2; may be repeated.", metavar="NAME"),
    ] = None,
    control_host: Annotated[
        str, typer.Option(help="Where the control room listens; whoever reaches it may break things.", metavar="H")
    ] = "127.0.0.1",
    routes: Annotated[
        Path | None,
        typer.Option(help="JSON file: who reaches whom by another address, for experiments.", metavar="FILE"),
    ] = None,
    topology: Annotated[
        Path | None,
        typer.Option(help="TOML file: which service runs on which of several hosts.", metavar="FILE"),
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Which host of the topology this is; found by its address.", metavar="NAME")
    ] = None,
) -> None:
    """Start the whole bazaar, watch over it, and run until Ctrl-C (a second Ctrl-C kills at once)."""
    from services.cluster.errors import UsageError
    from services.cluster.hosts import plan_this_host
    from services.cluster.routes import read_routes
    from services.cluster.topology import Settings, lost_ids, plan
    from services.cluster.up import run_up

    if topology is not None:
        given = [name for name in IN_TOPOLOGY if _is_given(context, name)]
        if given:
            flag = given[0].replace("_", "-")
            raise UsageError(f"--{flag} does not go together with --topology: the file says it for all hosts")
        raise typer.Exit(run_up(data_dir, plan_this_host(topology, host, restart=restart.value, lost=lost or [])))
    if host is not None:
        raise UsageError(f"--host {host}: it names a host of a --topology, and none is given")
    settings = Settings(
        port=port,
        replicas=replicas,
        front_ends=front_ends,
        cache_size=cache_size,
        durability=durability.value,
        catalog=catalog,
        restart=restart.value,
        lost=lost_ids(lost or [], replicas),
        control_host=control_host,
        routes=read_routes(routes) if routes is not None else {},
    )
    raise typer.Exit(run_up(data_dir, plan(settings)))


IN_TOPOLOGY = (
    "port", "replicas", "front_ends", "cache_size", "durability", "catalog", "control_host", "routes",
)  # fmt: skip
"""Flags of `up` that a topology file makes needless."""


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@app.command(epilog="Example: bazaar certs --topology bazaar.toml --out tls; to renew them, the same with --force")
def certs(
    topology: Annotated[Path, typer.Option(help="TOML file with the hosts.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="Folder of the certificates, the keys and the secret.", metavar="DIR")],
    days: Annotated[int, typer.Option(min=1, max=3_650, help="How long the hosts' certificates are good.")] = 397,
    force: Annotated[
        bool, typer.Option("--force", help="Renew the hosts' certificates; the authority and the secret stay.")
    ] = False,
) -> None:
    """Make what the hosts of a topology need: an authority, a certificate for each, and the secret they share."""
    from services.cluster.certs_command import make_certs

    raise typer.Exit(make_certs(topology, out, days=days, force=force))


@app.command(epilog="Examples: bazaar status; bazaar status --watch; bazaar status --json")
def status(
    data_dir: DataDir = DATA,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
) -> None:
    """Show every service: its process, state, role and head. Works also when no supervisor runs."""
    from services.cluster.commands import show_status

    if as_json and watch:
        raise typer.BadParameter("--json and --watch do not go together")
    raise typer.Exit(show_status(data_dir, as_json=as_json, watch=watch))


@app.command(epilog="Examples: bazaar kill order-3; bazaar kill catalog")
def kill(name: ServiceName, data_dir: DataDir = DATA) -> None:
    """Kill a service (SIGKILL) and keep it down until `bazaar start`."""
    from services.cluster.commands import act

    raise typer.Exit(act(data_dir, name, "kill"))


@app.command(epilog="Example: bazaar pause order-3")
def pause(name: ServiceName, data_dir: DataDir = DATA) -> None:
    """Stop a service where it stands (SIGSTOP): it keeps its connections and says nothing."""
    from services.cluster.commands import act

    raise typer.Exit(act(data_dir, name, "pause"))


@app.command(epilog="Example: bazaar resume order-3")
def resume(name: ServiceName, data_dir: DataDir = DATA) -> None:
    """Let a paused service go on (SIGCONT)."""
    from services.cluster.commands import act

    raise typer.Exit(act(data_dir, name, "resume"))


@app.command(epilog="Example: bazaar start order-3")
def start(name: ServiceName, data_dir: DataDir = DATA) -> None:
    """Start a service again that was killed, or that failed."""
    from services.cluster.commands import act

    raise typer.Exit(act(data_dir, name, "start"))


@app.command(epilog="Examples: bazaar restart; bazaar restart catalog order-2; bazaar restart --at-once")
def restart(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="All, in the right order, when none is named.")
    ] = None,
    data_dir: DataDir = DATA,
    rolling: Annotated[
        bool, typer.Option("--rolling/--at-once", help="One after the other, each while all others work; or together.")
    ] = True,
) -> None:
    """Stop services gracefully and start them again, with what is installed now: an upgrade that nobody notices."""
    from services.cluster.restart import restart as restart_services

    raise typer.Exit(restart_services(data_dir, names or [], rolling=rolling))


@app.command(epilog="Example: bazaar stock GameStart")
def stock(name: StockName, data_dir: DataDir = DATA, url: Url = None, as_json: Json = False) -> None:
    """Look up the price and quantity of a stock."""
    from services.cluster.commands import public_urls, show_stock

    raise typer.Exit(show_stock(public_urls(data_dir, url or []), name, as_json=as_json))


@app.command(epilog="Example: bazaar buy GameStart 3")
def buy(name: StockName, number: Quantity, data_dir: DataDir = DATA, url: Url = None, as_json: Json = False) -> None:
    """Buy a stock, once, however often the call has to be repeated."""
    from services.cluster.commands import public_urls, trade

    raise typer.Exit(trade(public_urls(data_dir, url or []), "buy", name, number, as_json=as_json))


@app.command(epilog="Example: bazaar sell GameStart 3")
def sell(name: StockName, number: Quantity, data_dir: DataDir = DATA, url: Url = None, as_json: Json = False) -> None:
    """Sell a stock, once, however often the call has to be repeated."""
    from services.cluster.commands import public_urls, trade

    raise typer.Exit(trade(public_urls(data_dir, url or []), "sell", name, number, as_json=as_json))


@app.command(epilog="Example: bazaar order 17")
def order(
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="Order number.")],
    data_dir: DataDir = DATA,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Look up an order by its number."""
    from services.cluster.commands import public_urls, show_order

    raise typer.Exit(show_order(public_urls(data_dir, url or []), number, as_json=as_json))


@app.command(
    epilog="Examples: bazaar load; bazaar load --clients 20 --p 0.8; bazaar load --url http://10.0.0.5:8000 --json"
)
def load(
    clients: Annotated[int, typer.Option(min=1, max=1_000, help="Clients at the same time.")] = 5,
    p: Annotated[float, typer.Option("--p", min=0, max=1, help="Probability of a trade after a look-up.")] = 0.4,
    iterations: Annotated[int, typer.Option(min=1, help="Look-ups of each client.")] = 200,
    seed: Annotated[int | None, typer.Option(help="Makes the clients' choices the same again.")] = None,
    data_dir: DataDir = DATA,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Clients that look up random stocks, trade now and then, and check all their orders at the end."""
    from client.command import load_command
    from services.cluster.commands import public_urls

    raise typer.Exit(load_command(public_urls(data_dir, url or []), clients, p, iterations, seed, as_json))


@app.command(epilog="Examples: bazaar verify; bazaar verify --json")
def verify(data_dir: DataDir = DATA, as_json: Json = False) -> None:
    """Prove that all replicas hold the same orders and that the quantities add up; exit code 1 when not."""
    from services.cluster.commands import verify as verify_all

    raise typer.Exit(verify_all(data_dir, as_json=as_json))


@app.command(epilog="Examples: bazaar demo; bazaar demo --keep; bazaar demo --seconds 30 --json")
def demo(
    seconds: Annotated[float, typer.Option(min=0.3, max=3_600, help="How long clients trade.", metavar="S")] = 9.0,
    keep: Annotated[bool, typer.Option("--keep", help="Let it run on after the verdict, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """The whole story in half a minute: a bazaar of its own trades, loses its leader, heals, and loses no order."""
    from eval.demo.command import demo_command

    raise typer.Exit(demo_command(seconds, keep=keep, as_json=as_json))


@app.command(
    epilog="Examples: bazaar chaos; bazaar chaos --rounds 200 --seed 7; bazaar chaos --rounds 3 --partitions --json; "
    "sudo bazaar chaos --hosts --rounds 50"
)
def chaos(  # noqa: PLR0913, PLR0917 - every flag is an argument
    rounds: Annotated[int, typer.Option(min=1, max=100_000, help="Faults, one after the other.")] = 20,
    seed: Annotated[int | None, typer.Option(help="Draws the same faults again.")] = None,
    clients: Annotated[int, typer.Option(min=1, max=100, help="Clients at the same time.")] = 5,
    front_ends: Annotated[int, typer.Option(min=1, max=9, help="How many front-ends.")] = 2,
    partitions: Annotated[
        bool, typer.Option("--partitions", help="Cut the network between the processes, too.")
    ] = False,
    port: Annotated[int | None, typer.Option(help="First of 30 ports; free ones by default.", metavar="P")] = None,
    hosts: Annotated[
        bool, typer.Option("--hosts", help="Three hosts with etcd, each a network namespace: lose one at a time.")
    ] = False,
    namespaces: Annotated[
        bool, typer.Option("--namespaces/--no-namespaces", help="With --hosts, without root: no cuts, one network.")
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the result and the plot.", metavar="DIR", show_default="eval/results")
    ] = None,
    as_json: Json = False,
) -> None:
    """Kill, pause, restart and cut off the processes of a bazaar of its own, under load, and check what clients saw."""
    from eval.chaos.command import chaos_command, new_seed
    from eval.chaos.run import on_one_machine
    from eval.hosts.stage import on_three_hosts

    seed = new_seed() if seed is None else seed
    if hosts:
        if partitions or port is not None or front_ends != 2:
            raise typer.BadParameter("--hosts has its own network, ports and front-ends")
        run = on_three_hosts(rounds, seed, clients, namespaces=namespaces)
    elif not namespaces:
        raise typer.BadParameter("--no-namespaces goes with --hosts")
    else:
        run = on_one_machine(rounds, seed, clients, front_ends, port, partitions=partitions)
    results = Path("eval/results") / ("hosts" if hosts else "chaos")
    raise typer.Exit(chaos_command(run, out or results, as_json=as_json))


@app.command(
    epilog="Examples: bazaar bench --quick; bazaar bench --only look_up,trade --connections 1,32; bazaar bench --scale"
)
def bench(  # noqa: PLR0913, PLR0917 - every flag is an argument
    quick: Annotated[bool, typer.Option("--quick", help="One round of 1 s at 1 and 32 connections.")] = False,
    only: Annotated[
        str | None, typer.Option(help="look_up, trade, order_query, or some of them.", metavar="A,B")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, max=1_000, help="How often all is measured; 5.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, max=3_600, help="Of one measurement; 5.")] = None,
    connections: Annotated[str | None, typer.Option(help="At the same time; 1,5,32,128.", metavar="A,B")] = None,
    scale: Annotated[
        bool, typer.Option("--scale", help="Also with long logs and many stocks (5 GiB of disk).")
    ] = False,
    most_orders: Annotated[int, typer.Option(min=1_000, help="The longest log of --scale.", metavar="N")] = 5_000_000,
    out: Annotated[Path, typer.Option(help="Folder of the result and the plot.", metavar="DIR")] = Path(
        "eval/results/bench"
    ),
    as_json: Json = False,
) -> None:
    """Measure a bazaar of its own beside bare uvicorn and FastAPI. The data is where TMPDIR says: not in memory."""
    from eval.bench.command import bench_command, chosen_settings

    chosen = chosen_settings(
        quick=quick,
        only=only,
        rounds=rounds,
        seconds=seconds,
        connections=connections,
        scale=scale,
        most_orders=most_orders,
    )
    raise typer.Exit(bench_command(chosen, out, as_json=as_json))


def main() -> None:
    """Run the command line and exit."""
    sys.exit(_run(app))


def _run(command: Callable[..., None]) -> int:
    """The exit code. Errors that an operator can do something about are told in words, without a traceback."""
    from services.cluster.errors import CannotDo, UsageError

    try:
        command(prog_name="bazaar")
    except CannotDo as error:
        return _complain(error.message, FAILED)
    except UsageError as error:
        return _complain(str(error), USAGE)
    except BrokenPipeError:
        # Whoever read our output has gone (`bazaar status | head`). Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as exit_:
        return _exit_code(exit_)
    return 0


def _exit_code(exit_: SystemExit) -> int:
    if isinstance(exit_.code, str):
        return _complain(exit_.code, FAILED)
    return exit_.code or 0


def _complain(message: str, code: int) -> int:
    typer.echo(f"bazaar: {message}", err=True)
    return code
