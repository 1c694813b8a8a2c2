"""NaN and infinity are found in every payload, and large finite numbers are none of them."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from clicooper_hpc.transport.finite_payload import (
    describe_non_finite,
    flat_numbers,
    name_non_finite,
    root_mean_square,
)
from clicooper_hpc.transport.slot import Slot

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def arrived(tensor: torch.Tensor) -> float:
    """Magnitude of ``tensor`` as a channel sees it: of the bytes in a slot."""
    slot = Slot(tensor.nbytes)
    slot.payload_view(tensor.dtype, tuple(tensor.shape)).copy_(tensor)
    numbers = slot.payload_numbers(tensor.dtype, tuple(tensor.shape))
    assert numbers is not None
    return root_mean_square(numbers)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "words"), [("nan", "NaN"), ("inf", "infinity")])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_one_number_is_enough(dtype: torch.dtype, value: str, words: str, place: int) -> None:
    tensor = torch.ones(5, 4, dtype=dtype)
    for number in (float(value), -float(value)):
        tensor.view(-1)[place] = number
        assert describe_non_finite(tensor) == words
        assert describe_non_finite(tensor.T) == words
        assert name_non_finite(arrived(tensor)) == words


def test_infinities_that_cancel_are_infinities() -> None:
    assert describe_non_finite(torch.tensor([float("inf"), -float("inf")])) == "infinity"


def test_among_infinities_a_nan_is_named() -> None:
    assert describe_non_finite(torch.tensor([float("inf"), float("nan"), 1.0])) == "NaN"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_that_overflows_is_finite(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    tensor = torch.full((9,), largest, dtype=dtype)
    assert describe_non_finite(tensor) is None
    assert arrived(tensor) == pytest.approx(largest)
    # As large as the largest, and known to be: growth is measured by it.
    tensor[3:] = 0.0
    assert arrived(tensor) == pytest.approx(largest / math.sqrt(3))


def test_nobody_is_warned_of_a_sum_that_overflows() -> None:
    # In a process of its own: pytest puts its own filters of warnings in place of the package's.
    code = (
        "import numpy; from clicooper_hpc.transport.finite_payload import root_mean_square; "
        "print(root_mean_square(numpy.full(9, 3e38, numpy.float32)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) == pytest.approx(3e38)


def test_nothing_and_integers_are_finite() -> None:
    assert describe_non_finite(torch.empty(0, 3)) is None
    assert describe_non_finite(torch.arange(3)) is None
    assert Slot(24).payload_numbers(torch.int64, (3,)) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_root_mean_square_is_that_of_all_numbers(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[3.0, -4.0, 0.0], [0.0, 12.0, 0.0]], dtype=dtype)
    for view in (tensor, tensor.T, tensor[:, ::2]):
        want = view.double().square().mean().sqrt().item()
        assert root_mean_square(flat_numbers(view)) == pytest.approx(want)
        assert arrived(view) == pytest.approx(want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_many_numbers_are_not_summed_in_16_bits(dtype: torch.dtype) -> None:
    assert arrived(torch.full((20_000,), 3.0, dtype=dtype)) == pytest.approx(3.0)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 7, 1000, 131_072])
def test_wherever_it_is_in_a_slot_it_is_found(dtype: torch.dtype, value: str, length: int) -> None:
    for place in {0, length // 2, length - 1}:
        tensor = torch.ones(length, dtype=dtype)
        tensor[place] = float(value)
        assert not math.isfinite(arrived(tensor))


def test_of_nothing_it_is_0() -> None:
    assert root_mean_square(np.empty(0, np.float32)) == 0.0
    assert arrived(torch.empty(0, 3, dtype=torch.bfloat16)) == 0.0
