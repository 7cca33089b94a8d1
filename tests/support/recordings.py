"""Internal messages as an earlier release sent them: what is in a recording, and where recordings are."""

import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from services.cluster.status import Snapshot
from services.cluster.topology import Cluster
from services.common.models import Message
from services.front_end.internal import RemovedAnswer

FOLDER = Path(__file__).parents[1] / "unit" / "recorded"
PUBLIC_INPUT = ("TradeRequest",)
"""What customers send: the only messages that must not hold anything unknown."""


class Kind(BaseModel):
    """One kind of message: its members, each with the words it is limited to, and some that were really sent."""

    members: dict[str, list[str]]
    messages: list[Any]


class Recording(BaseModel):
    """What one release sent."""

    version: str
    kinds: dict[str, Kind]


def recordings() -> list[Recording]:
    """Those of all releases, oldest first."""
    paths = sorted(FOLDER.glob("messages-*.json"), key=_release)
    return [Recording.model_validate_json(path.read_bytes()) for path in paths]


def known_kinds() -> dict[str, type[BaseModel]]:
    """Everything that crosses a process boundary today, by name."""
    kinds: dict[str, type[BaseModel]] = {kind.__name__: kind for kind in _leaves(Message)}
    return {**kinds, "RemovedAnswer": RemovedAnswer, "cluster.json": Cluster, "snapshot": Snapshot}


def members_of(kind: type[BaseModel]) -> dict[str, list[str]]:
    """The members of a kind; for one that is limited to certain words (an outcome, say), the words."""
    return {name: sorted(_words(field.annotation)) for name, field in kind.model_fields.items()}


def parts_of(message: BaseModel) -> Iterator[BaseModel]:
    """A message and every message within it."""
    yield message
    for name in type(message).model_fields:
        value = getattr(message, name)
        inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
        for each in inside:
            if isinstance(each, BaseModel):
                yield from parts_of(each)


def _leaves(kind: type[Message]) -> Iterator[type[Message]]:
    """The kinds that are sent: not those that are only what others have in common."""
    for each in kind.__subclasses__():
        if each.__module__ == Message.__module__:
            yield from _leaves(each) if each.__subclasses__() else (each,)


def _words(annotation: Any) -> Iterator[str]:
    """The words of a Literal, also of one within `Literal[...] | None`."""
    if typing.get_origin(annotation) is Literal:
        yield from typing.get_args(annotation)
    elif typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        for each in typing.get_args(annotation):
            yield from _words(each)


def _release(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.stem.removeprefix("messages-").split("."))
