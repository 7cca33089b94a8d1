"""What one attempt of a call means, and how long to wait before the next: decisions over plain values, no network.

The contract is the public API's. 429, 503 and a connection that was never made are definite: this attempt was not
executed. 504, a broken connection, silence, a crash and an answer that is none of ours are indefinite: it may have
been.
"""

import random
from dataclasses import dataclass

import httpx

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 1.0
LONGEST_RETRY_AFTER_S = 5.0  # a server that asks for a longer pause is asked again after this one

LOST = (httpx.RequestError, OSError, TimeoutError)
"""Everything that an attempt without an answer can raise."""


@dataclass(frozen=True)
class Failure:
    """An attempt that decided nothing; the call may be tried again."""

    is_definite: bool
    reason: str
    retry_after_s: float = 0.0


def failure_of_error(error: BaseException) -> Failure:
    """What an attempt without an answer means."""
    if isinstance(error, httpx.ConnectError):
        return Failure(is_definite=True, reason="the connection was refused")
    if isinstance(error, TimeoutError):
        return Failure(is_definite=False, reason="no answer in time")
    return Failure(is_definite=False, reason="the connection broke")


def failure_of_answer(response: httpx.Response) -> Failure | None:
    """What an answer means that decides nothing; None for a result and for a rejection."""
    status = response.status_code
    if status in {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS}:
        return Failure(is_definite=True, reason=f"not available ({status})", retry_after_s=_retry_after_s(response))
    if status in {httpx.codes.OK, httpx.codes.CREATED}:
        return None
    if httpx.codes.is_client_error(status) and status != httpx.codes.REQUEST_TIMEOUT:
        return None
    if status == httpx.codes.GATEWAY_TIMEOUT:
        return Failure(is_definite=False, reason=f"the outcome is unknown ({status})")
    return Failure(is_definite=False, reason=f"an answer that is none of the bazaar's ({status})")


def _retry_after_s(response: httpx.Response) -> float:
    """The pause a server asks for, within reason; only whole seconds are read, as the bazaar sends them."""
    text = response.headers.get("retry-after", "")
    if not (text.isascii() and text.isdigit()):
        return 0.0
    return LONGEST_RETRY_AFTER_S if len(text) > 3 else min(float(text), LONGEST_RETRY_AFTER_S)


class Pauses:
    """How long one call waits between its attempts.

    Every address is tried once without a pause; after such a round the call waits, twice as long each time, with jitter
    so that clients who failed together do not come back together, and never less than the servers asked for.
    """

    def __init__(self, addresses: int, source: random.Random) -> None:
        self._addresses = addresses
        self._random = source
        self._failures = 0
        self._asked_for_s = 0.0
        self._noted_s = 0.0

    def note(self, failure: Failure) -> None:
        """One failed when another one was waited for: the next attempt waits for as long as it asked for."""
        self._noted_s = max(self._noted_s, failure.retry_after_s)

    def after(self, failure: Failure) -> float:
        """Seconds to wait before the next attempt."""
        noted_s, self._noted_s = self._noted_s, 0.0
        self._failures += 1
        self._asked_for_s = max(self._asked_for_s, failure.retry_after_s, noted_s)
        rounds, rest = divmod(self._failures, self._addresses)
        if rest:
            return noted_s
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(rounds - 1, 10))
        wait = max(self._random.uniform(longest / 2, longest), self._asked_for_s)
        self._asked_for_s = 0.0
        return wait
