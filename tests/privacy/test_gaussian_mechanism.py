from __future__ import annotations

import math
from typing import Any

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.privacy.gaussian_mechanism import (
    gaussian_delta,
    gaussian_epsilon,
    gaussian_mu,
    gaussian_sigma,
)

EPSILONS = st.floats(1e-3, 50)
DELTAS = st.floats(1e-12, 0.3)
SENSITIVITIES = st.floats(1e-6, 1e6)


@pytest.mark.parametrize(
    ("epsilon", "delta", "sensitivity", "sigma"),
    [
        (2, 1e-5, 1, 1.993812),
        (2, 1e-5, 2, 3.987625),
        (2, 1e-5, math.sqrt(2), 2.819676),
        (0.5, 1e-5, 1, 7.0318),
        (1, 1e-5, 1, 3.7306),
        (4, 1e-5, 1, 1.0812),
        (8, 1e-5, 1, 0.60023),
        (2, 1e-6, 1, 2.2305),
    ],
)
def test_sigma_equals_the_published_calibration(
    epsilon: float, delta: float, sensitivity: float, sigma: float
) -> None:
    digits = 1e-6 if len(str(sigma)) >= 8 else 6e-5
    assert gaussian_sigma(epsilon, delta, sensitivity) == pytest.approx(sigma, abs=digits)


@pytest.mark.parametrize(
    ("sensitivity", "epsilon"),
    [(2, 4.39), (math.sqrt(2), 2.95), (4, 10.0), (8, 24.5), (32, 196), (64, 651), (128, 2334)],
)
def test_true_epsilon_of_too_little_noise(sensitivity: float, epsilon: float) -> None:
    """The price of calibrating to sensitivity 1 what moves by more."""
    sigma = gaussian_sigma(2, 1e-5, 1)
    assert gaussian_epsilon(sigma, 1e-5, sensitivity) == pytest.approx(epsilon, rel=5e-3)


def test_mu_of_the_default_claim() -> None:
    assert gaussian_mu(gaussian_sigma(2, 1e-5, 2), 2) == pytest.approx(0.50155, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(EPSILONS, DELTAS, SENSITIVITIES)
def test_sigma_keeps_the_claim_and_wastes_nothing(
    epsilon: float, delta: float, sensitivity: float
) -> None:
    sigma = gaussian_sigma(epsilon, delta, sensitivity)
    spent = gaussian_epsilon(sigma, delta, sensitivity)
    assert spent <= epsilon
    assert spent == pytest.approx(epsilon, rel=1e-8)
    assert gaussian_delta(epsilon, sigma, sensitivity) <= delta
    # Stated through a rounded mu the claim must not grow either: the ledger composes mu.
    assert gaussian_epsilon(1.0, delta, gaussian_mu(sigma, sensitivity)) <= epsilon


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 50), DELTAS, st.floats(1.001, 3))
def test_more_noise_costs_less(sigma: float, delta: float, factor: float) -> None:
    epsilon = gaussian_epsilon(sigma, delta, 1.0)
    assert gaussian_epsilon(sigma * factor, delta, 1.0) <= epsilon
    assert gaussian_epsilon(sigma, min(0.9, delta * factor), 1.0) <= epsilon
    assert gaussian_delta(1.0, sigma * factor, 1.0) <= gaussian_delta(1.0, sigma, 1.0)
    assert gaussian_delta(1.0 * factor, sigma, 1.0) <= gaussian_delta(1.0, sigma, 1.0)


@settings(max_examples=20, deadline=None)
@given(EPSILONS, DELTAS)
def test_sigma_scales_with_sensitivity(epsilon: float, delta: float) -> None:
    assert gaussian_sigma(epsilon, delta, 8.0) == 8 * gaussian_sigma(epsilon, delta, 1.0)


def test_rounding_is_never_in_favour_of_the_claim() -> None:
    """Float64 figures against 500 bits: delta never below the true one, epsilon always enough."""
    with mpmath.workprec(500):

        def true_delta(epsilon: float, sigma: float) -> Any:
            e, mu = mpmath.mpf(epsilon), 1 / mpmath.mpf(sigma)
            low = mpmath.ncdf(-mu / 2 - e / mu)
            return mpmath.ncdf(mu / 2 - e / mu) - mpmath.exp(e) * low

        for i in range(1, 41):
            sigma = 0.37 * i
            assert gaussian_delta(0.9, sigma, 1.0) >= true_delta(0.9, sigma)
            assert true_delta(gaussian_epsilon(sigma, 1e-5, 1.0), sigma) <= 1e-5
            assert mpmath.mpf(gaussian_mu(sigma, 1.0)) >= 1 / mpmath.mpf(sigma)


def test_so_much_noise_that_epsilon_is_zero() -> None:
    assert gaussian_epsilon(1e6, 1e-5, 1.0) == 0.0


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_refuses_what_is_no_number(bad: float) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        gaussian_sigma(bad, 1e-5, 1.0)
    with pytest.raises(ValueError, match="delta"):
        gaussian_epsilon(1.0, bad, 1.0)
