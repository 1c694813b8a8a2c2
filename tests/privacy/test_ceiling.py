from __future__ import annotations

import numpy as np
import pytest

from clicooper_hpc.privacy.ceiling import (
    gaussian_ceiling,
    local_dp_ceiling,
    membership_ceiling,
    reconstruction_ceiling,
)
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_sigma


@pytest.mark.parametrize(
    ("epsilon", "figures"),
    [
        (1, (12.6, 15.5, 1.4, 2.0, 23.2, 2.7)),
        (2, (15.1, 21.8, 1.9, 3.4, 45.1, 6.9)),
        (4, (20.6, 36.1, 3.1, 8.1, 85.9, 35.6)),
        (8, (32.7, 65.0, 6.8, 25.5, 99.7, 96.8)),
    ],
)
def test_the_table_of_ceilings(epsilon: float, figures: tuple[float, ...]) -> None:
    strict, loose = gaussian_sigma(epsilon, 1e-5, 2.0), gaussian_sigma(epsilon, 1e-5, 1.0)
    found = (
        gaussian_ceiling(10, 1.0, strict),
        gaussian_ceiling(10, 1.0, loose),
        gaussian_ceiling(100, 1.0, strict),
        gaussian_ceiling(100, 1.0, loose),
        local_dp_ceiling(10, epsilon),
        local_dp_ceiling(100, epsilon),
    )
    assert [100 * f for f in found] == pytest.approx(list(figures), abs=0.06)


def test_membership_at_the_default_claim() -> None:
    mu = 2 / gaussian_sigma(2, 1e-5, 2.0)
    assert membership_ceiling(0.001, mu) == pytest.approx(0.0048, abs=1e-4)
    assert membership_ceiling(0.01, mu) == pytest.approx(0.034, abs=5e-4)


def test_delta_raises_the_ceiling_and_huge_epsilons_do_not_overflow() -> None:
    assert local_dp_ceiling(10, 2.0, 0.01) > local_dp_ceiling(10, 2.0)
    assert local_dp_ceiling(10, 2334.0, 1e-5) == 1.0


def test_the_best_guess_on_a_simplex_code_stays_below_and_comes_close() -> None:
    """Ten classes at the corners of a simplex, guessed by the nearest corner."""
    random, sigma = np.random.default_rng(0), 1.5
    corners = np.eye(10) - 0.1
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    labels = random.integers(0, 10, 100_000)
    rows = corners[labels] + random.normal(size=(100_000, 10)) * sigma
    accuracy = float(np.mean(np.argmax(rows @ corners.T, axis=1) == labels))
    ceiling = gaussian_ceiling(10, 1.0, sigma)
    assert ceiling - 0.03 < accuracy < ceiling
    with pytest.raises(ValueError, match="two classes"):
        gaussian_ceiling(1, 1.0, 1.0)
    with pytest.raises(ValueError, match="two classes"):
        local_dp_ceiling(1, 1.0)


def test_two_opposite_rows_are_rebuilt_as_often_as_the_ceiling_says() -> None:
    """Simulated: the sign of one noised number, where a blind guess is right half the time."""
    sigma, trials = 1.5, 200_000
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=trials)
    right = float((np.sign(signs + sigma * rng.normal(size=trials)) == signs).mean())
    bound = reconstruction_ceiling(0.5, 1.0 / sigma)
    assert right == pytest.approx(bound, abs=5 * 0.5 / trials**0.5)


@pytest.mark.parametrize("sigma", [0.5, 1.2, 4.0])
def test_one_of_many_orthogonal_rows_is_rebuilt_less_often_than_the_ceiling(sigma: float) -> None:
    """The best guess of which of 100 rows was noised: the largest number."""
    rows, trials = 100, 4000
    rng = np.random.default_rng(1)
    noised = sigma * rng.normal(size=(trials, rows))
    noised[:, 0] += 1.0
    right = float((noised.argmax(axis=1) == 0).mean())
    bound = reconstruction_ceiling(1 / rows, 1.0 / sigma)
    error = 4 * (bound * (1 - bound) / trials) ** 0.5
    assert right <= bound + error
    # Near, and above what a guess without the release reaches: not an empty bound.
    assert bound <= 3 * right + error
    assert bound > 1 / rows


def test_a_blind_guess_has_a_chance() -> None:
    assert reconstruction_ceiling(1e-6, 0.0) == pytest.approx(1e-6, rel=1e-6)
    for chance in (0.0, 1.0):
        with pytest.raises(ValueError, match="blind guess"):
            reconstruction_ceiling(chance, 1.0)
