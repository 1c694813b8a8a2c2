"""NaN and infinity are found in every payload, and large finite numbers are none of them."""

from __future__ import annotations

import pytest
import torch

from clicooper_hpc.transport.finite_payload import describe_non_finite

DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "words"), [("nan", "NaN"), ("inf", "infinity")])
@pytest.mark.parametrize("place", [0, 7, 19])
def test_one_number_is_enough(dtype: torch.dtype, value: str, words: str, place: int) -> None:
    tensor = torch.ones(5, 4, dtype=dtype)
    tensor.view(-1)[place] = float(value)
    assert describe_non_finite(tensor) == words
    assert describe_non_finite(tensor.T) == words


def test_infinities_that_cancel_are_infinities() -> None:
    assert describe_non_finite(torch.tensor([float("inf"), -float("inf")])) == "infinity"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_that_overflows_is_finite(dtype: torch.dtype) -> None:
    assert describe_non_finite(torch.full((9,), torch.finfo(dtype).max, dtype=dtype)) is None


def test_nothing_and_integers_are_finite() -> None:
    assert describe_non_finite(torch.empty(0, 3)) is None
    assert describe_non_finite(torch.arange(3)) is None
