"""The secret that internal listeners ask for: made in the data folder at the first start, for its owner's eyes only."""

import os
import secrets
import tempfile
from pathlib import Path


def load_secret(data_dir: Path) -> str:
    """Read the secret of this data folder; whoever comes first makes it, and all others get the same one."""
    path = data_dir / "secret"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=data_dir, prefix=".secret-")  # mode 600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32))
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        except FileExistsError:
            pass  # another service was first
        finally:
            Path(draft).unlink()
    return path.read_text(encoding="ascii").strip()
