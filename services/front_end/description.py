"""The API's description as OpenAPI 3.0.3, where FastAPI makes a 3.1 one.

In 3.0 an integer is a number without fraction or exponent, which is what the bazaar takes; in 3.1 it may be written
1.0, which is refused. And the docs page that comes with swagger-ui-bundle reads no other version.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

VERSION = "3.0.3"
NULL = {"type": "null"}


def describe_as_3_0(app: FastAPI, *models: type[BaseModel]) -> None:
    """Have `app` publish a description of this version, made once, when it is first asked for.

    `models` are those that direct routes read, of which FastAPI does not know.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                openapi_version=VERSION,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            for model in models:
                made["components"]["schemas"][model.__name__] = model.model_json_schema()
            app.openapi_schema = as_3_0(made)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's own way of replacing the description


def as_3_0(part: Any) -> Any:
    """A part of a 3.1 description in the words of 3.0: `nullable` for a type null, `example` for a list of them."""
    if isinstance(part, list):
        return [as_3_0(each) for each in part]
    if not isinstance(part, dict):
        return part
    written = {name: as_3_0(value) for name, value in part.items()}
    if isinstance(written.get("examples"), list):
        written["example"] = written.pop("examples")[0]
    choices = written.get("anyOf")
    if isinstance(choices, list) and NULL in choices:
        del written["anyOf"]
        (choice,) = (each for each in choices if each != NULL)
        written |= {**choice, "nullable": True}
    return written
