"""Every composition of Gaussians that a run makes, by the accountant of Google's dp_accounting.

Its privacy-loss distributions share no code with Opacus nor with ours, and are upper bounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from clicooper_hpc.privacy.accounting import Charge, compose_charges
from clicooper_hpc.privacy.both_relations import state_row_release, state_summed_release
from clicooper_hpc.privacy.class_sums import class_sums_guarantee
from clicooper_hpc.privacy.moments import solve_moments_spec
from clicooper_hpc.privacy.release_spec import solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee, Relation

dp = pytest.importorskip("dp_accounting", reason="dp_accounting is not installed (extra dev)")
pld = pytest.importorskip("dp_accounting.pld.pld_privacy_accountant")
rdp = pytest.importorskip("dp_accounting.rdp.rdp_privacy_accountant")

DELTA = 1e-5
#: Epsilons may differ by this share: theirs rounds privacy losses up to a grid of 1e-4.
TOLERANCE = 1e-4


def shifted(multipliers: Sequence[tuple[float, int]]) -> float:
    """Return their epsilon of Gaussians whose neighbours lie 1 / multiplier sigmas apart."""
    accountant = pld.PLDAccountant(neighboring_relation=dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
    for multiplier, times in multipliers:
        accountant.compose(dp.GaussianDpEvent(multiplier), times)
    return float(accountant.get_epsilon(DELTA))


def agree(theirs: float, ours: float | None) -> None:
    assert ours is not None
    # An upper bound: below ours by no more than the error of their floats.
    assert ours * (1 - 1e-6) <= theirs <= ours * (1 + TOLERANCE)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("non_negative", [False, True])
def test_one_released_row(epsilon: float, non_negative: bool) -> None:
    spec = solve_release_spec(
        Guarantee("sample", "replace-one", 1.0, 16, epsilon, DELTA, non_negative=non_negative)
    )
    for one in state_row_release(spec):
        if one.sensitivity is not None:
            agree(shifted([(spec.sigma / one.sensitivity, 1)]), one.epsilon)


@pytest.mark.parametrize("epsilon", [2.0, 8.0])
@pytest.mark.parametrize("alone", [True, False])
def test_sums_and_moments_under_both_relations(epsilon: float, alone: bool) -> None:
    spec = solve_moments_spec(16, epsilon=epsilon, delta=DELTA)
    for one in state_summed_release(spec, sums_alone=alone):
        assert one.sensitivity is not None
        agree(shifted([(spec.sigma / one.sensitivity, 1)]), one.epsilon)


@pytest.mark.parametrize("rounds", [1, 20])
def test_moments_and_rounds_of_gradients(rounds: int) -> None:
    """Half of mu^2 for the moments, half for sums of gradients of norm at most 1."""
    spec = solve_moments_spec(16, epsilon=2.0, delta=DELTA)
    first, each = spec.sigma * 2**0.5, spec.sigma * (2 * rounds) ** 0.5
    ways: tuple[tuple[Relation, float, float], ...] = (
        ("replace-one", 2.0, 2.0),
        # As add-remove, of which a charge knows nothing: it only composes them.
        ("zero-out", 2**0.5, 1.0),
    )
    for relation, moments, gradients in ways:
        charges = [Charge.gaussian(moments / first, relation)]
        charges += [Charge.gaussian(gradients / each, relation)] * rounds
        ours = compose_charges(charges, DELTA, relation)[0]
        agree(shifted([(first / moments, 1), (each / gradients, rounds)]), ours)
        if relation == "replace-one":
            assert ours == pytest.approx(2.0, abs=1e-6)


def test_class_sums_of_some_samples_and_rows_of_the_others() -> None:
    """No sample pays both, so the run costs the dearer of the two; paying both would be more."""
    sums = solve_release_spec(
        class_sums_guarantee(16, epsilon=2.0, delta=DELTA, relation="replace-one")
    )
    rows = solve_release_spec(
        Guarantee("sample", "replace-one", 1.0, 10, 2.0, DELTA, non_negative=True)
    )
    alone = [
        shifted([(sums.sigma / sums.sensitivity, 1)]),
        shifted([(rows.sigma / rows.sensitivity, 1)]),
    ]
    agree(max(alone), 2.0)
    both = shifted([(sums.sigma / sums.sensitivity, 1), (rows.sigma / rows.sensitivity, 1)])
    agree(both, compose_charges([sums.charge(), rows.charge()], DELTA)[0])
    assert both > 2.9


def test_their_two_accountants_mean_two_things_under_replace_one() -> None:
    """Why both relations are asked for by the distance of neighbours, never by theirs.

    findings/dp-accounting-replace-one-means-two-things.sh
    """
    sums = solve_release_spec(
        class_sums_guarantee(16, epsilon=2.0, delta=DELTA, relation="replace-one")
    )
    replace = dp.NeighboringRelation.REPLACE_ONE
    found = {}
    for kind, module in (("PLD", pld.PLDAccountant), ("RDP", rdp.RdpAccountant)):
        accountant = module(neighboring_relation=replace)
        # The noise multiplier of class sums: noise over the norm of one row.
        accountant.compose(dp.GaussianDpEvent(sums.sigma))
        found[kind] = float(accountant.get_epsilon(DELTA))
    agree(found["PLD"], 2.0)
    assert found["RDP"] < 1.1  # half the distance: it would let half the noise pass for epsilon 2
