"""The JSON of etcd's gateway: from it to the requests of a modelled etcd, and from its answers to it again."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from tests.support.etcd_requests import (
    Compare,
    Delete,
    DeleteAnswer,
    EtcdError,
    KeyValue,
    Operation,
    Put,
    PutAnswer,
    Range,
    RangeAnswer,
    Txn,
    TxnAnswer,
)

T = TypeVar("T")

_INT64 = range(-(2**63), 2**63)
_INTEGER = re.compile(r"[ \t\r\n]*(-?(?:0|[1-9][0-9]*))[ \t\r\n]*")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_OPERANDS = {"VERSION": "version", "CREATE": "create_revision", "MOD": "mod_revision", "VALUE": "value"}
_TARGETS = tuple(_OPERANDS)
_RESULTS = ("EQUAL", "GREATER", "LESS", "NOT_EQUAL")


class NotModelled(AssertionError):
    """A request that the model leaves out: the test or the product asks for more than it may."""


def _bad(message: str) -> EtcdError:
    return EtcdError(400, 3, message)


def parse(body: bytes) -> Any:
    """The first JSON value in a body, None where there is none; what follows it is ignored, as the gateway does."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        text = body.decode().lstrip(" \t\r\n")
        return json.JSONDecoder(parse_constant=refuse).raw_decode(text)[0] if text else None
    except (ValueError, RecursionError) as error:
        raise _bad(f"not JSON: {error}") from None


class Fields:
    """An object's fields, each taken once; what is then left is not modelled."""

    def __init__(self, value: Any) -> None:
        if value is not None and not isinstance(value, Mapping):
            raise _bad("not an object")
        self._left = {name: each for name, each in (value or {}).items() if each is not None}

    def has(self, name: str) -> bool:
        return name in self._left

    def integer(self, name: str) -> int:
        value = self._left.pop(name, 0)
        if isinstance(value, str):
            match = _INTEGER.fullmatch(value)
            value = int(match[1]) if match else None
        if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
            raise _bad(f"{name} is not an int64")
        return value

    def data(self, name: str) -> bytes:
        value = self._left.pop(name, "")
        if isinstance(value, list):
            raise NotModelled(f"{name} is a list of numbers")
        if not isinstance(value, str):
            raise _bad(f"{name} is not a string")
        text = value.replace("\r", "").replace("\n", "")
        if not _BASE64.fullmatch(text):
            raise _bad(f"{name} is not base64")
        return base64.b64decode(text)

    def flag(self, name: str) -> bool:
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            raise _bad(f"{name} is not a bool")
        return value

    def choice(self, name: str, words: tuple[str, ...]) -> Any:
        """One of the words, by name or number, the first where nothing is said."""
        value = self._left.pop(name, 0)
        if isinstance(value, str):
            if value not in words:
                raise _bad(f"unknown value {value!r} for {name}")
            return value
        if not isinstance(value, int) or isinstance(value, bool):
            raise _bad(f"{name} is neither a string nor a number")
        if value not in range(len(words)):
            raise NotModelled(f"{name} is {value}")
        return words[value]

    def each(self, name: str, make: Callable[["Fields"], T]) -> list[T]:
        values = self._left.pop(name, [])
        if not isinstance(values, list):
            raise _bad(f"{name} is not a list")
        if None in values:
            raise NotModelled(f"one of {name} is null")
        return [make(Fields(each)) for each in values]

    def object(self, name: str) -> "Fields":
        return Fields(self._left.pop(name))

    def end(self) -> None:
        if self._left:
            raise NotModelled(f"unknown or left out: {', '.join(self._left)}")


def range_of(fields: Fields) -> Range:
    """`serializable` is left to the caller, who must take it."""
    request = Range(
        key=fields.data("key"),
        end=fields.data("range_end"),
        limit=fields.integer("limit"),
        revision=fields.integer("revision"),
        keys_only=fields.flag("keys_only"),
        count_only=fields.flag("count_only"),
        is_descending=fields.choice("sort_order", ("NONE", "ASCEND", "DESCEND")) == "DESCEND",
    )
    if fields.choice("sort_target", ("KEY", "VERSION", "CREATE", "MOD", "VALUE")) != "KEY":
        raise NotModelled("sort_target")
    return request


def put_of(fields: Fields) -> Put:
    request = Put(fields.data("key"), fields.data("value"), fields.flag("prev_kv"))
    fields.end()
    return request


def delete_of(fields: Fields) -> Delete:
    request = Delete(fields.data("key"), fields.data("range_end"), fields.flag("prev_kv"))
    fields.end()
    return request


def txn_of(fields: Fields) -> Txn:
    request = Txn(
        compares=fields.each("compare", _compare_of),
        success=fields.each("success", _operation_of),
        failure=fields.each("failure", _operation_of),
    )
    fields.end()
    return request


def _compare_of(fields: Fields) -> Compare:
    target = fields.choice("target", _TARGETS)
    name = _OPERANDS[target]
    operand = fields.data(name) if target == "VALUE" else fields.integer(name)
    compare = Compare(
        fields.data("key"), target, fields.choice("result", _RESULTS), operand, end=fields.data("range_end")
    )
    fields.end()
    return compare


def _operation_of(fields: Fields) -> Operation:
    made: Operation
    if fields.has("request_put"):
        made = put_of(fields.object("request_put"))
    elif fields.has("request_delete_range"):
        made = delete_of(fields.object("request_delete_range"))
    elif fields.has("request_range"):
        inner = fields.object("request_range")
        made = range_of(inner)
        inner.end()
    else:
        raise NotModelled("an operation that is none, or a nested transaction")
    fields.end()
    return made


# To JSON: what is zero, false or empty is left out.


def _key_value(each: KeyValue) -> dict[str, str]:
    numbers = {"create_revision": each.create_revision, "mod_revision": each.mod_revision, "version": each.version}
    made = {"key": _encode(each.key)} | {name: str(number) for name, number in numbers.items()}
    return made | {"value": _encode(each.value)} if each.value else made


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def range_answer(answer: RangeAnswer) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if answer.found:
        made["kvs"] = [_key_value(each) for each in answer.found]
    if answer.has_more:
        made["more"] = True
    if answer.count:
        made["count"] = str(answer.count)
    return made


def put_answer(answer: PutAnswer) -> dict[str, Any]:
    return {} if answer.previous is None else {"prev_kv": _key_value(answer.previous)}


def delete_answer(answer: DeleteAnswer) -> dict[str, Any]:
    made: dict[str, Any] = {"deleted": str(answer.deleted)} if answer.deleted else {}
    return made | {"prev_kvs": [_key_value(each) for each in answer.previous]} if answer.previous else made


def txn_answer(answer: TxnAnswer) -> dict[str, Any]:
    made: dict[str, Any] = {"succeeded": True} if answer.succeeded else {}
    return made | {"responses": [_response(each) for each in answer.answers]} if answer.answers else made


def _response(answer: RangeAnswer | PutAnswer | DeleteAnswer) -> dict[str, Any]:
    header = {"header": {"revision": str(answer.revision)}}
    match answer:
        case RangeAnswer():
            return {"response_range": header | range_answer(answer)}
        case PutAnswer():
            return {"response_put": header | put_answer(answer)}
        case DeleteAnswer():
            return {"response_delete_range": header | delete_answer(answer)}
