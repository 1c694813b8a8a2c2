from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.privacy.accounting import Charge, compose_charges, cross_check_accounting
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon, gaussian_sigma
from clicooper_hpc.privacy.release_spec import solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee

SPEC = solve_release_spec(Guarantee("sample", "replace-one", 1.0, 64, 2.0, 1e-5))


def opacus_epsilon(kind: str, multiplier: float, delta: float) -> float:
    """Of one full release: sampling rate 1, one step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opacus import accountants

        accountant = getattr(accountants, kind)()
        accountant.history = [(multiplier, 1.0, 1)]
        return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 2.0, 8.0, 40.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-9])
def test_the_cross_check_is_the_figure_of_opacus(epsilon: float, delta: float) -> None:
    multiplier = gaussian_sigma(epsilon, delta, 1.0)
    expected = opacus_epsilon("RDPAccountant", multiplier, delta)
    assert cross_check_accounting(multiplier, delta).rdp == pytest.approx(expected, rel=1e-9)
    assert expected >= epsilon


def test_a_privacy_loss_distribution_confirms_the_claim() -> None:
    found = opacus_epsilon("PRVAccountant", SPEC.sigma / SPEC.sensitivity, 1e-5)
    assert found == pytest.approx(2.0101, abs=1e-3)  # its own error bound is 0.01
    assert 2.0 <= found <= 2.02


def test_one_release_composes_to_at_most_its_claim() -> None:
    epsilon, delta = compose_charges([SPEC.charge()], 1e-5)
    assert 2.0 - 1e-9 < epsilon <= 2.0
    assert delta == 1e-5


@pytest.mark.parametrize(("views", "epsilon"), [(2, 2.95), (4, 4.39), (10, 7.54), (50, 20.8)])
def test_repeated_releases_compose_exactly(views: int, epsilon: float) -> None:
    assert compose_charges([SPEC.charge()] * views, 1e-5)[0] == pytest.approx(epsilon, rel=3e-3)


def test_other_mechanisms_are_added_and_their_delta_is_taken_out() -> None:
    gaussian, pure = SPEC.charge(), Charge.pure(0.7)
    front = Charge.approximate(0.5, 2e-6, "replace-one")
    epsilon, delta = compose_charges([gaussian, pure, front], 1e-5)
    assert delta == 1e-5
    assert epsilon == pytest.approx(1.2 + gaussian_epsilon(SPEC.sigma, 8e-6, 2.0), rel=1e-9)
    assert compose_charges([pure, front], 1e-5) == pytest.approx((1.2, 2e-6))
    assert compose_charges([], 1e-5) == (0.0, 0.0)


def test_no_delta_left_means_no_guarantee() -> None:
    front = Charge.approximate(0.5, 1e-5, "replace-one")
    assert compose_charges([SPEC.charge(), front], 1e-5)[0] == math.inf
    assert compose_charges([front], 1e-6) == (math.inf, 1e-5)
    assert compose_charges([front], 1e-5) == (0.5, 1e-5)


def test_sending_something_as_it_is_costs_everything() -> None:
    assert compose_charges([Charge.unbounded(), SPEC.charge()], 1e-5)[0] == math.inf


def test_zero_out_costs_double_under_replace_one() -> None:
    zero_out = solve_release_spec(Guarantee("sample", "zero-out", 1.0, 64, 2.0, 1e-5))
    assert compose_charges([zero_out.charge()], 1e-5, "zero-out")[0] <= 2.0
    # The 2C-for-C slip: noise for C, claimed for replace-one.
    assert compose_charges([zero_out.charge()], 1e-5)[0] == pytest.approx(4.39, abs=0.01)
    front = Charge.approximate(1.0, 1e-6, "zero-out")
    assert compose_charges([front], 1e-5) == pytest.approx((2.0, 1e-6 * (1 + math.e)))
    assert SPEC.charge().under("zero-out").mu == SPEC.mu


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 2), min_size=1, max_size=5), st.floats(0.01, 2))
def test_composition_is_order_free_and_grows(mus: list[float], extra: float) -> None:
    charges = [Charge.gaussian(mu) for mu in mus]
    total = compose_charges(charges, 1e-5)[0]
    assert compose_charges(charges[::-1], 1e-5)[0] == pytest.approx(total, rel=1e-9)
    assert compose_charges([*charges, Charge.gaussian(extra)], 1e-5)[0] >= total
    # Exact composition is never worse than adding up.
    assert total <= sum(compose_charges([c], 1e-5 / len(mus))[0] for c in charges) + 1e-9


def test_impossible_charges_are_refused() -> None:
    for mu, epsilon, delta in ((-1.0, 0.0, 0.0), (0.0, math.nan, 0.0), (0.0, 0.0, 2.0)):
        with pytest.raises(ValueError, match="no such charge"):
            Charge(mu, epsilon, delta)


@pytest.mark.parametrize("mu", [math.inf, 1e200, 1e151])
def test_what_no_noise_hides_costs_an_infinite_epsilon(mu: float) -> None:
    # 1e200 squared is beyond a float, and so would be the epsilon.
    charge = Charge.gaussian(mu)
    assert compose_charges([charge, charge], 1e-5) == (math.inf, 1e-5)
