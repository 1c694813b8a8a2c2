"""The audit of moments and rounds together comes near a true claim, and catches planted bugs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from steal_cases import delivered, pictures, truth
from summed_cases import holder

from clicooper_hpc.attacks.dp_audit.dp_audit_attack import DP_AUDIT
from clicooper_hpc.attacks.dp_audit.epsilon_bound import EpsilonBound, epsilon_lower_bound
from clicooper_hpc.attacks.dp_audit.gradients_audit import (
    RoundMechanism,
    gradients_audit_bounds,
    gradients_audit_noise,
    gradients_audit_release,
    recorded_rounds,
)
from clicooper_hpc.attacks.dp_audit.worst_case_samples import worst_case_samples
from clicooper_hpc.attacks.harness.adversary import AuxiliaryData
from clicooper_hpc.attacks.toolbox.summed_mechanism import SummedMechanism, recorded_mechanism
from clicooper_hpc.privacy.gradient_sums import SplitPromise, solve_split_promise

CLAIM = 8.0
ROUNDS = 3


def promise_of(share: float = 0.5, epsilon: float = CLAIM) -> SplitPromise:
    return solve_split_promise(3, 2, epsilon=epsilon, delta=1e-5, rounds=ROUNDS, share=share)


PROMISE = promise_of()
MOMENTS, ROUND = (
    recorded_mechanism("moments", PROMISE.moments, "dp-audit", 3),
    recorded_rounds(PROMISE.gradients, 3),
)


def audited(
    pair: str,
    *,
    moments: SummedMechanism = MOMENTS,
    one_round: RoundMechanism = ROUND,
    rounds: int = ROUNDS,
    trials: int = 3000,
) -> EpsilonBound:
    return epsilon_lower_bound(
        gradients_audit_release(moments, one_round, rounds),
        *worst_case_samples()[pair],
        trials=trials,
        delta=1e-5,
    )


def test_the_whole_stays_below_its_claim_and_comes_near_it() -> None:
    found = {one.variant: one for one in gradients_audit_bounds(PROMISE, trials=3000, seed=3)}
    assert set(found) == set(worst_case_samples())
    assert all(one.value <= CLAIM == one.ceiling for one in found.values())
    assert found["opposite rows"].value > 0.7 * CLAIM
    # Its gradients are as far apart as any, its moments less.
    assert found["changed label"].value > 0.6 * CLAIM
    # Moments as far apart as any, gradients orthogonal.
    assert found["other class"].value > 0.5 * CLAIM


@pytest.mark.matrix
@pytest.mark.parametrize("share", [0.05, 0.95])
def test_it_comes_near_however_the_promise_is_split(share: float) -> None:
    promise = promise_of(share)
    bound = audited(
        "opposite rows",
        moments=recorded_mechanism("moments", promise.moments, "dp-audit", 1),
        one_round=recorded_rounds(promise.gradients, 1),
    )
    assert 0.7 * CLAIM < bound.epsilon <= CLAIM


@pytest.mark.matrix
def test_rounds_alone_and_moments_alone_are_less_than_the_claim() -> None:
    def nothing(
        rows: NDArray[np.float64], residuals: NDArray[np.float64], number: int, data: int
    ) -> NDArray[np.float64]:
        return ROUND(0.0 * rows, residuals, number, data)

    alone = audited("opposite rows", one_round=nothing)
    assert 0.4 * CLAIM < alone.epsilon < 0.75 * CLAIM


def test_the_noise_of_the_real_rounds_has_no_fault() -> None:
    for epsilon in (0.5, 8.0):
        spec = promise_of(epsilon=epsilon).gradients
        found = gradients_audit_noise(recorded_rounds(spec, 0), spec)
        assert found.value == 0 == found.ceiling, found.note


# Planted bugs


def test_noise_for_c_where_2c_is_needed_is_caught() -> None:
    spec = replace(PROMISE.gradients, sigma=PROMISE.gradients.sigma / 2)
    half = recorded_rounds(spec, 0)
    for pair in ("opposite rows", "changed label", "outside"):
        assert audited(pair, one_round=half).epsilon > 1.2 * CLAIM
    assert "not the promised distribution" in gradients_audit_noise(half, PROMISE.gradients).note


def test_a_round_charged_once_for_two_sends_is_caught() -> None:
    assert audited("opposite rows", rounds=2 * ROUNDS, trials=6000).epsilon > CLAIM


@pytest.mark.matrix
def test_a_round_sent_again_with_other_noise_is_caught() -> None:
    def twice(
        rows: NDArray[np.float64], residuals: NDArray[np.float64], number: int, data: int
    ) -> NDArray[np.float64]:
        again = ROUND(rows, residuals, ROUNDS + number, data)
        return (ROUND(rows, residuals, number, data) + again) / 2

    assert audited("opposite rows", one_round=twice, trials=6000).epsilon > CLAIM


@pytest.mark.matrix
def test_dividing_by_true_counts_is_caught() -> None:
    def bug(
        rows: NDArray[np.float64], residuals: NDArray[np.float64], number: int, data: int
    ) -> NDArray[np.float64]:
        made = ROUND(rows, residuals, number, data)
        own = residuals < 0
        share = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)).T @ (
            residuals / np.sqrt(2)
        )
        # A class's column over its true size, at the scale of sums of the samples a class has.
        size = own.sum(axis=0)
        mean = len(rows) / max(int(np.count_nonzero(size)), 1)
        biased: NDArray[np.float64] = made - share + share / np.maximum(size, 1) * mean
        return biased

    assert audited("changed label, few mates", one_round=bug).epsilon > CLAIM
    assert audited("changed label, few mates").epsilon <= CLAIM


@pytest.mark.matrix
def test_one_noise_for_two_rounds_or_data_sets_is_caught() -> None:
    def same_rounds(
        rows: NDArray[np.float64], residuals: NDArray[np.float64], number: int, data: int
    ) -> NDArray[np.float64]:
        return ROUND(rows, residuals, 1, data)

    def same_data(
        rows: NDArray[np.float64], residuals: NDArray[np.float64], number: int, data: int
    ) -> NDArray[np.float64]:
        return ROUND(rows, residuals, number, 0)

    for bug, what in ((same_rounds, "rounds"), (same_data, "data sets")):
        note = gradients_audit_noise(bug, PROMISE.gradients).note
        assert f"one noise in two {what}" in note


def test_a_missing_clip_of_residuals_is_caught() -> None:
    def bug(
        rows: NDArray[np.float64], residuals: NDArray[np.float64], number: int, data: int
    ) -> NDArray[np.float64]:
        # What the clip of residuals took off: they are longer by sqrt(2).
        made = ROUND(rows, residuals, number, data)
        longer: NDArray[np.float64] = made + rows.T @ residuals * (1 - 1 / np.sqrt(2))
        return longer

    assert audited("opposite rows", one_round=bug, trials=6000).epsilon > CLAIM


def test_the_attack_audits_moments_and_rounds_together() -> None:
    train = pictures(40, 1)
    given = truth(train, train, delivered(train, 0))
    view = holder(train, None)
    mechanism = replace(view.mechanism, spec=PROMISE.moments)
    view = replace(view, release="gradients", mechanism=mechanism, promise=PROMISE)
    # So little strength that the fewest releases are made that a bound can be had of.
    found = DP_AUDIT.run(view, AuxiliaryData(train, None), given, 0, 0.001).results
    bounds = {one.variant: one for one in found if one.ceiling}
    assert set(bounds) == set(worst_case_samples())
    assert all(one.value <= one.ceiling == CLAIM for one in bounds.values())
    faults = {one.variant: one.value for one in found if not one.ceiling}
    assert faults == {"noise": 0, "noise of rounds": 0, "front": 0}
