"""What an operator can be told.

CannotDo          the command cannot be done now: exit code 1
└── NotRunning    there is nobody to do it: the bazaar is not running
UsageError        the command itself makes no sense: exit code 2
"""

from services.common.errors import BazaarError


class CannotDo(BazaarError):
    """It cannot be done now; the message is one line and says what to do instead."""

    code = 409
    message = "this cannot be done now"


class NotRunning(CannotDo):
    """No supervisor answers for this data folder."""


class UsageError(Exception):
    """The flags make no sense together; the message says why."""
