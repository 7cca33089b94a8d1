"""The data folder as the `bazaar` command sees it: cluster.json, the supervisor's lock, the logs."""

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from services.cluster.errors import CannotDo, NotRunning
from services.cluster.topology import Cluster

CLUSTER_FILE = "cluster.json"


def write_cluster(data_dir: Path, cluster: Cluster) -> None:
    """Write cluster.json, whole or not at all."""
    descriptor, draft = tempfile.mkstemp(dir=data_dir, prefix=".cluster-", suffix=".json")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(cluster.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(data_dir / CLUSTER_FILE)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def find_cluster(data_dir: Path) -> Cluster | None:
    """What cluster.json says, None when this folder has none. Raises CannotDo when it cannot be read."""
    path = data_dir / CLUSTER_FILE
    try:
        return Cluster.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CannotDo(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise CannotDo(
            f"{path} is damaged: stop what runs, delete this file and start again with: bazaar up"
        ) from error


def read_cluster(data_dir: Path) -> Cluster:
    """What cluster.json says. Raises NotRunning when there was never a bazaar in this folder."""
    cluster = find_cluster(data_dir)
    if cluster is None:
        raise NotRunning(
            f"there is no bazaar in {data_dir}/: start one with: {up_command(data_dir)}, or name its --data-dir"
        )
    return cluster


def up_command(data_dir: Path, cluster: Cluster | None = None) -> str:
    """The command that starts the bazaar of this folder, to be shown to people; `cluster` is what is known of it."""
    place = "" if data_dir == Path("data") else f" --data-dir {data_dir}"
    file = f" --topology {cluster.topology} --host {cluster.host}" if cluster is not None and cluster.topology else ""
    return f"{program()} up{file}{place}"


def program() -> str:
    """How this command is called here: a user whose PATH does not hold it can copy what we show."""
    script = Path(sys.argv[0])
    found = shutil.which("bazaar")
    if script.name != "bazaar" or (found is not None and Path(found).samefile(script)):
        return "bazaar"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)


@contextmanager
def supervisor_lock(data_dir: Path) -> Iterator[None]:
    """Be the one supervisor of this folder. The lock ends with the process, however that ends. Raises CannotDo."""
    path = data_dir / "supervisor.lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CannotDo(f"{data_dir}/ cannot be written: {error.strerror}; choose another --data-dir") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise CannotDo(
                f"a bazaar runs already on {data_dir}/ (its supervisor is process {owner}): "
                "stop it with Ctrl-C there, or choose another --data-dir and --port"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
