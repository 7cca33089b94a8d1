"""The commands of `bazaar evaluate`. What they need is imported when they run, so that `--help` is quick."""
# ruff: noqa: PLC0415 - see above

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

RESULTS = Path("eval/results")

app = typer.Typer(
    help="Measure latency, distance, the cache and crashes on a bazaar of their own, simulate shards, and plot it all.",
    epilog="Examples: bazaar evaluate all --quick; bazaar evaluate latency; bazaar evaluate plot",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Mode(StrEnum):
    """What a cache is."""

    ON = "on"
    OFF = "off"


Quick = Annotated[bool, typer.Option("--quick", help="Small: it works, but the figures mean little.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON alone.")]
Out = Annotated[Path, typer.Option(help="Folder of the result and the plots.", metavar="DIR")]
Seed = Annotated[int | None, typer.Option(help="Draws the same order and the same choices again.")]
Clients = Annotated[int | None, typer.Option(min=1, max=1_000, help="Clients, a process each; 5.")]
P = Annotated[list[float] | None, typer.Option("--p", min=0, max=1, help="Trade probability; may be repeated.")]
Repetitions = Annotated[int | None, typer.Option(min=1, max=1_000, help="How often everything is measured.")]
Iterations = Annotated[int | None, typer.Option(min=1, help="Look-ups of each client in a run.")]
CacheSize = Annotated[int | None, typer.Option(min=1, help="Stocks in the cache when it is on; 10.")]


@app.command(
    epilog="Examples: bazaar evaluate latency; bazaar evaluate latency --quick --json; bazaar evaluate latency "
    "--url http://10.0.0.5:8000 --p 0.4"
)
def latency(  # noqa: PLR0913, PLR0917 - every flag is an argument
    quick: Quick = False,
    p: P = None,
    repetitions: Repetitions = None,
    iterations: Iterations = None,
    clients: Clients = None,
    cache_size: CacheSize = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, help="Open loop: visits/s of all clients, from their intended start.")
    ] = None,
    seed: Seed = None,
    url: Annotated[
        list[str] | None, typer.Option(help="A bazaar that runs already, as it is; may be repeated.", metavar="U")
    ] = None,
    switch_cache: Annotated[
        str | None,
        typer.Option(help="With --url: command that turns its cache on or off, its last argument.", metavar="COMMAND"),
    ] = None,
    out: Out = RESULTS / "latency",
    as_json: Json = False,
) -> None:
    """Latency of each kind of request against p, with the cache on and off, as five client processes see it."""
    from eval.latency.command import FULL, QUICK, chosen_settings, run_command

    flags = {
        "probabilities": p,
        "repetitions": repetitions,
        "iterations": iterations,
        "clients": clients,
        "cache_size": cache_size,
        "rate": rate,
        "seed": seed,
        "urls": url,
        "switch_cache": shlex.split(switch_cache or ""),
    }
    raise typer.Exit(run_command(chosen_settings(QUICK if quick else FULL, _command(), flags), out, as_json=as_json))


@app.command(epilog="Examples: bazaar evaluate distance; bazaar evaluate distance --quick --round-trip 50")
def distance(  # noqa: PLR0913, PLR0917 - every flag is an argument
    quick: Quick = False,
    round_trip: Annotated[
        list[float] | None,
        typer.Option("--round-trip", min=0, max=10_000, help="Of the clients, in ms; may be repeated. 0, 20, 80."),
    ] = None,
    p: P = None,
    repetitions: Repetitions = None,
    iterations: Iterations = None,
    clients: Clients = None,
    cache_size: CacheSize = None,
    seed: Seed = None,
    out: Out = RESULTS / "distance",
    as_json: Json = False,
) -> None:
    """The same with clients that are far away: the trip hides the cache, and the catalog is spared all the same."""
    from eval.distance.command import FULL, QUICK, run_command
    from eval.latency.command import chosen_settings

    flags = {
        "round_trips_ms": round_trip,
        "probabilities": p,
        "repetitions": repetitions,
        "iterations": iterations,
        "clients": clients,
        "cache_size": cache_size,
        "seed": seed,
    }
    raise typer.Exit(run_command(chosen_settings(QUICK if quick else FULL, _command(), flags), out, as_json=as_json))


