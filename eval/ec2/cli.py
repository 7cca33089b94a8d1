"""The command line of the machine on EC2.

Exit codes: 0 done, 1 a check failed or it cannot be done, 2 wrong usage, 130 ended by Ctrl-C.
"""

import ipaddress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer

from eval.ec2 import deployment, evaluation, release, state
from eval.ec2.cost import REGION, cost_usd, describe_cost
from eval.ec2.stack import IMAGE, TEMPLATE, Stack
from eval.evaluate.cli import Mode
from services.cluster.errors import CannotDo

WHOSE_ADDRESS = "https://checkip.amazonaws.com"
KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")
FAILED = 1

app = typer.Typer(
    name="ec2",
    help="The bazaar on one m5a.xlarge of EC2, for its evaluation. It costs money from deploy to teardown.",
    epilog="In this order: deploy, evaluate, fetch, teardown. All of it: docs/ec2.md",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StackName = Annotated[str, typer.Option("--stack", help="Name of the CloudFormation stack.", metavar="NAME")]
Folder = Annotated[Path, typer.Option("--state-dir", help="What is remembered, and results.", metavar="D")]
PublicKey = Annotated[Path | None, typer.Option(help="Public ssh key; default: the one in ~/.ssh.", metavar="FILE")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done; asks AWS for nothing.")]

STACK = "bazaar"
FOLDER = Path(".ec2")


@app.command(epilog="Examples: python -m eval.ec2 deploy --dry-run; python -m eval.ec2 deploy --hours 2")
def deploy(
    hours: Annotated[int, typer.Option(min=1, max=24, help="After so many the machine ends by itself.")] = 4,
    ssh_from: Annotated[
        str | None, typer.Option(help="Addresses that may use ssh; default: the one you have.", metavar="CIDR")
    ] = None,
    public_from: Annotated[
        str | None, typer.Option(help="Addresses that may use the API; default: as --ssh-from.", metavar="CIDR")
    ] = None,
    public_key: PublicKey = None,
    image: Annotated[str, typer.Option(help="SSM parameter that names the image.", metavar="NAME")] = IMAGE,
    stack: StackName = STACK,
    state_dir: Folder = FOLDER,
    dry_run: DryRun = False,
) -> None:
    """Make the machine and start the last commit on it; on a machine that is there, only the latter."""
    ssh_addresses = _cidr(ssh_from or own_address())
    wanted = deployment.Wanted(
        public_key=public_key or _own_key(),
        ssh_from=ssh_addresses,
        public_from=_cidr(public_from) if public_from else ssh_addresses,
        hours=hours,
        image=image,
    )
    typer.echo(describe_cost(hours))
    typer.echo(f"opens: ssh to {wanted.ssh_from}, the API on port 8000 to {wanted.public_from}")
    if left := release.uncommitted():
        typer.echo(f"note: what is not committed stays behind: {', '.join(left[:5])}{' ...' if left[5:] else ''}")
    if dry_run:
        typer.echo(
            f"would make the stack {stack} in {REGION} from {TEMPLATE}, with this user-data:\n\n{wanted.user_data()}"
        )
        return
    done = deployment.deploy(Stack(stack, REGION), wanted, state_dir, typer.echo)
    typer.echo(f"the bazaar runs on {done.url} (docs: {done.url}/docs)")
    typer.echo("next: python -m eval.ec2 evaluate; at the end: python -m eval.ec2 teardown")


@app.command(epilog="Examples: python -m eval.ec2 evaluate; python -m eval.ec2 evaluate --p 0.4 --iterations 50")
def evaluate(
    clients: Annotated[int, typer.Option(min=1, max=1_000, help="Clients at the same time, a process each.")] = 5,
    p: Annotated[list[float] | None, typer.Option("--p", min=0, max=1, help="Trade probability; repeatable.")] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Look-ups of each client in a run.")] = 200,
    repetitions: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 3,
    state_dir: Folder = FOLDER,
) -> None:
    """Run the clients on this computer against the machine, its cache on and off; the results stay here."""
    wanted = evaluation.Wanted(p or evaluation.PROBABILITIES, clients, iterations, repetitions)
    passed = evaluation.evaluate(state.load(state_dir), state_dir, wanted, typer.echo)
    raise typer.Exit(0 if passed else FAILED)


@app.command(epilog="Example: python -m eval.ec2 cache off")
def cache(mode: Annotated[Mode, typer.Argument(help="What the cache is to be.")], state_dir: Folder = FOLDER) -> None:
    """Turn the machine's cache on or off; `evaluate` does it by itself, and leaves it on."""
    evaluation.switch_cache(state.load(state_dir), state_dir, mode)


@app.command(epilog="Example: python -m eval.ec2 fetch")
def fetch(state_dir: Folder = FOLDER) -> None:
    """Bring the logs of all services, and what the machine is, to this computer."""
    typer.echo(f"fetched: {evaluation.fetch(state.load(state_dir), state_dir)}/")


@app.command(epilog="Example: python -m eval.ec2 status")
def status(stack: StackName = STACK, state_dir: Folder = FOLDER) -> None:
    """Show what there is, what it has cost, and whether the bazaar is sound."""
    found = Stack(stack, REGION)
    machine = found.machine()
    typer.echo(f"stack {stack} in {REGION}: {found.status() or 'not there'}")
    if machine is None:
        typer.echo("there is no machine")
        return
    hours = machine.hours_run(datetime.now(UTC))
    typer.echo(f"{machine.machine_type} {machine.machine_id}, {machine.state}, {machine.address}")
    typer.echo(f"runs for {hours:.1f} hours: about {cost_usd(hours):.2f} USD so far")
    known = state.load(state_dir)
    typer.echo(f"ends by itself {known.hours} hours after its start")
    remote = deployment.remote_of(known, state_dir)
    typer.echo(remote.run(deployment.UNITS, timeout_s=deployment.SHORT_S).decode().strip())
    typer.echo(remote.run(deployment.VERIFY, timeout_s=deployment.SHORT_S).decode().strip())


@app.command(epilog="Examples: python -m eval.ec2 teardown; python -m eval.ec2 teardown --dry-run")
def teardown(
    stack: StackName = STACK,
    state_dir: Folder = FOLDER,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what is there.")] = False,
) -> None:
    """Remove everything, and show that nothing that costs money is left. Results on this computer stay."""
    found = Stack(stack, REGION)
    left = found.leftovers() if dry_run else deployment.teardown(found, state_dir)
    for each in left:
        typer.echo(f"still there: {each}")
    if not left:
        typer.echo(f"nothing that costs money is left in {REGION}")
    raise typer.Exit(FAILED if left and not dry_run else 0)


def own_address() -> str:
    """The address under which this computer is seen from outside. Raises CannotDo."""
    try:
        return httpx.get(WHOSE_ADDRESS, timeout=10.0).raise_for_status().text.strip()
    except httpx.HTTPError as error:
        raise CannotDo(f"{WHOSE_ADDRESS} does not say which address you have ({error}): give --ssh-from") from error


def _cidr(text: str) -> str:
    """An IPv4 address, or a range of them, as AWS writes it."""
    try:
        return str(ipaddress.IPv4Network(text))
    except ValueError as error:
        raise CannotDo(f"write addresses as 198.51.100.7 or 198.51.100.0/24: {error}") from error


def _own_key() -> Path:
    folder = Path.home() / ".ssh"
    found = next((folder / name for name in KEYS if (folder / name).exists()), None)
    if found is None:
        raise CannotDo(f"there is no public key in {folder}/: make one with ssh-keygen, or give --public-key")
    return found
