"""Canonical JSON: one byte string per value, one value per byte string."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import EvidenceError, ExitCode
from clicooper_hpc.provenance.canonical_json import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INTEGER,
    Json,
    encode_canonical_json,
    parse_canonical_json,
)

INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
STRINGS = st.text().map(lambda text: unicodedata.normalize("NFC", text))
KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
VALUES: st.SearchStrategy[Json] = st.recursive(
    st.booleans() | INTEGERS | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)

EXAMPLE: Json = {
    "steps": 40,
    "segment": 2,
    "loss": "0.693147",
    "environment": {"torch": "2.13.0", "cpu": "\u00e9\u20ac\U0001d54f"},
    "trainers": ["ab", "cd"],
    "offset": -(2**53) + 1,
    "last": False,
    "odd": '"\\/\b\f\n\r\t\x00\x1f\x7f',
    "": [],
    "Z": {},
}
EXAMPLE_BYTES = (
    b'{"":[],"Z":{},"environment":{"cpu":"\xc3\xa9\xe2\x82\xac\xf0\x9d\x95\x8f","torch":"2.13.0"},'
    b'"last":false,"loss":"0.693147","odd":"\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f",'
    b'"offset":-9007199254740991,"segment":2,"steps":40,"trainers":["ab","cd"]}'
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_golden_bytes() -> None:
    assert encode_canonical_json(EXAMPLE) == EXAMPLE_BYTES
    assert parse_canonical_json(EXAMPLE_BYTES) == EXAMPLE


def test_golden_digest() -> None:
    golden = "b21e5624d95a22b4d000e2f1132b0fac3fe84e4ae005dcaedfedcb9a342f0929"
    assert digest_bytes("clicooper/v1/payload", encode_canonical_json(EXAMPLE)).hex == golden


@settings(deadline=None)
@given(VALUES)
def test_every_value_comes_back(value: Json) -> None:
    content = encode_canonical_json(value)
    again = parse_canonical_json(content)
    assert again == value
    assert json.dumps(again, sort_keys=True) == json.dumps(value, sort_keys=True)  # True is not 1


@settings(deadline=None)
@given(VALUES)
def test_equal_to_another_encoder(value: Json) -> None:
    # With ASCII keys and integers only, sorted compact json.dumps happens to be RFC 8785.
    other = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert encode_canonical_json(value) == other.encode("utf-8")


@settings(deadline=None)
@given(VALUES, st.data())
def test_no_second_spelling_of_a_value(value: Json, data: st.DataObject) -> None:
    content = encode_canonical_json(value)
    other = bytearray(content)
    place = data.draw(st.integers(0, len(other) - 1))
    other[place] ^= data.draw(st.integers(1, 255))
    try:
        read = parse_canonical_json(bytes(other))
    except EvidenceError:
        return
    assert json.dumps(read, sort_keys=True) != json.dumps(value, sort_keys=True)


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        value = parse_canonical_json(content)
    except EvidenceError:
        return
    assert encode_canonical_json(value) == content


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[1.0]", id="float"),
        pytest.param(b"[1e3]", id="exponent"),
        pytest.param(b"[-0]", id="minus zero"),
        pytest.param(b"[01]", id="leading zero"),
        pytest.param(b"[+1]", id="plus sign"),
        pytest.param(b"[NaN]", id="nan"),
        pytest.param(b"[-Infinity]", id="infinity"),
        pytest.param(b"[null]", id="null"),
        pytest.param(b'{"a":1,"a":1}', id="key twice"),
        pytest.param(b'{"a":{"b":1,"b":2}}', id="inner key twice"),
        pytest.param(b'{"b":1,"a":2}', id="order of keys"),
        pytest.param(b'{"a": 1}', id="space"),
        pytest.param(b'{"a":1}\n', id="newline at the end"),
        pytest.param(b'{"a":1}{"a":1}', id="two documents"),
        pytest.param(b'["\\u0041"]', id="needless escape"),
        pytest.param(b'["\\/"]', id="escaped slash"),
        pytest.param(b'["\\u001F"]', id="upper-case escape"),
        pytest.param(b'["\\ud83d\\ude00"]', id="escaped pair"),
        pytest.param(b'["\\ud800"]', id="lone surrogate"),
        pytest.param(b'["\xed\xa0\x80"]', id="surrogate in UTF-8"),
        pytest.param(b'["\xc0\xaf"]', id="overlong UTF-8"),
        pytest.param(b'["\xff"]', id="no UTF-8"),
        pytest.param(b"\xef\xbb\xbf[]", id="byte order mark"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param('["e\u0301"]'.encode(), id="not NFC"),
        pytest.param('{"\u00e9":1}'.encode(), id="key not ASCII"),
        pytest.param(b'["\x1f"]', id="bare control character"),
        pytest.param(b"[9007199254740992]", id="2**53"),
        pytest.param(b"[-9007199254740992]", id="-2**53"),
        pytest.param(b"[" + b"9" * 40000 + b"]", id="number of 40,000 digits"),
        pytest.param(nested(MAX_DEPTH + 1), id="one level too deep"),
        pytest.param(nested(MAX_BYTES // 2), id="deep enough to end a recursion"),
        pytest.param(b'{"a":' * 10000 + b"1" + b"}" * 10000, id="deep objects"),
    ],
)
def test_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_canonical_json(content, where="entry 7")
    assert caught.value.exit_code == ExitCode.VERIFICATION
    line = str(caught.value)
    assert line.startswith("entry 7: ")
    assert len(line) < 300
    assert "\n" not in line


def test_the_reason_is_said() -> None:
    for content, reason in (
        (b'{"a":1,"a":1}', "a key twice"),
        (b"[" + b"9" * 40000 + b"]", r"beyond 2\*\*53"),
        (b"[0.5]", "0.5 is not an integer"),
        (b"[null]", "NoneType has no canonical form"),
        (b'["e\xcc\x81"]', "NFC"),
        (nested(MAX_BYTES // 2), "deeper than 16"),
    ):
        with pytest.raises(EvidenceError, match=reason):
            parse_canonical_json(content)


def test_depth_and_integers_up_to_the_bounds() -> None:
    assert encode_canonical_json(parse_canonical_json(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    for value in (MAX_INTEGER, -MAX_INTEGER, 0):
        assert parse_canonical_json(encode_canonical_json(value)) == value


def test_size_limit_is_checked_before_reading() -> None:
    content = encode_canonical_json("a" * 10)
    assert parse_canonical_json(content, limit=len(content)) == "a" * 10
    with pytest.raises(EvidenceError, match="12 bytes; at most 11"):
        parse_canonical_json(content, limit=len(content) - 1)
    with pytest.raises(EvidenceError, match="bytes; at most"):
        parse_canonical_json(encode_canonical_json("a" * MAX_BYTES))


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        None,
        {"a": None},
        [float("nan")],
        2**53,
        -(2**53),
        (1, 2),
        b"a",
        {1: 2},
        {"\u00e9": 1},
        "e\u0301",
        "\ud800",
        np.int64(3),
        np.float64(0.5),
        {1, 2},
    ],
    ids=repr,
)
def test_a_program_that_encodes_anything_else_fails(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_canonical_json([value])  # type: ignore[list-item]


def test_a_cycle_ends() -> None:
    value: list[Json] = []
    value.append(value)
    with pytest.raises(ValueError, match="nested deeper"):
        encode_canonical_json(value)
