"""`bazaar certs`: an authority of our own, one certificate for each host of a topology, and the secret they share.

What is there stays, unless --force asks for new certificates of the hosts; the authority and the secret are made once.
Keys are readable by their owner alone from their first byte on. The authority's key is needed here only, by no host.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.cluster.errors import CannotDo
from services.common.secret import BadSecret, load_secret

AUTHORITY = "authority"
AUTHORITY_DAYS = 3_650
HOST_DAYS = 397
CLOCK_SKEW = timedelta(hours=1)  # hosts whose clocks are a little late believe a new certificate, too


@dataclass(frozen=True)
class Authority:
    """Who signs: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Made:
    """What `make_certificates` has done, by file name, in the order in which it did it."""

    made: Sequence[str]
    kept: Sequence[str]


def make_certificates(
    folder: Path, hosts: Mapping[str, Sequence[str]], *, days: int = HOST_DAYS, force: bool = False
) -> Made:
    """Make what is missing in `folder`; `hosts` are their names and under which addresses each is reached.

    force: new certificates and keys for all hosts, of the same authority. Raises CannotDo.
    """
    made: list[str] = []
    kept: list[str] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = _authority(folder, made, kept)
        for name, addresses in hosts.items():
            certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
            if _both_exist(certificate, key) and not force:
                _check_kept(certificate, authority, addresses)
                kept.append(certificate.name)
                continue
            write_pair(folder, name, *new_host(authority, name, addresses, days))
            made.append(certificate.name)
        (kept if (folder / "secret").exists() else made).append("secret")
        load_secret(folder)
    except BadSecret as error:
        raise CannotDo(str(error)) from error
    except OSError as error:
        raise CannotDo(f"{error.filename or folder}: {error.strerror}") from error
    return Made(made, kept)


def new_authority(days: int = AUTHORITY_DAYS, now: datetime | None = None) -> Authority:
    """An authority that signs itself, and hosts, but no other authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a bazaar")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key.public_key(), days, now or datetime.now(UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def new_host(
    authority: Authority, name: str, addresses: Sequence[str], days: int = HOST_DAYS, now: datetime | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for a host that calls and is called; it is good for `addresses`, and never beyond the authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = authority.certificate.subject
    both_sides = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    last = authority.certificate.not_valid_after_utc
    certificate = (
        _builder(subject, issuer, key.public_key(), days, now or datetime.now(UTC), last)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(both_sides, critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(each) for each in addresses]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return certificate, key


def write_pair(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Write NAME.crt and NAME.key, replacing what is there."""
    _write(folder / f"{name}.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write(folder / f"{name}.crt", certificate.public_bytes(Encoding.PEM), 0o644)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: int,
    now: datetime,
    last: datetime | None = None,
) -> x509.CertificateBuilder:
    ends = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(ends, last) if last is not None else ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _alternative(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _authority(folder: Path, made: list[str], kept: list[str]) -> Authority:
    """The one in the folder, or a new one."""
    certificate, key = folder / f"{AUTHORITY}.crt", folder / f"{AUTHORITY}.key"
    if not _both_exist(certificate, key):
        authority = new_authority()
        write_pair(folder, AUTHORITY, authority.certificate, authority.key)
        made.append(certificate.name)
        return authority
    kept.append(certificate.name)
    return _read_authority(certificate, key)


def _read_authority(certificate: Path, key: Path) -> Authority:
    try:
        read = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise CannotDo(f"{certificate} and {key} cannot be read as a certificate and its key: {error}") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != read.public_key():
        raise CannotDo(f"{key} is not the key of {certificate}: put the right one there")
    if read.not_valid_after_utc <= datetime.now(UTC):
        raise CannotDo(
            f"{certificate} has expired, and what it signs is worth nothing: move it away with its key, and have new "
            "certificates made for all hosts with --force"
        )
    return Authority(read, private)


def _check_kept(path: Path, authority: Authority, addresses: Sequence[str]) -> None:
    """Raise CannotDo when a host could not use the certificate that stays."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise CannotDo(f"{path} cannot be read as a certificate of a host: renew it with --force") from error
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CannotDo(f"{path} is not of the authority in this folder: renew it with --force") from error
    missing = [address for address in addresses if _alternative(address) not in names]
    if missing:
        raise CannotDo(f"{path} is not good for {', '.join(missing)}: renew it with --force")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise CannotDo(f"{path} has expired: renew it with --force")


def _both_exist(certificate: Path, key: Path) -> bool:
    """Whether a pair is there. Raises CannotDo for half of one: whoever removed the other half knows why."""
    there = [path for path in (certificate, key) if path.exists()]
    if len(there) == 1:
        gone = key if there[0] == certificate else certificate
        raise CannotDo(f"{there[0]} is there and {gone} is not: put it back, or move the other away, too")
    return bool(there)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file, whole or not at all."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(mode)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
