"""Internal messages as bytes: read and written by pydantic in one step, without a detour through dictionaries."""

from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

from services.common.errors import InvalidRequest

MessageT = TypeVar("MessageT", bound=BaseModel)

MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # 1,000 entries of the largest size, several times over


async def read_message(request: Request, kind: type[MessageT]) -> MessageT:
    """The message in the body of an internal request. Raises InvalidRequest."""
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError:
        raise InvalidRequest("this is no message of ours") from None


def message_response(message: BaseModel) -> Response:
    """The answer that carries `message`."""
    return Response(message.model_dump_json().encode(), media_type="application/json")
