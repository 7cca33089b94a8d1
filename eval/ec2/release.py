"""The release that travels: a tarball of the checkout's last commit."""

import subprocess
from pathlib import Path

from services.cluster.errors import CannotDo

CHECKOUT = Path(__file__).parents[2]


def pack(target: Path, checkout: Path = CHECKOUT) -> str:
    """Write the tarball and give the commit; what is not committed stays behind. Raises CannotDo."""
    commit = _git(checkout, "rev-parse", "HEAD")
    _git(checkout, "archive", "--format=tar.gz", f"--output={target.absolute()}", commit)
    return commit


def uncommitted(checkout: Path = CHECKOUT) -> list[str]:
    """The files that differ from the last commit."""
    return [line[3:] for line in _git(checkout, "status", "--porcelain").splitlines()]


def _git(checkout: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=True)  # noqa: S607
    except FileNotFoundError:
        raise CannotDo("git is not installed; the release is made with it") from None
    except subprocess.CalledProcessError as error:
        raise CannotDo(f"the release cannot be made: {error.stderr.strip()}") from error
    return done.stdout.rstrip("\n")
