"""The model that moments determine, and the names drawn from it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from clicooper_hpc.owner.moment_model import MomentModel, draw_names, fit_moment_model
from clicooper_hpc.privacy.moments import Moments

K, P, N = 3, 5, 3000


def example(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows [N, P] and classes [N] that a linear model tells apart, one class thrice as frequent."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(N, P))
    scores = rows @ np.random.default_rng(9).normal(size=(P, K)) + np.log([3.0, 1.0, 1.0])
    labels = np.array([rng.choice(K, p=softmax(row)) for row in scores])
    return rows, labels


def moments_of(rows: NDArray[np.float64], labels: NDArray[np.int64], sigma: float = 0.0) -> Moments:
    hot = np.eye(K)[labels]
    rng = np.random.default_rng(4)
    sums = hot.T @ rows + sigma * rng.normal(size=(K, P))
    return Moments(sums, rows.T @ rows, hot.sum(axis=0), len(rows), sigma)


def test_moments_and_the_marginal_are_all_that_logistic_regression_needs() -> None:
    rows, labels = example()
    other, wanted = example(1)
    # The public rows are drawn anew: no row of the private set is seen.
    model = fit_moment_model(other, moments_of(rows, labels))
    probabilities = model.class_probabilities(other)
    right = float((probabilities.argmax(axis=1) == wanted).mean())
    truth = example(1)[0] @ np.random.default_rng(9).normal(size=(P, K)) + np.log([3.0, 1.0, 1.0])
    assert right > float((truth.argmax(axis=1) == wanted).mean()) - 0.02


def test_class_sums_under_the_model_are_those_released_less_the_ridge() -> None:
    rows, labels = example()
    moments = moments_of(rows, labels)
    model = fit_moment_model(rows, moments)
    expected = model.class_probabilities(rows).T @ rows / N
    # What a ridge leaves over is a multiple of the matrix, the same one everywhere.
    left = (moments.sums / N - expected).T
    share = float((left * model.matrix).sum() / np.square(model.matrix).sum())
    assert 0 < share < 0.1
    assert np.allclose(left, share * model.matrix, atol=2e-3)
    shares = model.class_probabilities(rows).mean(axis=0)
    assert np.allclose(shares, moments.sizes / N, atol=1e-3)


def test_the_more_noise_the_less_is_believed() -> None:
    rows, labels = example()
    sizes = [
        float(np.linalg.norm(fit_moment_model(rows, moments_of(rows, labels, sigma)).matrix))
        for sigma in (0.0, 30.0, 300.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_sizes_that_noise_made_negative_do_no_harm() -> None:
    rows, labels = example()
    moments = moments_of(rows, labels)
    moments.sizes[1] = -7.0
    model = fit_moment_model(rows, moments)
    assert np.isfinite(model.matrix).all()
    assert model.class_probabilities(rows)[:, 1].mean() < 0.01


def test_names_are_drawn_as_often_as_their_probabilities_say() -> None:
    probabilities = np.tile([[0.7, 0.2, 0.1]], (20_000, 1))
    names = draw_names(probabilities, bytes(32))
    assert names.dtype == np.int64
    shares = np.bincount(names, minlength=3) / len(names)
    # Five standard errors of the most uncertain share.
    assert np.allclose(shares, [0.7, 0.2, 0.1], atol=5 * 0.5 / np.sqrt(len(names)))
    assert np.array_equal(names, draw_names(probabilities, bytes(32)))
    assert not np.array_equal(names, draw_names(probabilities, bytes(31) + b"1"))


@pytest.mark.parametrize("sure", range(K))
def test_a_sure_name_is_the_one_drawn(sure: int) -> None:
    probabilities = np.tile(np.eye(K)[sure], (500, 1))
    # Sums that rounding left a little short of 1 must still give the last name.
    assert set(draw_names(probabilities * (1 - 1e-16), bytes(32))) == {sure}


def test_the_model_is_a_softmax_of_a_linear_map() -> None:
    model = MomentModel(np.arange(6.0).reshape(2, 3), np.array([0.0, 1.0, 2.0]))
    found = model.class_probabilities(np.array([[1.0, -1.0]]))
    assert np.allclose(found, softmax([[-3.0, -2.0, -1.0]], axis=1))