@app.command(epilog="Examples: bazaar evaluate cache; bazaar evaluate cache --quick --json")
def cache(
    quick: Quick = False, seed: Seed = None, out: Out = RESULTS / "cache_replacement", as_json: Json = False
) -> None:
    """What is cached over time and what replaces what, as a picture; hit ratio against size and trades."""
    from eval.cache_replacement.command import chosen_settings, run_command

    raise typer.Exit(run_command(chosen_settings(quick=quick, seed=seed), out, as_json=as_json))


@app.command(epilog="Examples: bazaar evaluate crash; bazaar evaluate crash --rounds 20 --seed 7")
def crash(
    quick: Quick = False,
    rounds: Annotated[int | None, typer.Option(min=1, max=1_000, help="Kills, one after the other; 12.")] = None,
    seed: Seed = None,
    out: Out = RESULTS / "crash",
    as_json: Json = False,
) -> None:
    """Kill replicas under the lab's clients, the leader in half of the rounds, and see what clients and disks show."""
    from eval.crash.command import chosen_settings, run_command

    raise typer.Exit(run_command(chosen_settings(quick=quick, rounds=rounds, seed=seed), out, as_json=as_json))


@app.command(epilog="Examples: bazaar evaluate scaling; bazaar evaluate scaling --seed 7 --json")
def scaling(
    quick: Quick = False,
    seed: Seed = None,
    bench: Annotated[
        Path | None, typer.Option(help="Result of `bazaar bench` with the costs; the one that comes with this.")
    ] = None,
    out: Out = RESULTS / "scaling",
    as_json: Json = False,
) -> None:
    """Simulate several shards and regions, fed with what `bazaar bench` measured of one: nothing is measured here."""
    from eval.scaling.command import BENCH, chosen_settings, run_command

    raise typer.Exit(run_command(chosen_settings(quick=quick, seed=seed), bench or BENCH, out, as_json=as_json))


@app.command(epilog="Examples: bazaar evaluate hosts; bazaar evaluate hosts --quick --json")
def hosts(
    quick: Quick = False,
    rounds: Annotated[int | None, typer.Option(min=1, max=1_000, help="How often all is measured; 5.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, max=3_600, help="Of one measurement; 5.")] = None,
    out: Out = RESULTS / "hosts",
    as_json: Json = False,
) -> None:
    """Trades on SQLite and on etcd side by side, and look-ups against the number of front-ends; needs etcd."""
    from eval.hosts.measure_command import chosen_settings, run_command

    settings = chosen_settings(quick=quick, rounds=rounds, seconds=seconds, command=_command())
    raise typer.Exit(run_command(settings, out, as_json=as_json))


@app.command("all", epilog="Examples: bazaar evaluate all --quick; bazaar evaluate all")
def everything(
    quick: Quick = False,
    out: Annotated[Path, typer.Option(help="A folder for each experiment is made there.", metavar="DIR")] = RESULTS,
    as_json: Json = False,
) -> None:
    """All experiments, one after the other: under 40 minutes, with --quick under three."""
    from eval.evaluate.everything import run_all

    raise typer.Exit(run_all(out, quick=quick, as_json=as_json))


@app.command(epilog="Examples: bazaar evaluate plot; bazaar evaluate plot --out /tmp/results")
def plot(
    out: Annotated[Path, typer.Option(help="Where the experiments' folders are.", metavar="DIR")] = RESULTS,
) -> None:
    """Draw all plots again, from the results that are there; nothing is measured."""
    from eval.evaluate.everything import plot_all

    raise typer.Exit(plot_all(out))


@app.command(epilog="Examples: bazaar evaluate switch off; bazaar evaluate switch --data-dir /var/lib/bazaar on")
def switch(
    mode: Annotated[Mode, typer.Argument(help="What the caches are to be.")],
    data_dir: Annotated[Path, typer.Option(help="Folder of the bazaar's data.", metavar="D")] = Path("data"),
) -> None:
    """Turn the caches of a running bazaar's front-ends on or off, on their machine: for --switch-cache."""
    import asyncio

    from eval.latency.switch import switch_caches

    asyncio.run(switch_caches(data_dir, on=mode is Mode.ON))


def _command() -> str:
    """What was typed, but for what does not change the result."""
    words = iter(sys.argv[1:])
    kept = ["bazaar"]
    for word in words:
        if word == "--out":
            next(words, None)
        elif word != "--json" and not word.startswith("--out="):
            kept.append(word)
    return shlex.join(kept)
