"""Free ports below the ephemeral range, for tests that run at the same time in several processes.

A block of 32 ports belongs to the process that holds the lock on its file, until that process ends. The ports are below
32768, because a connection that happens to leave from one above could hold it just when a service wants it.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

FIRST_PORT = 10_240
END_PORT = 32_768
BLOCK = 32

_spare: list[int] = []


def free_port() -> int:
    """A port of this process's own on which nobody listens."""
    if not _spare:
        base = free_ports()
        _spare.extend(range(base, base + BLOCK))
    return _spare.pop()


def free_ports() -> int:
    """The first of 32 ports in a row, all of this process's own, on which nobody listens."""
    folder = Path(tempfile.gettempdir()) / f"bazaar-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    bases = list(range(FIRST_PORT, END_PORT, BLOCK))
    # Not the seeded generator that a test may have set: two processes with one seed would meet at every block.
    random.SystemRandom().shuffle(bases)
    for base in bases:
        if _lock(folder / str(base)) and all(_is_free(port) for port in range(base, base + BLOCK)):
            return base
    raise RuntimeError("every port is taken")


def _lock(path: Path) -> bool:
    """Lock the file for as long as this process lives."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
