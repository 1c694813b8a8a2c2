"""NaN and infinity are found in every payload, and large finite numbers are none of them."""

from __future__ import annotations

import math

import pytest
import torch

from clicooper_hpc.transport.finite_payload import describe_non_finite, root_mean_square

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


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_root_mean_square_is_that_of_all_numbers(dtype: torch.dtype) -> None:
    tensor = torch.tensor([[3.0, -4.0, 0.0], [0.0, 12.0, 0.0]], dtype=dtype)
    for view in (tensor, tensor.T, tensor[:, ::2]):
        want = view.double().square().mean().sqrt().item()
        assert root_mean_square(view) == pytest.approx(want, rel=1e-2)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_root_mean_square_of_what_is_not_finite_is_not(dtype: torch.dtype, value: str) -> None:
    tensor = torch.ones(1000, dtype=dtype)
    tensor[999] = float(value)
    assert not math.isfinite(root_mean_square(tensor))


def test_of_nothing_it_is_0() -> None:
    assert root_mean_square(torch.empty(0, 3)) == 0.0
