"""What schemathesis must know of the bazaar, and no description can say: loaded by `SCHEMATHESIS_HOOKS`.

A key belongs to one trade: with another one it is answered 422, as documented. Schemathesis sends one key with many
trades, each valid by itself, and takes that answer for a valid request that was refused. So the trade is made a part of
its key; keys that are none, and trades that are none, stay as they are.
"""

import hashlib
import json
import re
from typing import Any

import schemathesis

from services.common.models import KEY_PATTERN

HEADER = "Idempotency-Key"
TRADE_CHARACTERS = 12


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Give each trade a key of its own, as long as the one that was made up, or longer."""
    key = (case.headers or {}).get(HEADER)
    if isinstance(key, str) and re.fullmatch(KEY_PATTERN, key) and isinstance(case.body, dict):
        trade = hashlib.sha256(json.dumps(case.body, sort_keys=True).encode()).hexdigest()
        case.headers[HEADER] = key[: 64 - TRADE_CHARACTERS] + trade[:TRADE_CHARACTERS]
