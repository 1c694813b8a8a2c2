"""Class scores from noised class means: Fisher's rule without noise, silence without knowledge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.private_lda import fit_private_lda


def test_the_discriminant_is_fishers() -> None:
    """Two classes, no error: the difference of the scores is x W^-1 (m1 - m0) less its middle."""
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(6, 6))
    labels = rng.integers(0, 5, 4000)
    public = rng.normal(size=(4000, 6)) @ shape + rng.normal(size=(5, 6))[labels] * 3
    means = rng.normal(size=(2, 6))
    scores = fit_private_lda(means, public, labels, noise=0.0, samples=1e12)
    assert np.allclose(scores.offset.numpy(), means.mean(axis=0))
    matrix = scores.matrix.numpy()
    inside = public - np.stack([public[labels == k].mean(axis=0) for k in range(5)])[labels]
    within = np.cov(inside.T)
    ridge = 0.02 * np.trace(within) / 6 * np.eye(6)
    fisher = np.linalg.solve(within + ridge, means[1] - means[0])
    assert np.allclose(matrix[:, 1] - matrix[:, 0], fisher, rtol=1e-6)
    rows = torch.from_numpy(means.astype(np.float32))
    told = scores.apply(rows).double().numpy()
    assert np.allclose(told.sum(axis=1), 1.0, atol=1e-6)
    # The squared Mahalanobis distance of the means, halved by the rule and by the temperature.
    apart = float((means[1] - means[0]) @ fisher)
    assert np.log(told[1, 1] / told[1, 0]) == pytest.approx(apart / 4, rel=1e-3)
    with pytest.raises(DataError, match="do not vary"):
        fit_private_lda(means, np.zeros((10, 6)), labels[:10], noise=0.0, samples=1.0)


def test_means_that_are_all_noise_give_no_class_a_score() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 4000)
    public = rng.normal(size=(4000, 8))
    matrices = [
        fit_private_lda(
            known * rng.normal(size=(50, 8)) + 0.3 * rng.normal(size=(50, 8)),
            public, labels, noise=0.3, samples=1e6,
        ).matrix.numpy()
        for known in (0.0, 3.0)
    ]  # fmt: skip
    assert np.linalg.norm(matrices[0]) < 0.1 * np.linalg.norm(matrices[1])
