"""Changes to inputs, drawn from a seeded generator: of bytes, and of JSON values."""

from __future__ import annotations

import json
from random import Random
from typing import Any

#: What parsers are known to stumble over.
TOKENS: tuple[bytes, ...] = (
    b"\x00", b"\xff", b"\xfe\xff", b"\xed\xa0\x80", b"\xc3", b"\xe2\x80\xae", b"\x1b[2J", b"\r",
    b"\n", b"\n\n", b" ", b"=", b'"', b'"""', b"'", b"\\", b"\\u0000", b"\\ud800",
    b"\\ud83d\\ude00",
    b"{", b"}", b"[", b"]", b"[[", b"{" * 400, b"[" * 400, b"[" * 3000, b'{"a":' * 1200,
    b"a." * 600,
    b"-", b"-0", b"0", b"1", b"-1", b"1e999", b"-1e999", b"1e-400", b"NaN", b"nan", b"inf", b"-inf",
    b"Infinity", b"-Infinity", b"true", b"false", b"null", b"1" * 40, b"9" * 400, b"9" * 5000,
    b"0x7fffffffffffffff", b"9007199254740991", b"9007199254740992", b"2147483648",
    b"4294967296", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616",
    b"1.5", b"1_000", b"1979-05-27T07:32:00Z", b"0000-00-00", b"9999-12-31T23:59:60+99:99",
    b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x00" * 8, b"\x80" * 4, b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80", b"\xe2\x80\x94 ", b"e\xcc\x81", b"..", b"/", b"../../../etc/passwd",
)  # fmt: skip

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 16, 255, 65535, 65536, 2**31 - 1, 2**31, 2**53 - 1, 2**53,
    2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1.5, 1e-320, 1e300,
    float("nan"), float("inf"), float("-inf"), "", "0", "-1", "1", "nan", "inf", "\x00", "\x1b[2J",
    "\ud800", "e\u0301", "\u202e", "a" * 300, "a" * 5000, "0" * 64, "f" * 64, "true", [], {}, [[]],
    [0], [None], [""], {"": None}, {"a": 1}, [1, 2, 3],
)  # fmt: skip


def change_bytes(content: bytes, rng: Random, other: bytes = b"") -> bytes:
    """Return ``content`` after one to eight changes; ``other`` is another input to cut in."""
    data = bytearray(content)
    for _ in range(1 << rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        length = min(len(data) - at, 1 << rng.randrange(9))
        kind = rng.randrange(10)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at:at] = rng.choice(TOKENS)
        elif kind == 5:
            token = rng.choice(TOKENS)
            data[at : at + len(token)] = token
        elif kind == 6:
            data[at : at + length] = rng.randbytes(length)
        elif kind == 7 and other:
            start = rng.randrange(len(other))
            data[at : at + length] = other[start : start + length]
        elif kind == 8:
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), rng.getrandbits(8)))
            data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 9 and rng.random() < 0.1:
            del data[at:]
    return bytes(data)


def change_json(content: bytes, rng: Random) -> bytes | None:
    """Return the JSON text ``content`` with one to four values, keys or items changed.

    Written as RFC 8785 writes it, so that what is read strictly is read beyond its first check;
    None where ``content`` is no JSON.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    for _ in range(1 << rng.randrange(3)):
        value = _change_value(value, rng)
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None


def _change_value(value: Any, rng: Random) -> Any:
    """Change something in ``value``, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        kind = rng.randrange(12)
        if kind == 0:
            return {name: item for name, item in value.items() if name != key}
        if kind == 1:
            return {**value, rng.choice((*value, "", "a", "\x00", key + "_")): value[key]}
        return {**value, key: _change_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        kind = rng.randrange(12)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return value[:at] + [value[at]] * rng.choice((2, 3, 70)) + value[at:]
        return [*value[:at], _change_value(value[at], rng), *value[at + 1 :]]
    if isinstance(value, str) and rng.random() < 0.5:
        return change_bytes(value.encode("utf-8", "replace"), rng).decode("utf-8", "replace")
    # Not isinstance: true is an int, too.
    if type(value) is int and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, -value, value * 2, value**2 % 2**70))
    return rng.choice(_VALUES)


def change_input(content: bytes, rng: Random, *, form: str, other: bytes = b"") -> bytes:
    """Return a changed input of a target of ``form`` ("bytes" or "json")."""
    if form == "json" and rng.random() < 0.7:
        changed = change_json(content, rng)
        if changed is not None:
            return changed
    return change_bytes(content, rng, other)
