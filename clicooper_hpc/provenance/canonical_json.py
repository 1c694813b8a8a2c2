"""Canonical JSON: one byte string per value, for everything that is signed or digested.

The subset of JSON that every implementation reads alike, in the form of RFC 8785 (JCS): objects
with ASCII keys, arrays, NFC strings, booleans and integers below 2**53. No floating-point numbers
(a measured value is a decimal string), no null (a field that has no value is absent), no duplicate
keys. What is read must already be canonical, so a document cannot be changed and stay equal.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Final, NoReturn, TypeAlias, Union

import rfc8785

from clicooper_hpc.errors import EvidenceError

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_INTEGER",
    "Json",
    "encode_canonical_json",
    "parse_canonical_json",
]

Json: TypeAlias = Union[dict[str, "Json"], list["Json"], str, int, bool]  # noqa: UP007

MAX_BYTES: Final = 65536
MAX_DEPTH: Final = 16
MAX_INTEGER: Final = 2**53 - 1

_MAX_DIGITS = len(str(-MAX_INTEGER))


def encode_canonical_json(value: Json) -> bytes:
    """Return the canonical UTF-8 bytes of ``value`` (RFC 8785, section 3.2).

    Raises
    ------
    ValueError
        ``value`` is outside the subset: a mistake of the program that made it.
    """
    _check_json(value, 0)
    return rfc8785.dumps(value)


def parse_canonical_json(
    content: bytes, *, limit: int = MAX_BYTES, where: str | None = None
) -> Json:
    """Read canonical JSON and nothing else.

    Parameters
    ----------
    content
        The bytes as they were stored or received.
    limit
        Most bytes that are looked at.
    where
        What the bytes are, for the error.

    Raises
    ------
    EvidenceError
        ``content`` is not the canonical encoding of a value of the subset.
    """
    # Before anything is parsed: what is read here comes from strangers.
    if len(content) > limit:
        raise _damaged_json(f"has {len(content)} bytes; at most {limit} are allowed", where)
    try:
        value: Json = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_json_object,
            parse_int=_json_integer,
            parse_float=_refuse_json_number,
            # Python reads NaN and Infinity as numbers; JSON knows neither.
            parse_constant=_refuse_json_number,
        )
        canonical = encode_canonical_json(value)
    except RecursionError:
        raise _damaged_json(f"is nested deeper than {MAX_DEPTH} levels", where) from None
    except ValueError as error:
        raise _damaged_json(f"is not canonical JSON ({error})", where) from error
    # Two spellings of one value would give one statement two digests.
    if canonical != content:
        raise _damaged_json("is not canonical JSON (order of keys, spaces or escapes)", where)
    return value


def _check_json(value: object, depth: int) -> None:
    # Readers recurse: none of them shall run out of stack over a signed document.
    if isinstance(value, (dict, list)) and depth == MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        if not unicodedata.is_normalized("NFC", value):
            raise ValueError(f"the string {value[:40]!r} is not in Unicode form NFC")
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise ValueError("an integer is beyond 2**53 - 1")
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            # RFC 8785 sorts keys by UTF-16 units: in ASCII every language sorts alike.
            if not (isinstance(key, str) and key.isascii()):
                raise ValueError(f"the key {key!r} is not an ASCII string")
            _check_json(item, depth + 1)
    else:
        raise ValueError(f"a value of type {type(value).__name__} has no canonical form")


def _json_object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has a key twice")
    return result


def _json_integer(digits: str) -> int:
    # Before int(): the time it takes grows with the square of the digits.
    if len(digits) > _MAX_DIGITS:
        raise ValueError("an integer is beyond 2**53 - 1")
    return int(digits)


def _refuse_json_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not an integer")


def _damaged_json(what: str, where: str | None) -> EvidenceError:
    return EvidenceError(
        f"the document {what}", where=where, remedy="Get an unchanged copy from its author."
    )
