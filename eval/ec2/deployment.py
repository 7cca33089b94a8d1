"""Makes the machine, puts the release on it, and takes it away again.

A step that fails leaves what is there; `deploy` once more goes on from there, `teardown` removes it.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from eval.ec2 import release, state
from eval.ec2.remote import Remote
from eval.ec2.stack import IMAGE, Machine, Stack, parameters, user_data
from eval.ec2.state import Deployment
from services.cluster.errors import CannotDo

SSH_S = 300.0
PREPARE_S = 600.0
UPLOAD_S = 300.0
INSTALL_S = 600.0
READY_S = 60.0
SHORT_S = 60.0

PREPARED = "cloud-init status --wait >&2 || { sudo tail /var/log/cloud-init-output.log >&2; exit 1; }"
WILL_END = "sudo systemctl is-active machine-end.timer"
UNPACK = "sudo rm -rf /opt/bazaar.new && sudo mkdir -p /opt/bazaar.new && sudo tar -xz -C /opt/bazaar.new"
INSTALL = "sudo /opt/bazaar.new/eval/ec2/machine/install.sh"
UNITS = "sudo systemctl list-units --all --plain --no-legend --no-pager 'bazaar*'"
SWITCH = "cd /opt/bazaar && sudo -u bazaar .venv/bin/bazaar evaluate switch {mode} --data-dir /var/lib/bazaar"
VERIFY = "cd /opt/bazaar && sudo -u bazaar .venv/bin/bazaar verify --data-dir /var/lib/bazaar"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What `deploy` is asked for. Addresses are written 198.51.100.7/32."""

    public_key: Path
    ssh_from: str
    public_from: str
    hours: int
    image: str = IMAGE

    @property
    def identity(self) -> Path:
        """The private key's file; where only an agent has it, the public one tells ssh which to ask for."""
        private = Path(str(self.public_key).removesuffix(".pub"))
        return private if private.exists() else self.public_key

    def user_data(self) -> str:
        """What the machine does at its start. Raises CannotDo when there is no such key."""
        try:
            return user_data(self.public_key.read_text(encoding="utf-8"), self.hours)
        except OSError as error:
            raise CannotDo(f"{self.public_key} cannot be read: {error.strerror}; make one with: ssh-keygen") from error


def remote_of(deployment: Deployment, folder: Path) -> Remote:
    """The way to the machine."""
    return Remote(deployment.address, deployment.identity, folder / "known_hosts")


def deploy(stack: Stack, wanted: Wanted, folder: Path, say: Say) -> Deployment:
    """Make the machine unless there is one, and install the release on it. Raises CannotDo."""
    deployment = _machine(stack, wanted, folder, say)
    remote = remote_of(deployment, folder)
    say(f"waiting for ssh to {deployment.address} ...")
    remote.wait(SSH_S)
    say("waiting until the machine is prepared ...")
    remote.run(PREPARED, timeout_s=PREPARE_S)
    _check_end(remote)
    deployment = deployment.model_copy(update={"commit": install(remote, say)})
    state.save(folder, deployment)
    wait_ready(deployment.url)
    return deployment


def _machine(stack: Stack, wanted: Wanted, folder: Path, say: Say) -> Deployment:
    if stack.status() is None:
        say(f"making the stack {stack.name} in {stack.region} ...")
        stack.create(parameters(wanted.user_data(), wanted.ssh_from, wanted.public_from, wanted.image))
        state.forget(folder)  # an earlier machine may have had this address
        deployment = _describe(stack, wanted, _running(stack))
        state.save(folder, deployment)
        return deployment
    known = state.find(folder)
    machine = _running(stack)
    if known is None or known.machine_id != machine.machine_id:
        raise CannotDo(
            f"{folder}/ does not know the machine of the stack {stack.name}: choose another --stack, "
            "or remove it with: python -m eval.ec2 teardown"
        )
    say(f"the machine {machine.machine_id} is there already, with the settings it was made with")
    return known


def _running(stack: Stack) -> Machine:
    machine = stack.machine()
    if machine is None or machine.state != "running":
        raise CannotDo(f"the stack {stack.name} has no running machine: remove it with: python -m eval.ec2 teardown")
    return machine


def _describe(stack: Stack, wanted: Wanted, machine: Machine) -> Deployment:
    if machine.address is None:
        raise CannotDo(
            "the machine has no public address: its subnet gives none; remove it: python -m eval.ec2 teardown"
        )
    return Deployment(
        region=stack.region,
        stack=stack.name,
        machine_type=machine.machine_type,
        machine_id=machine.machine_id,
        address=machine.address,
        identity=wanted.identity.absolute(),
        hours=wanted.hours,
        started_at=machine.started_at,
    )


def _check_end(remote: Remote) -> None:
    """The machine has to end by itself, or a forgotten one costs money until somebody notices. Raises CannotDo."""
    try:
        remote.run(WILL_END, timeout_s=SHORT_S)
    except CannotDo as error:
        raise CannotDo(
            f"the machine would not end by itself: remove it with: python -m eval.ec2 teardown\n{error.message}"
        ) from error


def install(remote: Remote, say: Say) -> str:
    """Bring the checkout's last commit to the machine and start it; gives the commit."""
    with tempfile.TemporaryDirectory() as temporary:
        tarball = Path(temporary) / "release.tar.gz"
        commit = release.pack(tarball)
        say(f"sending release {commit[:12]} ({tarball.stat().st_size / 1e6:.1f} MB) ...")
        remote.run(UNPACK, timeout_s=UPLOAD_S, source=tarball)
    say("installing and starting it ...")
    remote.run(INSTALL, timeout_s=INSTALL_S)
    return commit


def wait_ready(url: str, patience_s: float = READY_S) -> None:
    """Wait until the public API is ready, asked from here. Raises CannotDo."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            answer = httpx.get(f"{url}/readyz", timeout=5.0)
        except httpx.TransportError as error:
            words = str(error) or type(error).__name__
        else:
            if answer.is_success:
                return
            words = answer.text
        if time.monotonic() >= deadline:
            raise CannotDo(f"{url} is not ready: {words}; see: python -m eval.ec2 fetch")
        time.sleep(0.5)


def teardown(stack: Stack, folder: Path) -> list[str]:
    """Remove the stack and wait; gives what is left all the same, which should be nothing."""
    stack.delete()
    state.forget(folder)
    return stack.leftovers()
