"""Results as text that can be read, compared and kept small."""

import re

from pydantic import BaseModel

SCALARS = re.compile(r"\[\n[^][{}\"]*\]")


def to_json(result: BaseModel) -> str:
    """JSON with two spaces, but for lists of numbers, which stand on one line each."""
    text = result.model_dump_json(indent=2) + "\n"
    return SCALARS.sub(lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text)
