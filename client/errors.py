"""What can become of a call that did not end with a result.

BazaarClientError
├── Rejected              final: the request itself is wrong, as its status (a 4xx) says; nothing was executed
├── Definite              nothing was executed
│   └── NotAvailable      patience ran out, and no attempt can have been executed
└── Indefinite            something may have been executed
    └── OutcomeUnknown    patience ran out; ask again with the idempotency key that the error carries

A read changes nothing, so it fails with Rejected or NotAvailable only. A trade that is refused for lack of stock is a
result, not an error: see `TradeRefused`.
"""


class BazaarClientError(Exception):
    """A call did not end with a result."""


class Rejected(BazaarClientError):
    """The bazaar will not have this request; the same one would be rejected again. `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(code, message)

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class Definite(BazaarClientError):
    """It did not happen: the same call, or another one, may be made without a second thought."""


class NotAvailable(Definite):
    """Nobody could do it before patience ran out."""


class Indefinite(BazaarClientError):
    """It may have happened: only the same call with the same idempotency key may be made again."""


class OutcomeUnknown(Indefinite):
    """Nobody could say before patience ran out whether the trade with this `key` was executed."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        self.message = message
        super().__init__(key, message)

    def __str__(self) -> str:
        return f"{self.message} (idempotency key {self.key})"
