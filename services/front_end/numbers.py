"""Whole numbers in paths and queries, written one way only: no sign, leading zero, `1_0`, `1.0` or foreign digits."""

import re
from typing import Annotated

from fastapi import Path, Query
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from services.common.models import MAX_NUMBER

_DIGITS = re.compile(r"0|[1-9][0-9]{0,18}")


def _read(text: object) -> object:
    if isinstance(text, int):
        return text  # a default
    if not isinstance(text, str) or _DIGITS.fullmatch(text) is None:
        raise PydanticCustomError("whole_number", "must be a whole number, written in digits only")
    return int(text)


_WHOLE = BeforeValidator(_read)

# What is inside the inner Annotated is told in the API's description, too.
OrderNumber = Annotated[
    Annotated[int, Field(ge=1, le=MAX_NUMBER), _WHOLE],
    Path(description="the order's number", examples=[1]),
]
AfterNumber = Annotated[
    Annotated[int, Field(ge=0, le=MAX_NUMBER), _WHOLE],
    Query(description="only orders with a higher number"),
]
Limit = Annotated[
    Annotated[int, Field(ge=1, le=1_000), _WHOLE],
    Query(description="how many at most"),
]
