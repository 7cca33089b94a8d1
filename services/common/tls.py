"""TLS between the services of several hosts: each shows a certificate of one authority of our own, and asks for one.

Whoever is called is known by name: the certificate must be of the address that was called. Whoever calls must show any
certificate of the authority; what he may do then, the secret tells (services/common/app.py). A service reads its files
once, when it starts.

A handshake fails where nobody sees it: the loop of a listener drops the connection, and tells its caller nothing. So a
line is logged here, on the side that did not accept the other, at most one for each reason in a while.
"""

import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from services.common.logs import get_log

log = get_log(__name__)

HANDSHAKE_S = 9.0
SHUTDOWN_S = 1.0
TOLD_AGAIN_S = 30.0
MOST_TOLD = 100
RENEW_BEFORE = timedelta(days=30)


class BadTls(ValueError):
    """The files cannot be used; the message names the one at fault and says what to do."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: a certificate with its key, and the authority whose certificates are believed."""

    certificate: Path
    key: Path
    authority: Path


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For a listener: a caller without a certificate of the authority is not let in. Raises BadTls."""
    return _context(ssl.PROTOCOL_TLS_SERVER, files)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For calls: a listener must show a certificate of the authority for the address called. Raises BadTls."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.sslobject_class = _Handshake
    for path in (files.authority, files.certificate, files.key):
        _check_readable(path)
    try:
        context.load_verify_locations(files.authority)
    except ssl.SSLError as error:
        raise BadTls(f"{files.authority} holds no certificate of an authority in PEM: {_reason(error)}") from error
    try:
        # The password is never asked for: a service has nobody to ask.
        context.load_cert_chain(files.certificate, files.key, password="")
    except ssl.SSLError as error:
        raise BadTls(f"{files.certificate} and {files.key} are no certificate and its key: {_reason(error)}") from error
    return context


def _check_readable(path: Path) -> None:
    """What ssl says about a missing file does not name it."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise BadTls(f"{path} cannot be read: {error.strerror}; make it with: bazaar certs") from error


def warn_of_end(files: TlsFiles) -> None:
    """Log when the certificate has expired, or soon will. Raises BadTls."""
    ends = expiry(files.certificate)
    left = ends - datetime.now(UTC)
    if left < RENEW_BEFORE:
        tell = log.error if left < timedelta() else log.warning
        tell(
            "this certificate has expired: no other service will speak to this one; renew it with: bazaar certs --force"
            if left < timedelta()
            else "this certificate expires soon: renew it with: bazaar certs --force, and restart the services",
            certificate=str(files.certificate),
            ends=f"{ends:%Y-%m-%d %H:%M} UTC",
        )


def expiry(certificate: Path) -> datetime:
    """Until when this certificate is good. Raises BadTls."""
    from cryptography import x509  # noqa: PLC0415 - heavy, and needed by none that speaks no TLS

    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise BadTls(f"{certificate} cannot be read as a certificate: {error}") from error


class _Handshake(ssl.SSLObject):
    """One side of a connection, which tells when it could not agree with the other one."""

    def do_handshake(self) -> None:
        """See `SSLObject`."""
        try:
            super().do_handshake()
        except ssl.SSLError as error:
            _tell(self, error)
            raise

    def read(self, *arguments: Any) -> Any:
        """See `SSLObject`. In TLS 1.3 a refusal may come with the first read, from a listener that says why."""
        try:
            return super().read(*arguments)
        except ssl.SSLError as error:
            _tell(self, error)
            raise


_QUIET = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLZeroReturnError, ssl.SSLEOFError, ssl.SSLSyscallError)
_told: dict[tuple[str | None, str], float] = {}  # who and why: when it was logged last


def _tell(connection: ssl.SSLObject, error: ssl.SSLError) -> None:
    if isinstance(error, _QUIET):
        return
    now = time.monotonic()
    about = (None if connection.server_side else connection.server_hostname, _reason(error))
    if now - _told.get(about, -TOLD_AGAIN_S) < TOLD_AGAIN_S:
        return
    if len(_told) >= MOST_TOLD:
        _told.clear()
    _told[about] = now
    if connection.server_side:
        log.warning("TLS: somebody who called was not let in", reason=about[1])
    else:
        log.warning("TLS: no safe connection to another service came about", peer=about[0], reason=about[1])


def _reason(error: ssl.SSLError) -> str:
    """OpenSSL's words: `certificate verify failed: certificate has expired`."""
    words = (error.reason or str(error)).lower().replace("_", " ")
    more = getattr(error, "verify_message", None)
    return f"{words}: {more}" if more else words
