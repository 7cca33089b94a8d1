"""Every answer to a POST tells its idempotency key, those to a request that was refused at the door included."""

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.models import KEY_PATTERN

HEADER = b"idempotency-key"

_KEY = re.compile(KEY_PATTERN.encode("ascii"))


class EchoKey:
    """Adds the key that came with a POST to its answer, if that has none yet. A key that is no key is not repeated."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return

        async def send_with_key(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                if HEADER not in [name for name, _ in headers] and (key := _key_of(scope)) is not None:
                    message["headers"] = [*headers, (HEADER, key)]
            await send(message)

        await self._app(scope, receive, send_with_key)


def _key_of(scope: Scope) -> bytes | None:
    keys: list[bytes] = [value for name, value in scope["headers"] if name == HEADER]
    return keys[0] if len(keys) == 1 and _KEY.fullmatch(keys[0]) else None
