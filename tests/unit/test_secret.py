"""The internal secret: one for a data folder, whoever comes first, and only its owner can read it."""

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.common.secret import BadSecret, load_secret


def test_secret_is_the_same_when_it_is_loaded_again(tmp_path: Path) -> None:
    secret = load_secret(tmp_path)
    assert load_secret(tmp_path) == secret
    assert len(secret) >= 32
    assert secret.isascii()


def test_secrets_differ_when_folders_do(tmp_path: Path) -> None:
    assert load_secret(tmp_path / "a") != load_secret(tmp_path / "b")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_it_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        load_secret(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_folder_is_made_when_there_is_none(tmp_path: Path) -> None:
    assert load_secret(tmp_path / "some" / "folder")
    assert [file.name for file in (tmp_path / "some" / "folder").iterdir()] == ["secret"]


def test_all_get_the_same_one_when_threads_race_to_make_it(tmp_path: Path) -> None:
    for round_ in range(20):
        folder = tmp_path / str(round_)
        start = threading.Barrier(8)

        def race(folder: Path = folder, start: threading.Barrier = start) -> str:
            start.wait()
            return load_secret(folder)

        with ThreadPoolExecutor(8) as pool:
            secrets = [future.result() for future in [pool.submit(race) for _ in range(8)]]
        assert set(secrets) == {load_secret(folder)}
        assert [file.name for file in folder.iterdir()] == ["secret"], "no draft is left"


def test_all_get_the_same_one_when_processes_race_to_make_it(tmp_path: Path) -> None:
    # Each waits for its standard input to close, so that they start together.
    code = (
        "import sys, pathlib; from services.common.secret import load_secret; sys.stdin.read(); "
        "print(load_secret(pathlib.Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    secrets = set()
    for racer in racers:
        assert racer.stdout is not None
        secrets.add(racer.stdout.read().strip())
        racer.stdout.close()
        assert racer.wait() == 0
    assert secrets == {load_secret(tmp_path)}


def test_secret_of_the_operator_is_taken_when_it_is_there_before(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-secret-that-another-machine-made\n")
    assert load_secret(tmp_path) == "a-secret-that-another-machine-made"


@pytest.mark.parametrize("content", ["", "\n", "   \n", "short"])
def test_secret_is_refused_when_anyone_could_guess_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    with pytest.raises(BadSecret, match=str(tmp_path)):
        load_secret(tmp_path)


def test_secret_is_refused_when_it_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff" * 40)
    with pytest.raises(BadSecret, match=str(tmp_path)):
        load_secret(tmp_path)


def test_secret_is_read_elsewhere_when_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("a-secret-of-several-hosts\n")
    assert load_secret(tmp_path / "data", tmp_path / "shared") == "a-secret-of-several-hosts"
    assert not (tmp_path / "data").exists()


def test_no_secret_is_made_when_the_named_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadSecret, match=str(tmp_path / "shared")):
        load_secret(tmp_path / "data", tmp_path / "shared")
    assert list(tmp_path.iterdir()) == []
