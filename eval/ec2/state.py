"""What this computer remembers of the machine, in a folder of its own that git ignores."""

from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from services.cluster.errors import CannotDo

STATE_FILE = "deployment.json"


class Deployment(BaseModel):
    """A machine that was made, and how it is reached. `commit` is the release it runs, None before there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str
    stack: str
    machine_type: str
    machine_id: str
    address: str
    identity: Path
    hours: int
    started_at: AwareDatetime
    commit: str | None = None

    @property
    def url(self) -> str:
        """The public API."""
        return f"http://{self.address}:8000"


def save(folder: Path, deployment: Deployment) -> None:
    """Remember it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STATE_FILE).write_text(deployment.model_dump_json(indent=2) + "\n", encoding="utf-8")


def find(folder: Path) -> Deployment | None:
    """What is remembered, None for nothing. Raises CannotDo when it cannot be read."""
    path = folder / STATE_FILE
    try:
        return Deployment.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CannotDo(f"{path} is damaged: delete it and tear down, which works without it") from error


def load(folder: Path) -> Deployment:
    """What is remembered. Raises CannotDo when there is nothing."""
    found = find(folder)
    if found is None:
        raise CannotDo(f"{folder}/ knows no machine: make one with: python -m eval.ec2 deploy")
    return found


def forget(folder: Path) -> None:
    """The machine is gone. Results stay."""
    for name in (STATE_FILE, "known_hosts"):
        (folder / name).unlink(missing_ok=True)
