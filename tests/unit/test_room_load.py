"""The load control's words and bounds; that it runs the real client is seen in the browser."""

import json

import pytest
from pydantic import ValidationError

from services.control_room.load import LoadControl, LoadRequest, read_report

COUNTS = {"look_ups": 5_000, "acknowledged": 1_968, "checked": 1_968, "wrong": 0, "errors": 0}


def test_command_is_the_load_client_with_every_front_end() -> None:
    control = LoadControl(["http://a:1", "http://b:2"], {})
    command = control.command(LoadRequest(clients=3, p=0.25, seconds=9))
    assert command[1:7] == ["-m", "client", "--url", "http://a:1", "--url", "http://b:2"]
    assert command[7:11] == ["--clients", "3", "--p", "0.250000"]
    assert command[-1] == "--json"


def test_report_is_told_in_one_line() -> None:
    request = LoadRequest()
    view = read_report(json.dumps({"counts": COUNTS, "passed": True}).encode(), request)
    assert view.result == "5,000 look-ups, 1,968 orders acknowledged, 1,968 checked, 0 wrong, 0 errors"
    assert (view.passed, view.state, view.request) == (True, "idle", request)


@pytest.mark.parametrize("output", [b"", b"{", b"[]", b"null", b'{"counts": {}}'])
def test_load_has_failed_when_there_is_no_report(output: bytes) -> None:
    view = read_report(output, LoadRequest())
    assert (view.passed, view.result) == (False, "the load client gave no report")


@pytest.mark.parametrize(
    "wrong", [{"clients": 51}, {"clients": 0}, {"p": -0.1}, {"p": 1.1}, {"seconds": 0}, {"seconds": 601}]
)
def test_load_beyond_its_bounds_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        LoadRequest.model_validate(wrong)
