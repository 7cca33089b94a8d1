"""The secret that internal listeners ask for: made in the data folder at the first start, for its owner's eyes only."""

import os
import secrets
import tempfile
from pathlib import Path

MIN_LENGTH = 16


class BadSecret(ValueError):
    """The file holds no secret that is worth the name."""


def load_secret(data_dir: Path, file: Path | None = None) -> str:
    """Read the secret of this data folder; whoever comes first makes it, and all others get the same one.

    file: where it is instead; it must exist then, because several hosts share it and one made here would be ours alone.
    Raises BadSecret for a file that holds none: a request without a secret would pass for one with an empty one.
    """
    path = file or data_dir / "secret"
    if file is None and not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=data_dir, prefix=".secret-")  # mode 600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as new:
                new.write(secrets.token_urlsafe(32))
                new.flush()
                os.fsync(new.fileno())
            os.link(draft, path)
        except FileExistsError:
            pass  # another service was first
        finally:
            Path(draft).unlink()
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise BadSecret(f"{path}, the file of the secret, cannot be read: {error.strerror}") from error
    if len(secret) < MIN_LENGTH or not secret.isascii():
        raise BadSecret(
            f"{path} holds no secret of {MIN_LENGTH} or more ASCII characters; "
            + ("delete it, a new one is made" if file is None else "every host must have the same one")
        )
    return secret.decode("ascii")
