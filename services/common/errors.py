"""Every error of the bazaar, and the one shape in which the world sees it.

BazaarError
├── InvalidRequest      422  the request makes no sense
│   ├── MalformedBody   400  not JSON at all
│   ├── BodyTooLarge    413  more than the limit
│   └── WrongMediaType  415  not application/json
├── NotFound            404  no such stock, order or page
├── NotEnoughStock      409  refused, final for its key
├── KeyReused           422  the idempotency key belongs to another trade
├── Forbidden           403  the internal secret is missing or wrong
├── TooManyRefusals     429  definite: certainly not executed, too many trades of this address were refused
├── Unavailable         503  definite: certainly not executed, try again
└── OutcomeUnknown      504  indefinite: may have been executed, ask again with the same key

IntegrityFailure is not an answer: the process that meets it stops with status 3 and is not started again. One
whose disk is full stops with status 4: the disk may have no room for a line in the log that says so.
"""

import json

FAILED_STATUS = 3
NO_ROOM_STATUS = 4


class BazaarError(Exception):
    """An error with an HTTP status; `message` goes to the caller, so it holds nothing of the inside and no input."""

    code = 500
    message = "something went wrong inside; the log says what"
    retry_after_s: int | None = None
    """Whole seconds to wait before the next try; told in the header Retry-After."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message or type(self).message
        super().__init__(self.message)


class InvalidRequest(BazaarError):
    """The request makes no sense; nothing was done."""

    code = 422
    message = "the request is not valid"


class MalformedBody(InvalidRequest):
    """The body is not the JSON that was asked for."""

    code = 400
    message = "the body is not valid JSON"


class BodyTooLarge(InvalidRequest):
    """The body is larger than the limit."""

    code = 413
    message = "the body is too large"


class WrongMediaType(InvalidRequest):
    """The body is not application/json, or is compressed."""

    code = 415
    message = "the body must be application/json, not compressed"


class NotFound(BazaarError):
    """There is no such thing."""

    code = 404
    message = "there is no such page"


class NotEnoughStock(BazaarError):
    """The catalog refused the trade; this is final for its idempotency key.

    is_replay: it had been refused before, and is only told again.
    """

    code = 409
    message = "not enough stock; this is final for its idempotency key, a new try needs a new one"

    def __init__(self, *, is_replay: bool = False) -> None:
        super().__init__()
        self.is_replay = is_replay


class KeyReused(BazaarError):
    """The idempotency key was used for another trade."""

    code = 422
    message = "the idempotency key was used for another trade"


class Forbidden(BazaarError):
    """The caller does not know the internal secret."""

    code = 403
    message = "the internal secret is missing or wrong"


class TooManyRefusals(BazaarError):
    """Definite: too many trades from this address were refused lately, so this one was not even looked at."""

    code = 429
    message = "too many of your trades were refused; this one was not executed, try again later"

    def __init__(self, retry_after_s: int = 1) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


class Unavailable(BazaarError):
    """Definite: this request was certainly not executed. It may be sent again."""

    code = 503
    retry_after_s = 1
    message = "not available at the moment; this request was not executed, try again"


class OutcomeUnknown(BazaarError):
    """Indefinite: this request may have been executed. Ask again with the same idempotency key."""

    code = 504
    message = "the outcome is unknown; ask again with the same idempotency key"


class IntegrityFailure(Exception):
    """Two parts of the bazaar contradict each other. Nothing is repaired by itself: the process stops with status 3."""


def error_body(code: int, message: str) -> bytes:
    """The one shape of every error, as JSON bytes."""
    return json.dumps({"error": {"code": code, "message": message}}, separators=(",", ":")).encode("ascii")
