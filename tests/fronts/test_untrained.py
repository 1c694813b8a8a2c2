"""Fronts without data: identity, DCT, random features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from front_cases import random_rows
from scipy.fft import dctn

from clicooper_hpc.errors import UsageError
from clicooper_hpc.fronts.build_front import FrontBase, build_front
from clicooper_hpc.fronts.network import Network
from clicooper_hpc.fronts.operations import Linear
from clicooper_hpc.fronts.untrained import untrained_image_shape


def test_the_dct_front_gives_scipys_coefficients_in_zig_zag_order() -> None:
    x = random_rows(4, (1, 8, 8))
    got = build_front(FrontBase(kind="dct", input_shape=(1, 8, 8), dim=9)).apply(x)
    full = dctn(x[:, 0].astype(np.float64), axes=(1, 2), norm="ortho")
    order = [(0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (2, 1), (3, 0)]
    want = np.stack([full[:, row, column] for row, column in order], axis=1)
    assert np.allclose(got, want, atol=1e-6)


def test_a_colour_image_keeps_its_colour_cast_around_grey() -> None:
    x = random_rows(4, (3, 8, 8))
    got = build_front(FrontBase(kind="dct", input_shape=(3, 8, 8), dim=3)).apply(x)
    assert np.allclose(got, (x - 0.5).sum(axis=(2, 3)) / 8, atol=1e-5)


def test_a_flat_square_image_is_seen_as_an_image() -> None:
    x = random_rows(4, (1, 8, 8))
    image = build_front(FrontBase(kind="dct", input_shape=(1, 8, 8), dim=9)).apply(x)
    flat = build_front(FrontBase(kind="dct", input_shape=(64,), dim=9)).apply(x.reshape(4, 64))
    assert np.array_equal(image, flat)
    with pytest.raises(UsageError, match="not images"):
        untrained_image_shape((63,))


def test_the_random_projection_is_orthonormal_and_blind_to_brightness() -> None:
    front = build_front(FrontBase(kind="random", input_shape=(1, 8, 8), dim=16, seed=3))
    (operation,) = front.operations
    assert isinstance(operation, Linear)
    identity = torch.eye(16, dtype=torch.float64)
    assert torch.allclose(operation.matrix.T @ operation.matrix, identity, atol=1e-12)
    x = random_rows(5, (1, 8, 8)) / np.float32(2)
    assert np.allclose(front.apply(x), front.apply(x + np.float32(0.25)), atol=1e-6)


def test_a_seed_is_all_that_random_features_depend_on() -> None:
    digests = [
        build_front(FrontBase(kind="random", input_shape=(3, 16, 16), dim=8, seed=seed)).digest
        for seed in (1, 1, 2)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_larger_images_get_pooled_convolutions() -> None:
    pooled = build_front(FrontBase(kind="random", input_shape=(3, 32, 32)))
    assert pooled.output_shape == (128 * 16,)
    assert pooled.non_negative
    assert isinstance(pooled.operations[0], Network)
    front = build_front(FrontBase(kind="random", input_shape=(3, 32, 32), dim=32))
    assert front.output_shape == (32,)
    assert not front.non_negative


@pytest.mark.parametrize(("flatten", "shape"), [(True, (27,)), (False, (3, 3, 3))])
def test_identity_limits_rows_to_the_unit_interval(flatten: bool, shape: tuple[int, ...]) -> None:
    front = build_front(FrontBase(kind="identity", input_shape=(3, 3, 3), flatten=flatten))
    x = random_rows(4, (3, 3, 3)) * 3 - 1
    assert np.array_equal(front.apply(x), np.clip(x, 0, 1).reshape(4, *shape))
    assert front.non_negative


@pytest.mark.parametrize("kind", ["dct", "random"])
@pytest.mark.parametrize("dim", [None, 0, 64])
def test_an_impossible_number_of_features_is_refused(kind: str, dim: int | None) -> None:
    with pytest.raises(UsageError, match=r"front\.dim"):
        build_front(FrontBase(kind=kind, input_shape=(1, 8, 8), dim=dim))  # type: ignore[arg-type]
