"""`bazaar certs`: what is made, what stays, and that it can be used."""

import shutil
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from services.cluster.certs import make_certificates, new_authority, new_host, write_pair
from services.cluster.errors import CannotDo
from services.common.secret import load_secret
from services.common.tls import TlsFiles, client_context, expiry, server_context

ROOT = Path(__file__).parents[2]
HOSTS = {"a": ["10.0.0.1", "a.example", "a"], "b": ["fd00::2"]}
FILES = ["a.crt", "a.key", "authority.crt", "authority.key", "b.crt", "b.key", "secret"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> list[str]:
    found = certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(each.value) for each in found]


def test_everything_is_made_when_the_folder_is_new(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "tls"
    done = make_certificates(folder, HOSTS)
    assert sorted(contents(folder)) == FILES
    assert (list(done.made), list(done.kept)) == (["authority.crt", "a.crt", "b.crt", "secret"], [])
    assert names(folder / "a.crt") == ["10.0.0.1", "a.example", "a"]
    assert names(folder / "b.crt") == ["fd00::2"]
    assert load_secret(tmp_path, folder / "secret")


def test_keys_and_secret_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    make_certificates(folder, HOSTS)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {name: 0o644 if name.endswith(".crt") else 0o600 for name in FILES}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_files_are_accepted_by_those_who_will_use_them(tmp_path: Path) -> None:
    make_certificates(tmp_path, HOSTS)
    for name in HOSTS:
        files = TlsFiles(tmp_path / f"{name}.crt", tmp_path / f"{name}.key", tmp_path / "authority.crt")
        assert server_context(files).verify_mode == client_context(files).verify_mode == ssl.CERT_REQUIRED
        assert client_context(files).check_hostname


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the Debian package openssl")
def test_openssl_finds_no_fault_when_it_is_as_strict_as_it_can(tmp_path: Path) -> None:
    make_certificates(tmp_path, HOSTS)
    for purpose in ("sslserver", "sslclient"):
        done = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "authority.crt", "a.crt", "b.crt"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_nothing_is_overwritten_when_all_is_there(tmp_path: Path) -> None:
    make_certificates(tmp_path, HOSTS)
    before = contents(tmp_path)
    done = make_certificates(tmp_path, HOSTS)
    assert contents(tmp_path) == before
    assert (list(done.made), list(done.kept)) == ([], ["authority.crt", "a.crt", "b.crt", "secret"])


def test_only_what_is_missing_is_made_when_a_host_is_new(tmp_path: Path) -> None:
    make_certificates(tmp_path, HOSTS)
    before = contents(tmp_path)
    assert make_certificates(tmp_path, HOSTS | {"c": ["10.0.0.3"]}).made == ["c.crt"]
    assert {name: content for name, content in contents(tmp_path).items() if name in before} == before


def test_hosts_are_renewed_with_the_same_authority_when_that_is_asked_for(tmp_path: Path) -> None:
    make_certificates(tmp_path, HOSTS, days=10)
    before = contents(tmp_path)
    make_certificates(tmp_path, HOSTS, days=20, force=True)
    after = contents(tmp_path)
    changed = sorted(name for name in after if after[name] != before[name])
    assert changed == ["a.crt", "a.key", "b.crt", "b.key"]
    certificate(tmp_path / "a.crt").verify_directly_issued_by(certificate(tmp_path / "authority.crt"))
    left = expiry(tmp_path / "a.crt") - datetime.now(UTC)
    assert timedelta(days=19) < left < timedelta(days=20)


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    authority = new_authority(days=5)
    signed, _ = new_host(authority, "a", ["10.0.0.1"], days=100)
    assert signed.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_a_host_cannot_sign_another_one(tmp_path: Path) -> None:
    make_certificates(tmp_path, HOSTS)
    authority = certificate(tmp_path / "authority.crt").extensions.get_extension_for_class(x509.BasicConstraints)
    host = certificate(tmp_path / "a.crt").extensions.get_extension_for_class(x509.BasicConstraints)
    assert (authority.value.ca, authority.value.path_length, authority.critical) == (True, 0, True)
    assert (host.value.ca, host.critical) == (False, True)


def _other_authority(folder: Path) -> None:
    for path in (folder / "authority.crt", folder / "authority.key"):
        path.unlink()


def _expired_authority(folder: Path) -> None:
    old = new_authority(days=5, now=datetime.now(UTC) - timedelta(days=6))
    write_pair(folder, "authority", old.certificate, old.key)


def _wrong_key(folder: Path) -> None:
    (folder / "authority.key").write_bytes((folder / "a.key").read_bytes())


def _no_key(folder: Path) -> None:
    (folder / "authority.key").unlink()


def _no_certificate(folder: Path) -> None:
    (folder / "b.crt").unlink()


def _damaged(folder: Path) -> None:
    (folder / "authority.crt").write_text("hello")


def _damaged_host(folder: Path) -> None:
    (folder / "a.crt").write_text("hello")


FAULTS = {
    "another authority": (_other_authority, "a.crt is not of the authority in this folder: renew it with --force"),
    "expired authority": (_expired_authority, "authority.crt has expired"),
    "another key": (_wrong_key, "authority.key is not the key of"),
    "no key": (_no_key, r"authority.crt is there and .*authority.key is not: put it back"),
    "no certificate": (_no_certificate, r"b.key is there and .*b.crt is not: put it back"),
    "damaged authority": (_damaged, "cannot be read as a certificate and its key"),
    "damaged certificate": (_damaged_host, "a.crt cannot be read as a certificate of a host: renew it with --force"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_told_what_is_wrong_when_the_folder_is_not_whole(fault: str, tmp_path: Path) -> None:
    make_certificates(tmp_path, HOSTS)
    spoil, says = FAULTS[fault]
    spoil(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(CannotDo, match=says):
        make_certificates(tmp_path, HOSTS)
    assert {name: contents(tmp_path)[name] for name in before} == before, "what was there is still there"


@pytest.mark.parametrize(
    ("addresses", "days", "made_days_ago", "says"),
    [(["10.0.0.9"], 10, 0, "a.crt is not good for 10.0.0.9"), (["10.0.0.1"], 5, 6, "a.crt has expired")],
)
def test_renewal_is_asked_for_when_a_certificate_cannot_be_kept(
    addresses: list[str], days: int, made_days_ago: int, says: str, tmp_path: Path
) -> None:
    authority = new_authority()
    write_pair(tmp_path, "authority", authority.certificate, authority.key)
    made = datetime.now(UTC) - timedelta(days=made_days_ago)
    write_pair(tmp_path, "a", *new_host(authority, "a", ["10.0.0.1"], days, made))
    with pytest.raises(CannotDo, match=f"{says}.*--force"):
        make_certificates(tmp_path, {"a": addresses})
    make_certificates(tmp_path, {"a": addresses}, force=True)


def test_folder_is_named_when_nothing_can_be_written_there(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("a file")
    with pytest.raises(CannotDo, match=str(tmp_path / "tls")):
        make_certificates(tmp_path / "tls", HOSTS)


def test_operator_is_told_what_was_made_and_what_goes_where(tmp_path: Path) -> None:
    def run(*flags: str) -> "subprocess.CompletedProcess[str]":
        example = ROOT / "docs" / "examples" / "topology.toml"
        command = [
            sys.executable,
            "-m",
            "services.cluster",
            "certs",
            "--topology",
            str(example),
            "--out",
            "tls",
            *flags,
        ]
        environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    first = run("--days", "30")
    assert (first.returncode, first.stderr) == (0, "")
    assert [line for line in first.stdout.splitlines() if line.startswith("made: ")] == [
        f"made: tls/{name}" for name in ("authority.crt", "a.crt", "b.crt", "c.crt", "secret")
    ]
    assert "authority.key goes to none" in first.stdout
    assert "nothing was missing; --force renews" in run().stdout
    assert names(tmp_path / "tls" / "a.crt") == ["10.0.0.1", "a"]
    (tmp_path / "tls" / "a.key").unlink()
    broken = run()
    assert broken.returncode == 1
    assert broken.stderr.startswith("bazaar: tls/a.crt is there and tls/a.key is not")
