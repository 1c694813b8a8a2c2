"""The model that moments determine, and the names it gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from clicooper_hpc.owner.moment_model import MomentModel, choose_names, fit_moment_model
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
    assert 0 < share < 0.2
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


def test_rows_summed_by_name_are_what_the_probabilities_expect() -> None:
    rows, labels = example()
    probabilities = fit_moment_model(rows, moments_of(rows, labels)).class_probabilities(rows)
    names = choose_names(rows, probabilities)
    assert names.dtype == np.int64
    expected = probabilities.T @ rows
    chosen = np.linalg.norm(np.eye(K)[names].T @ rows - expected)
    rng = np.random.default_rng(0)
    drawn = [
        np.linalg.norm(
            np.eye(K)[[rng.choice(K, p=row) for row in probabilities]].T @ rows - expected
        )
        for _ in range(5)
    ]
    assert chosen < 0.1 * min(drawn)
    # And they are names of rows, not of sums alone: the likely ones are the frequent ones.
    assert probabilities[np.arange(N), names].mean() > 1.2 / K


def test_a_sure_name_is_the_one_chosen() -> None:
    rows, labels = example()
    assert np.array_equal(choose_names(rows, np.eye(K)[labels]), labels)


def test_the_model_is_a_softmax_of_a_linear_map() -> None:
    model = MomentModel(np.arange(6.0).reshape(2, 3), np.array([0.0, 1.0, 2.0]))
    found = model.class_probabilities(np.array([[1.0, -1.0]]))
    assert np.allclose(found, softmax([[-3.0, -2.0, -1.0]], axis=1))
