"""Every error has one status and one shape, and shows nothing but its own words."""

import json

import pytest

from services.common.app import error_response
from services.common.errors import (
    BazaarError,
    BodyTooLarge,
    Forbidden,
    IntegrityFailure,
    InvalidRequest,
    KeyReused,
    MalformedBody,
    NotEnoughStock,
    NotFound,
    OutcomeUnknown,
    TooManyRefusals,
    Unavailable,
    WrongMediaType,
    error_body,
)

STATUS: dict[type[BazaarError], int] = {
    BazaarError: 500,
    InvalidRequest: 422,
    MalformedBody: 400,
    BodyTooLarge: 413,
    WrongMediaType: 415,
    NotFound: 404,
    NotEnoughStock: 409,
    KeyReused: 422,
    Forbidden: 403,
    TooManyRefusals: 429,
    Unavailable: 503,
    OutcomeUnknown: 504,
}


@pytest.mark.parametrize(("kind", "status"), STATUS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_answer_has_the_one_shape_for_every_error(kind: type[BazaarError], status: int) -> None:
    response = error_response(kind())
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert json.loads(bytes(response.body)) == {"error": {"code": status, "message": kind.message}}


@pytest.mark.parametrize("kind", STATUS)
def test_retry_after_is_told_only_when_the_request_was_certainly_not_executed(kind: type[BazaarError]) -> None:
    assert ("retry-after" in error_response(kind()).headers) == (kind in {TooManyRefusals, Unavailable})


def test_message_is_what_was_given_when_one_was() -> None:
    assert (
        NotFound("there is no such stock").message
        == str(NotFound("there is no such stock"))
        == "there is no such stock"
    )
    assert NotFound().message == str(NotFound()) == "there is no such page"


def test_every_class_of_error_is_known_to_these_tests() -> None:
    found: set[type[BazaarError]] = {BazaarError}
    while more := {kind for known in found for kind in known.__subclasses__()} - found:
        found |= more
    assert {kind for kind in found if kind.__module__ == "services.common.errors"} == STATUS.keys()


def test_an_integrity_failure_is_never_an_answer() -> None:
    assert not issubclass(IntegrityFailure, BazaarError)


@pytest.mark.parametrize("text", ["é", "\ud800", "\x00\x1b[31m", '"\\', "\u202e", "😀"])
def test_body_is_ascii_json_whatever_the_message_holds(text: str) -> None:
    body = error_body(500, text)
    assert body.isascii()
    assert not any(byte < 0x20 for byte in body)
    assert json.loads(body) == {"error": {"code": 500, "message": text}}
