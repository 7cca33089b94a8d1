"""What is written to the log, and what is not."""

import contextvars
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from services.common.logs import get_log, set_up_logs
from services.common.request_id import begin


class Output(io.StringIO):
    """Standard error, on a terminal or not."""

    def __init__(self, *, on_terminal: bool) -> None:
        super().__init__()
        self._on_terminal = on_terminal

    def isatty(self) -> bool:
        return self._on_terminal


@pytest.fixture
def output(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Output]:
    made = Output(on_terminal=request.param)
    monkeypatch.setattr(sys, "stderr", made)
    set_up_logs("front-end-1", "debug")
    yield made
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def crash(secret: str) -> None:
    raise LookupError(f"{len(secret)} characters")


@pytest.mark.parametrize("output", [True, False], indirect=True)
def test_traceback_tells_where_but_no_values_when_something_crashes(output: Output) -> None:
    secret = "-".join(("not", "for", "logs"))  # noqa: FLY002 - the line that is shown must not hold it
    try:
        crash(secret)
    except LookupError:
        get_log("m").exception("it crashed")
    said = output.getvalue()
    assert "LookupError: 12 characters" in said
    assert "in crash" in said
    assert secret not in said


@pytest.mark.parametrize("output", [False], indirect=True)
def test_log_is_one_object_a_line_when_it_goes_to_a_file(output: Output) -> None:
    get_log("m").info("two\nlines", of="\x1b[31mred")
    (line,) = output.getvalue().splitlines()
    said = json.loads(line)
    assert (said["service"], said["module"], said["level"], said["event"]) == ("front-end-1", "m", "info", "two\nlines")
    assert said["timestamp"].endswith("Z")


@pytest.mark.parametrize("output", [True], indirect=True)
def test_log_is_aligned_text_when_it_goes_to_a_terminal(output: Output) -> None:
    for event in ("short", "somewhat longer"):
        get_log("m").info(event, replica=2)
    first, second = (re.sub(r"\x1b\[[0-9;]*m", "", line) for line in output.getvalue().splitlines())
    assert first.index("module=m") == second.index("module=m")
    assert "replica=2" in first


@pytest.mark.parametrize("output", [True], indirect=True)
def test_text_is_coloured_unless_somebody_wants_none(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    get_log("m").info("with")
    assert "\x1b[" in output.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    set_up_logs("front-end-1", "debug")
    before = len(output.getvalue())
    get_log("m").info("without")
    assert "\x1b[" not in output.getvalue()[before:]


@pytest.mark.parametrize("output", [False], indirect=True)
def test_line_says_for_which_request_it_is(output: Output) -> None:
    def serve() -> None:
        begin({"type": "http", "headers": [(b"x-request-id", b"visit-7")]})
        get_log("m").info("inside")

    contextvars.copy_context().run(serve)
    get_log("m").info("outside")
    inside, outside = (json.loads(line) for line in output.getvalue().splitlines())
    assert inside["request_id"] == "visit-7"
    assert "request_id" not in outside


def test_what_a_library_says_is_an_object_too() -> None:
    program = """
import logging
from services.common.logs import set_up_logs
set_up_logs("front-end-1")
logging.getLogger("aiohttp.client").warning("%s things", 2)
logging.getLogger("asyncio").info("nothing that matters")
"""
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=True)
    said = json.loads(ended.stderr)
    assert (said["service"], said["module"], said["level"]) == ("front-end-1", "aiohttp.client", "warning")
    assert said["event"] == "2 things"


def test_the_service_goes_on_when_there_is_no_room_for_its_log() -> None:
    """The log is on the same disk as the data by default; a front-end needs neither to answer."""
    program = """
from services.common.logs import get_log, set_up_logs
set_up_logs("front-end-1")
for _ in range(10_000):
    get_log("here").info("said in vain")
print("goes on", flush=True)
"""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, check=False)
    assert ended.stdout == b"goes on\n"
