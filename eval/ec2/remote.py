"""The machine over the system's ssh. Every wait has an end.

The first host key that the address shows is trusted and kept in a file of ours; another one later is refused. Keys with
a passphrase come from the agent: nothing here ever asks.
"""

import subprocess
import time
from pathlib import Path

from services.cluster.errors import CannotDo

USER = "admin"  # see user-data.yaml
CONNECT_S = 10
NOT_CONNECTED = 255  # ssh's own exit status; others are the command's
LAST_LINES = 5


class Remote:
    """One machine. known_hosts: where its key is kept; identity: the private ssh key's file."""

    def __init__(self, address: str, identity: Path, known_hosts: Path) -> None:
        self._address = address
        self._identity = identity
        self._known_hosts = known_hosts

    def command(self, text: str) -> list[str]:
        """The command line that has the machine's shell run `text`."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_S),
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": f'"{self._known_hosts}"',
        }
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["ssh", *flags, "-i", str(self._identity), f"{USER}@{self._address}", text]

    def run(self, text: str, *, timeout_s: float, source: Path | None = None) -> bytes:
        """Run `text` there and give what it prints; `source` is its standard input. Raises CannotDo."""
        done = self._run(text, timeout_s, source)
        if done.returncode != 0:
            words = done.stderr or done.stdout
            last = "\n".join(words.decode(errors="replace").splitlines()[-LAST_LINES:])
            raise CannotDo(f"on the machine, `{text}` ended with status {done.returncode}:\n{last}")
        return done.stdout

    def wait(self, patience_s: float, every_s: float = 5.0) -> None:
        """Wait until ssh gets in. Raises CannotDo with ssh's last words."""
        deadline = time.monotonic() + patience_s
        while (done := self._run("true", 2 * CONNECT_S, None)).returncode == NOT_CONNECTED:
            if time.monotonic() >= deadline:
                words = done.stderr.decode(errors="replace").strip()
                raise CannotDo(
                    f"ssh does not reach {self._address}: {words}; a key with a passphrase: ssh-add it first"
                )
            time.sleep(every_s)

    def _run(self, text: str, timeout_s: float, source: Path | None) -> "subprocess.CompletedProcess[bytes]":
        with (source or Path("/dev/null")).open("rb") as stdin:
            try:
                return subprocess.run(
                    self.command(text), stdin=stdin, capture_output=True, timeout=timeout_s, check=False
                )
            except subprocess.TimeoutExpired:
                raise CannotDo(f"on the machine, `{text}` did not end within {timeout_s:.0f} s") from None
            except FileNotFoundError:
                raise CannotDo("ssh is not installed; on Debian and Ubuntu: apt-get install openssh-client") from None
