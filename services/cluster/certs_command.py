"""`bazaar certs`, as an operator sees it."""

from pathlib import Path

from client.console import make_console
from services.cluster.certs import AUTHORITY, make_certificates
from services.cluster.topology_file import read_topology


def make_certs(topology_file: Path, folder: Path, *, days: int, force: bool) -> int:
    """Make what is missing, and tell what goes where. Raises CannotDo and UsageError."""
    topology = read_topology(topology_file)
    console = make_console()
    hosts = {name: topology.addresses(name) for name in topology.hosts}
    done = make_certificates(folder, hosts, days=days, force=force)
    for words, names in (("made", done.made), ("kept", done.kept)):
        for name in names:
            console.print(f"{words}: {folder / name}", soft_wrap=True)
    if not done.made:
        console.print("nothing was missing; --force renews the certificates of the hosts", soft_wrap=True)
    console.print(
        f"To each host: {AUTHORITY}.crt, its own .crt and .key, and secret. "
        f"{AUTHORITY}.key goes to none: whoever has it is any host. Keep it safe, it signs the next certificates.",
        soft_wrap=True,
    )
    return 0
