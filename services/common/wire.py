"""Internal messages as bytes: read and written by pydantic in one step, without a detour through dictionaries."""

from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from services.common.errors import InvalidRequest

MessageT = TypeVar("MessageT", bound=BaseModel)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # 100,000 stocks, or 1,000 entries many times over


async def body_of(request: Request) -> bytes:
    """The whole body. Raises ClientDisconnect.

    Starlette's own way is a long one, and most bodies come in one piece.
    """
    pieces = []
    is_complete = False
    while not is_complete:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        is_complete = not message.get("more_body", False)
    return b"".join(pieces)


async def read_message(request: Request, kind: type[MessageT]) -> MessageT:
    """The message in the body of an internal request. Raises InvalidRequest."""
    try:
        return kind.model_validate_json(await body_of(request))
    except ValidationError:
        raise InvalidRequest("this is no message of ours") from None


def message_response(message: BaseModel) -> Response:
    """The answer that carries `message`."""
    return Response(message.model_dump_json().encode(), media_type="application/json")
