"""Recolouring: public rows get the moments' mean and covariance, and little of their noise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.recolouring import fit_recolouring, shrunk_covariance
from clicooper_hpc.privacy.moments import Moments

P, N = 6, 4000


def rows(seed: int, scale: float) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    mixed: NDArray[np.float64] = rng.normal(size=(N, P)) @ rng.normal(size=(P, P)) * scale
    return mixed + rng.normal(size=P)


def moments_of(private: NDArray[np.float64], sigma: float, seed: int = 0) -> Moments:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(P, P)) * sigma
    noise = np.triu(noise, 1) + np.triu(noise, 1).T + np.diag(np.diag(noise)) * np.sqrt(2)
    sums = private.sum(axis=0, keepdims=True) + rng.normal(size=(1, P)) * sigma
    return Moments(sums, private.T @ private + noise, np.array([float(N)]), N, sigma)


def test_without_noise_mean_and_covariance_are_those_of_the_private_rows() -> None:
    public, private = rows(0, 1.0), rows(1, 0.3)
    linear = fit_recolouring(public, moments_of(private, 0.0))
    made = (public - linear.offset.numpy()) @ linear.matrix.numpy()
    assert np.allclose(made.mean(axis=0), private.mean(axis=0))
    # np.cov divides by n - 1, the moments by n.
    assert np.allclose(np.cov(made.T), np.cov(private.T), rtol=2e-3)


def test_the_map_is_the_one_that_changes_least() -> None:
    # Symmetric and positive: of all maps between the two covariances, that of least change.
    linear = fit_recolouring(rows(0, 1.0), moments_of(rows(1, 0.3), 0.0))
    matrix = linear.matrix.numpy()
    assert np.allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_noise_above_all_differences_leaves_about_the_public_covariance() -> None:
    public = rows(0, 1.0)
    before, kept, plain = np.cov(public.T), 0.0, 0.0
    for seed in range(20):
        moments = moments_of(public, 3000.0, seed)
        shrunk = shrunk_covariance(before, moments)
        assert np.linalg.eigvalsh(shrunk).min() > 0
        mean = moments.sums.sum(axis=0) / N
        kept += float(np.sum((shrunk - before) ** 2))
        plain += float(np.sum((moments.second / N - np.outer(mean, mean) - before) ** 2))
    assert kept < 0.5 * plain


def test_a_little_noise_moves_the_covariance_a_little() -> None:
    public, private = rows(0, 1.0), rows(1, 0.3)
    exact = shrunk_covariance(np.cov(public.T), moments_of(private, 0.0))
    noised = shrunk_covariance(np.cov(public.T), moments_of(private, 2.0))
    assert np.linalg.norm(noised - exact) < 0.05 * np.linalg.norm(exact)


def test_public_rows_that_vary_in_too_few_directions_are_named() -> None:
    flat = rows(0, 1.0)
    flat[:, 3] = flat[:, 2]
    with pytest.raises(DataError, match=f"fewer than {P} directions"):
        fit_recolouring(flat, moments_of(rows(1, 0.3), 1.0))
