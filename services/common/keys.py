"""Idempotency keys: version 7 UUIDs (RFC 9562), whose order is that of time, so that an index over them stays cheap."""

import random
import uuid


def new_key(wall_ms: int, source: random.Random) -> str:
    """A fresh key for the moment `wall_ms` (milliseconds since 1970): 48 bits of time, then 74 bits from `source`.

    `source` must not be seeded: a run repeated with the same seed would be answered with the orders of the first one.
    """
    time = (wall_ms & 0xFFFF_FFFF_FFFF) << 80
    high = 0x7 << 76 | source.getrandbits(12) << 64
    low = 0b10 << 62 | source.getrandbits(62)
    return str(uuid.UUID(int=time | high | low))
