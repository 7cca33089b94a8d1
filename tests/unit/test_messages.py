"""Two adjacent releases understand each other: recorded messages of the earlier ones, read by today's models.

A release's recording is made by `python -m tests.support.record_messages`.
"""

import json
import tomllib
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, ValidationError

from services.common.digest import entry_digest, follows
from services.common.models import AppendRequest, DecideAnswer, Entry, TradeRequest
from tests.support.cluster import ROOT
from tests.support.recordings import PUBLIC_INPUT, Kind, Recording, known_kinds, members_of, recordings

T = TypeVar("T", bound=BaseModel)

RECORDINGS = recordings()
KINDS = [
    pytest.param(recording, name, id=f"{recording.version}-{name}")
    for recording in RECORDINGS
    for name in recording.kinds
]
NEWER = "a_member_of_a_newer_version"


def test_a_release_is_recorded() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

    assert version in {recording.version for recording in RECORDINGS}, "python -m tests.support.record_messages"


@pytest.mark.parametrize(("recording", "name"), KINDS)
def test_earlier_message_is_understood_when_it_is_read_today(recording: Recording, name: str) -> None:
    kind = known_kinds().get(name)

    assert kind is not None, f"{name} of release {recording.version} is gone or has another name"
    assert recording.kinds[name].messages
    for message in recording.kinds[name].messages:
        today = kind.model_validate_json(json.dumps(message)).model_dump(mode="json")
        assert list(_differences(message, today)) == []


@pytest.mark.parametrize(("recording", "name"), KINDS)
def test_earlier_release_finds_all_it_needs_when_it_reads_what_is_sent_today(recording: Recording, name: str) -> None:
    earlier, today = recording.kinds[name].members, members_of(known_kinds()[name])

    assert earlier.keys() <= today.keys(), "a member was renamed or removed"
    for member, words in earlier.items():
        assert set(words) <= set(today[member]), f"{name}.{member} has lost a word that an earlier release says"


@pytest.mark.parametrize(("recording", "name"), KINDS)
def test_unknown_member_is_ignored_when_a_newer_release_sends_it(recording: Recording, name: str) -> None:
    kind = known_kinds()[name]
    for message in recording.kinds[name].messages:
        newer = json.dumps({**message, NEWER: {"a": [1, None]}})
        if name in PUBLIC_INPUT:
            with pytest.raises(ValidationError):
                kind.model_validate_json(newer)
        else:
            assert kind.model_validate_json(newer) == kind.model_validate_json(json.dumps(message))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.version)
def test_digests_are_the_same_when_an_earlier_release_made_them(recording: Recording) -> None:
    request = next(
        each
        for each in _read(recording.kinds["AppendRequest"], AppendRequest)
        if each.before.position == 0  # so that the digest of the initial stocks is in it as well
    )
    answers = _read(recording.kinds["DecideAnswer"], DecideAnswer)

    assert follows(request.entries[0], request.before)
    assert any(answer.entries for answer in answers)
    for entry in (*request.entries, *(entry for answer in answers for entry in answer.entries)):
        assert set(entry.model_dump()) == set(recording.kinds["Entry"].members), "the digest covers every member"


def test_digest_differs_when_any_member_of_an_entry_does() -> None:
    entry = _read(RECORDINGS[-1].kinds["Entry"], Entry)[0]
    changes = {
        "position": 7,
        "number": None,
        "key": "k",
        "name": "n",
        "type": "sell",
        "quantity": 9,
        "price": 9,
        "at": 9,
    }

    assert {*changes, "digest"} == set(Entry.model_fields), "what is new in an entry must be covered, and cannot be"
    for member, value in changes.items():
        assert getattr(entry, member) != value
        assert entry_digest("", entry.model_copy(update={member: value})) != entry_digest("", entry)


def test_difference_is_found_when_a_member_is_missing_or_other() -> None:
    earlier = {"a": [{"b": 1, "c": None}], "d": 2.0}

    assert list(_differences(earlier, {"a": [{"b": 1, "c": None, "new": 1}], "d": 2, "new": 1})) == []
    assert list(_differences(earlier, {"a": [{"b": 2}], "d": 2})) == [".a[0].b: 1, now 2", ".a[0].c is gone"]
    assert list(_differences(earlier, {"a": [], "d": 2})) == [".a: 1 items, now 0"]


def test_customers_may_not_send_what_is_unknown() -> None:
    assert TradeRequest.model_config.get("extra") == "forbid"
    strict = {name for name, kind in known_kinds().items() if kind.model_config.get("extra") == "forbid"}
    assert strict == set(PUBLIC_INPUT)


def _read(kind: Kind, model: type[T]) -> list[T]:
    return [model.model_validate_json(json.dumps(message)) for message in kind.messages]


def _differences(earlier: Any, today: Any, place: str = "") -> Iterator[str]:
    """Where `today` lacks something of `earlier`, or has something else there; what is new is none of our business."""
    if isinstance(earlier, dict):
        for name, value in earlier.items():
            if name in today:
                yield from _differences(value, today[name], f"{place}.{name}")
            else:
                yield f"{place}.{name} is gone"
    elif isinstance(earlier, list):
        if len(earlier) != len(today):
            yield f"{place}: {len(earlier)} items, now {len(today)}"
            return
        for index, value in enumerate(earlier):
            yield from _differences(value, today[index], f"{place}[{index}]")
    elif earlier != today:
        yield f"{place}: {earlier}, now {today}"
