"""The bazaar's users: a client library, the lab's workload, and the load generator."""

from client.bazaar import BazaarClient, StockView, TradeRefused, TradeResult
from client.errors import BazaarClientError, Definite, Indefinite, NotAvailable, OutcomeUnknown, Rejected

__all__ = [
    "BazaarClient",
    "BazaarClientError",
    "Definite",
    "Indefinite",
    "NotAvailable",
    "OutcomeUnknown",
    "Rejected",
    "StockView",
    "TradeRefused",
    "TradeResult",
]
