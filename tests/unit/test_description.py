"""The API's description in the words of OpenAPI 3.0."""

from typing import Any

import pytest
from fastapi import FastAPI

from services.front_end.description import as_3_0, describe_as_3_0


@pytest.mark.parametrize(
    ("part", "written"),
    [
        ({"type": "integer", "examples": [3, 4]}, {"type": "integer", "example": 3}),
        ({"examples": {"one": {"value": 1}}}, {"examples": {"one": {"value": 1}}}),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"type": "integer", "nullable": True}),
        ({"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^a$"}], "title": "A"},
         {"type": "string", "pattern": "^a$", "title": "A", "nullable": True}),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        ([{"items": {"examples": ["a"]}}, 7, "null"], [{"items": {"example": "a"}}, 7, "null"]),
    ],
)  # fmt: skip
def test_part_means_the_same_when_it_is_written_as_3_0(part: Any, written: Any) -> None:
    assert as_3_0(part) == written


def test_description_is_made_once_when_it_is_asked_for_again() -> None:
    app = FastAPI(title="A title", description="what it is", openapi_tags=[{"name": "a"}])
    describe_as_3_0(app)
    made = app.openapi()
    assert (made["openapi"], made["info"]["title"], made["info"]["description"]) == ("3.0.3", "A title", "what it is")
    assert made["tags"] == [{"name": "a"}]
    assert app.openapi() is made
