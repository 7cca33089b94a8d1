"""Reading JSON without mercy: what is a body of the bazaar, and what is none."""

import contextlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.common.errors import MalformedBody
from services.common.models import TradeRequest
from services.common.strict import parse_json

GOOD = b'{"name": "GameStart", "type": "buy", "quantity": 3}'

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\t",
    "a word": b"hello",
    "an open brace": b"{",
    "a trailing comma": b'{"quantity": 3,}',
    "a trailing comma in an array": b"[1,]",
    "trailing garbage": GOOD + b"x",
    "two bodies": GOOD + GOOD,
    "a comment": b'{"quantity": 3 /* three */}',
    "single quotes": b"{'quantity': 3}",
    "a bare key": b"{quantity: 3}",
    "a key twice": b'{"quantity": 3, "quantity": 3}',
    "a key twice, once in escapes": b'{"quantity": 3, "\\u0071uantity": 5}',
    "a key twice deep inside": b'[{"a": [{"b": 1, "c": 2, "b": 1}]}]',
    "an empty key twice": b'{"": 1, "": 1}',
    "NaN": b'{"quantity": NaN}',
    "Infinity": b'{"quantity": Infinity}',
    "-Infinity": b'{"quantity": -Infinity}',
    "NaN alone": b"NaN",
    "invalid UTF-8": b'{"name": "\xff"}',
    "an overlong encoding": b'{"name": "\xc0\xaf"}',
    "an encoded surrogate": b'{"name": "\xed\xa0\x80"}',
    "half a character": GOOD[:-2] + b"\xe2\x82",
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16 without a mark": GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "a newline in a string": b'{"name": "Game\nStart"}',
    "a NUL in a string": b'{"name": "Game\x00Start"}',
    "an unknown escape": b'{"name": "\\x41"}',
    "half an escape": b'{"name": "\\u00"}',
    "a leading zero": b'{"quantity": 03}',
    "a plus sign": b'{"quantity": +3}',
    "a hexadecimal number": b'{"quantity": 0x3}',
    "underscores": b'{"quantity": 1_000}',
    "a number that ends in a point": b'{"quantity": 3.}',
    "a number that begins with a point": b'{"quantity": .3}',
    "5,000 digits": b'{"quantity": ' + b"9" * 5_000 + b"}",
    "minus 5,000 digits": b'{"quantity": -' + b"9" * 5_000 + b"}",
    "200,000 brackets": b"[" * 200_000,
    "200,000 braces": b'{"a":' * 200_000,
    "200,000 brackets, all closed": b"[" * 200_000 + b"]" * 200_000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_body_is_refused_when_it_is_not_json(body: bytes) -> None:
    with pytest.raises(MalformedBody) as refused:
        parse_json(body)
    assert refused.value.code == 400
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


BAD_NAMES: list[Any] = [
    *(5, None, [], {}, True, "", " ", "Game Start", "x" * 65, "Game\x00", "GameStart\n", "\nGameStart", "\x1b[0m"),
    *("\ud800", "\u202eGame", "'; DROP TABLE stocks", "../secret", "GameStart\u200b", "\uff27ameStart", "é"),
]

INVALID: dict[str, bytes] = {
    "an array": b"[]",
    "a string": b'"hello"',
    "a number": b"3",
    "null": b"null",
    "an empty object": b"{}",
    "an extra field": b'{"name": "GameStart", "type": "buy", "quantity": 3, "price": 1}',
    "an extra field with an odd name": b'{"name": "GameStart", "type": "buy", "quantity": 3, "\\ud800": 1}',
    "an extra number": b'{"name": "GameStart", "type": "buy", "quantity": 3, "number": 1}',
    **{
        f"quantity {value[:12]}": b'{"name": "GameStart", "type": "buy", "quantity": ' + value.encode() + b"}"
        for value in (
            "0 -0 -5 1000001 9223372036854775808 18446744073709551616 1e400 -1e400 1.0 1e3 1E2 1.5 true false null"
            ' "5" "" [1] [] {"a":1} 1' + "0" * 30 + " 1" + "0" * 4_000
        ).split()
    },
    **{
        f"name {json.dumps(name)[:20]}": json.dumps({"name": name, "type": "buy", "quantity": 3}).encode()
        for name in BAD_NAMES
    },
    **{
        f"type {json.dumps(kind)}": json.dumps({"name": "GameStart", "type": kind, "quantity": 3}).encode()
        for kind in ["BUY", "hold", 1, None, ["buy"], "buy ", ""]
    },
}


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
def test_body_is_json_but_no_trade_when_the_model_judges_it(body: bytes) -> None:
    value = parse_json(body)
    with pytest.raises(ValidationError):
        TradeRequest.model_validate(value)


GOOD_BODIES: dict[str, tuple[bytes, Any]] = {
    "an object": (GOOD, {"name": "GameStart", "type": "buy", "quantity": 3}),
    "blanks around it": (b" \r\n\t" + GOOD + b"\n", {"name": "GameStart", "type": "buy", "quantity": 3}),
    "escapes": (b'{"n\\u0061me": "Game\\u0053tart"}', {"name": "GameStart"}),
    "equal keys in different objects": (b'[{"a": 1}, {"a": {"a": 1}}]', [{"a": 1}, {"a": {"a": 1}}]),
    "words of numbers inside strings": (b'["NaN", "Infinity"]', ["NaN", "Infinity"]),
    "2,000 digits": (b"1" + b"0" * 2_000, 10**2_000),
    "500 brackets": (b"[" * 500 + b"]" * 500, None),
}


@pytest.mark.parametrize(("body", "value"), GOOD_BODIES.values(), ids=GOOD_BODIES)
def test_body_is_read_when_it_is_json(body: bytes, value: Any) -> None:
    assert value is None or parse_json(body) == value
    parse_json(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.booleans())
def test_body_is_read_as_written_when_any_value_was_encoded(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")) == value


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_refused(body: bytes) -> None:
    with contextlib.suppress(MalformedBody):
        parse_json(body)


def test_every_change_of_one_byte_is_a_value_or_refused() -> None:
    seed = random.SystemRandom().getrandbits(32)
    rng = random.Random(seed)
    for _ in range(2_000):
        body = bytearray(GOOD)
        body[rng.randrange(len(body))] = rng.randrange(256)
        try:
            TradeRequest.model_validate(parse_json(bytes(body)))
        except (MalformedBody, ValidationError):
            continue
        except BaseException as error:
            error.add_note(f"seed {seed}, body {bytes(body)!r}")
            raise
