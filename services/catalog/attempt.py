"""What is known of a decision while it is tried, perhaps several times: is the state fresh, is a failure definite?"""

from services.catalog.store import Outcome
from services.common.errors import BazaarError, OutcomeUnknown, Unavailable


class Attempt:
    """What is known of one request's decision while it is tried.

    is_definite: nothing of it is, or may still be, committed. is_fresh: the store was asked since the request came.
    is_outdated: it must be asked again.
    """

    def __init__(self, *, is_shared: bool) -> None:
        self.is_definite = True
        self.is_fresh = not is_shared
        self.is_outdated = False
        self.conflicts = 0

    def refreshed(self) -> None:
        """The store was asked."""
        self.is_fresh, self.is_outdated = True, False

    def ended(self, outcome: Outcome) -> None:
        """A commit was tried."""
        if outcome != "conflict":
            self.is_definite = False  # and it stays so: part of the request may be decided
        if outcome == "committed":
            self.is_fresh = True
        else:
            self.conflicts += 1
            self.is_outdated = True

    def failure(self, error: Unavailable | None = None) -> BazaarError:
        """What to say when it cannot be tried any more."""
        if self.is_definite:
            return error or Unavailable("other catalogs were faster, or the store too slow; nothing was decided")
        return OutcomeUnknown()
