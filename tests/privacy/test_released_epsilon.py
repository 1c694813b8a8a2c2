"""The claim tried on the released bits: two worst-case rows, told apart as well as can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta, norm

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.row_releaser import GaussianReleaser
from clicooper_hpc.privacy.sensitivity import Guarantee, Relation

D, N = 4, 60_000
DIGEST = digest_bytes("test", b"audit")


def epsilon_lower_bound(spec: ReleaseSpec, first: np.ndarray, second: np.ndarray) -> float:
    """Return a 99.9 % lower bound of epsilon at delta 1e-5 from N releases of either row."""
    context = ReleaseContext("train", DIGEST, DIGEST, spec)
    releaser = GaussianReleaser(spec, NoiseStream(MasterKey.from_seed(1), context))
    direction, middle = second - first, (first + second) / 2
    ids = np.arange(2 * N)
    rows = np.concatenate([np.tile(first, (N, 1)), np.tile(second, (N, 1))])
    says_second = (releaser.release_rows(rows, ids) - middle) @ direction > 0
    false_positives, false_negatives = says_second[:N].sum(), N - says_second[N:].sum()
    # Clopper-Pearson upper limits of both error rates, then mu of the trade-off curve.
    high = [beta.ppf(1 - 5e-4, k + 1, N - k) for k in (false_positives, false_negatives)]
    mu = -norm.ppf(high[0]) - norm.ppf(high[1])
    return gaussian_epsilon(1.0, 1e-5, float(mu)) if mu > 0 else 0.0


def spec_for(relation: Relation, *, non_negative: bool = False) -> ReleaseSpec:
    return solve_release_spec(Guarantee("sample", relation, 1.0, D, 2.0, 1e-5, non_negative))


def test_opposite_rows_stay_below_the_claim_and_come_close() -> None:
    row = np.array([1.0, 0, 0, 0])
    bound = epsilon_lower_bound(spec_for("replace-one"), row, -row)
    assert 1.8 < bound < 2.0


def test_orthogonal_rows_stay_below_the_claim_of_the_orthant() -> None:
    spec = spec_for("replace-one", non_negative=True)
    bound = epsilon_lower_bound(spec, np.eye(D)[0], np.eye(D)[1])
    assert 1.7 < bound < 2.0


def test_rows_outside_the_ball_gain_nothing() -> None:
    row = np.array([1e30, 1e30, -1e30, 0])
    assert epsilon_lower_bound(spec_for("replace-one"), row / 1e29, -row / 1e29) < 2.0


def test_noise_for_c_where_2c_was_claimed_is_caught() -> None:
    """The usual slip: sensitivity C (row against zero) printed as replace-one."""
    planted = spec_for("zero-out")
    claimed = replace(planted, guarantee=replace(planted.guarantee, relation="replace-one"))
    row = np.array([1.0, 0, 0, 0])
    bound = epsilon_lower_bound(claimed, row, -row)
    assert bound > 2.5
    assert bound == pytest.approx(4.39, abs=0.4)


def test_a_flag_that_is_not_enforced_would_be_caught() -> None:
    """Orthant noise on signed rows: the clip sets negatives to zero, so nothing leaks."""
    row = np.array([1.0, 0, 0, 0])
    assert epsilon_lower_bound(spec_for("replace-one", non_negative=True), row, -row) < 2.0
