"""How many refused trades one client address may cause: a refusal is an entry of every log, for ever (decision 0011).

A token bucket for each address, with time handed in. A refusal takes a token, and whoever has none is turned away.
Whether a trade will be refused is known only afterwards, so a bucket may go into debt, by the trades that were under
way when it ran dry; the debt is paid off first. So, over any time, an address causes at most

    burst + rate * time + the trades it has in flight at once

refusals. A bucket that is full again is as good as none. Beyond `MAX_ADDRESSES` the one that was charged longest ago is
forgotten, which forgives an address one burst; to have that done it needs so many other addresses that it has no need
of it.
"""

import math
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

from services.common.errors import TooManyRefusals

MAX_ADDRESSES = 10_000


class RefusalLimit:
    """The buckets of all addresses. rate: tokens a second, 0 for no limit. turned_away: trades, since the start."""

    def __init__(self, rate: float, burst: int) -> None:
        self.turned_away = 0
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens at a time; the one charged last comes last

    def check(self, address: str, now: float) -> None:
        """Raises TooManyRefusals when this address has no token."""
        missing = 1 - self._tokens(address, now)
        if missing > 0:
            self.turned_away += 1
            raise TooManyRefusals(math.ceil(missing / self._rate))

    def charge(self, address: str, now: float) -> None:
        """A trade of this address was refused."""
        if self._rate:
            tokens = self._tokens(address, now)
            self._buckets.pop(address, None)
            self._buckets[address] = (tokens - 1, now)
            if len(self._buckets) > MAX_ADDRESSES:
                del self._buckets[next(iter(self._buckets))]

    def _tokens(self, address: str, now: float) -> float:
        tokens, at = self._buckets.get(address, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._rate)


@lru_cache(maxsize=MAX_ADDRESSES)
def payer_of(host: str) -> str:
    """Whose bucket pays for a client: its IPv4 address, or its IPv6 network, for a network is what one customer has."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((int(address), 64), strict=False))
    return host
