"""The header: what one rank packs another unpacks, and nothing else gets through."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clicooper_hpc.errors import PeerError
from clicooper_hpc.transport.header import HEADER_BYTES, Header, pack_header, unpack_header
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.wire_dtype import DType

CAPACITY = 2**20

headers = st.builds(
    Header,
    kind=st.sampled_from(Kind),
    dtype=st.sampled_from(DType),
    shape=st.lists(st.integers(0, 8), max_size=6).map(tuple),
    step=st.integers(0, 2**63 - 1),
    micro_batch=st.integers(0, 2**31 - 1),
)


def read(raw: bytes, capacity_bytes: int = CAPACITY) -> Header:
    return unpack_header(raw, capacity_bytes=capacity_bytes, peer=1, direction="forward")


def good() -> bytearray:
    return bytearray(
        pack_header(Header(Kind.ACTIVATION, DType.FLOAT32, (2, 3), step=5, micro_batch=1))
    )


@given(headers)
def test_what_is_packed_is_unpacked(header: Header) -> None:
    if header.payload_bytes <= CAPACITY:
        assert read(pack_header(header)) == header


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_random_bytes_are_refused_or_round_trip(raw: bytes) -> None:
    try:
        header = read(raw)
    except PeerError:
        return
    assert pack_header(header) == raw


@given(headers, st.lists(st.tuples(st.integers(0, 63), st.integers(0, 255)), max_size=4))
def test_damaged_headers_are_refused_or_round_trip(
    header: Header, damage: list[tuple[int, int]]
) -> None:
    # Random bytes hardly ever get past the magic; damaged headers reach every later check.
    raw = bytearray(pack_header(header))
    for place, value in damage:
        raw[place] = value
    try:
        got = read(bytes(raw))
    except PeerError:
        return
    assert pack_header(got) == bytes(raw)
    assert got.payload_bytes <= CAPACITY


@pytest.mark.parametrize(
    ("offset", "layout", "value", "field"),
    [
        (0, "<4s", b"HTTP", "magic"),
        (4, "<B", 2, "version"),
        (5, "<B", 0, "kind"),
        (5, "<B", 77, "kind"),
        (6, "<B", 99, "dtype"),
        (7, "<B", 7, "number of dimensions"),
        (8, "<q", -1, "step"),
        (16, "<i", -5, "micro-batch"),
        (28, "<I", 4, "shape"),
        (44, "<Q", 25, "payload bytes"),
        (44, "<Q", 2**64 - 1, "payload bytes"),
        (52, "<Q", 23, "blob bytes"),
        (60, "<4s", b"\0\0\0\1", "reserved"),
    ],
)
def test_error_names_peer_direction_and_field(
    offset: int, layout: str, value: object, field: str
) -> None:
    raw = good()
    struct.pack_into(layout, raw, offset, value)
    with pytest.raises(PeerError) as caught:
        read(bytes(raw))
    line = caught.value.line()
    assert line.startswith(f"message from rank 1 (forward): header field '{field}'")


def test_payload_beyond_capacity_is_refused() -> None:
    assert read(bytes(good()), capacity_bytes=24).shape == (2, 3)
    with pytest.raises(PeerError, match="'payload bytes' is 24, more than the agreed 23"):
        read(bytes(good()), capacity_bytes=23)


def test_huge_shape_is_refused_by_arithmetic_alone() -> None:
    huge = Header(Kind.LABELS, DType.UINT8, (2**31, 2**31), step=0, micro_batch=0)
    with pytest.raises(PeerError, match="more than the agreed"):
        read(pack_header(huge))


def test_short_message_is_refused() -> None:
    with pytest.raises(PeerError, match="12 bytes came, a header has 64"):
        read(bytes(good()[:12]))


@pytest.mark.parametrize(
    "header",
    [
        Header(Kind.NORM, DType.FLOAT64, (1,) * 7, 0, 0),
        Header(Kind.NORM, DType.FLOAT64, (2**32,), 0, 0),
        Header(Kind.NORM, DType.FLOAT64, (), -1, 0),
        Header(Kind.NORM, DType.FLOAT64, (), 0, 2**31),
    ],
)
def test_what_does_not_fit_is_a_programmer_mistake(header: Header) -> None:
    with pytest.raises(ValueError, match=r"dimension|fit|below"):
        pack_header(header)
