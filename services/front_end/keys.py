"""Idempotency keys for trades whose sender made none."""

import random
import uuid


def make_key(wall_ms: int, source: random.Random) -> str:
    """A UUID of version 7 (RFC 9562): the time comes first, and an index over keys in time order is cheap."""
    time = wall_ms & (1 << 48) - 1
    value = time << 80 | 7 << 76 | source.getrandbits(12) << 64 | 2 << 62 | source.getrandbits(62)
    return str(uuid.UUID(int=value))
