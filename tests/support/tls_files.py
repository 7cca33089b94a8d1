"""Certificates for tests: of one authority or another, good or not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.cluster.certs import Authority, new_authority, new_host, write_pair
from services.common.tls import TlsFiles

HERE = "127.0.0.1"


class Certificates:
    """Makes files of one authority in a folder."""

    def __init__(self, folder: Path, authority: Authority | None = None) -> None:
        self.authority = authority or new_authority()
        self.folder = folder
        folder.mkdir(exist_ok=True)
        write_pair(folder, "authority", self.authority.certificate, self.authority.key)

    def host(self, name: str, *addresses: str, days: int = 10, made_days_ago: int = 0) -> TlsFiles:
        """The files of one host, good for `addresses` (127.0.0.1 when none is given)."""
        now = datetime.now(UTC) - timedelta(days=made_days_ago)
        write_pair(self.folder, name, *new_host(self.authority, name, addresses or (HERE,), days, now))
        return TlsFiles(self.folder / f"{name}.crt", self.folder / f"{name}.key", self.folder / "authority.crt")
