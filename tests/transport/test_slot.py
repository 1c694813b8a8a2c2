"""Slots: alignment, views, and the limits of one message."""

from __future__ import annotations

import pytest
import torch

from clicooper_hpc.errors import UsageError
from clicooper_hpc.transport.slot import MAX_PAYLOAD_BYTES, Slot, check_slot_capacity
from clicooper_hpc.transport.wire_dtype import DType, torch_dtype_of, wire_dtype_of


@pytest.mark.parametrize("dtype", list(DType))
def test_wire_and_torch_types_agree(dtype: DType) -> None:
    there = torch_dtype_of(dtype)
    assert there.itemsize == dtype.itemsize
    assert wire_dtype_of(torch.empty(1, dtype=there)) == dtype


def test_type_that_cannot_travel_is_refused() -> None:
    with pytest.raises(ValueError, match="complex64 cannot travel"):
        wire_dtype_of(torch.empty(1, dtype=torch.complex64))


def test_payload_starts_64_bytes_in_and_is_aligned() -> None:
    slot = Slot(1024)
    view = slot.payload_view(torch.float64, (4, 8))
    assert view.data_ptr() % 64 == 0
    view.fill_(1.0)
    assert slot.raw[64:320].view("float64").tolist() == [1.0] * 32


def test_more_shapes_than_are_kept_still_give_right_views() -> None:
    slot = Slot(4096)
    slot.payload_view(torch.uint8, (4096,)).copy_(torch.arange(4096) % 251)
    for rows in range(1, 40):
        view = slot.payload_view(torch.uint8, (rows, 7))
        assert view.tolist() == (torch.arange(rows * 7) % 251).view(rows, 7).tolist()


@pytest.mark.parametrize("shape", [(0,), (0, 3, 32), (5, 0)])
def test_empty_payload_keeps_its_shape(shape: tuple[int, ...]) -> None:
    assert Slot(0).payload_view(torch.bfloat16, shape).shape == shape


def test_message_of_2_gib_is_refused_before_memory_is_taken() -> None:
    check_slot_capacity(MAX_PAYLOAD_BYTES, peer=1)
    with pytest.raises(UsageError, match=r"rank 1: a message of 2\.00 GiB .* more micro-batches"):
        check_slot_capacity(MAX_PAYLOAD_BYTES + 1, peer=1)
