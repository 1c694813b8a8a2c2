from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.randomized_response import RandomizedResponse

KEY = MasterKey.from_seed(5)
CONTEXT = digest_bytes("context", b"c")


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-6, 40), st.integers(2, 1000))
def test_the_ratio_of_the_weights_never_exceeds_e_to_epsilon(epsilon: float, k: int) -> None:
    response = RandomizedResponse(epsilon, k, KEY, CONTEXT)
    assert response.true_weight + (k - 1) * response.other_weight == 2**64
    with mpmath.workprec(300):
        ratio = mpmath.mpf(response.true_weight) / response.other_weight
        assert ratio <= mpmath.exp(mpmath.mpf(epsilon))
        # Nothing is wasted either: one unit less for each wrong class would break the bound.
        wider = response.true_weight + k - 1
        assert response.other_weight == 1 or (
            mpmath.mpf(wider) / (response.other_weight - 1) > mpmath.exp(mpmath.mpf(epsilon))
        )


def test_the_published_keep_probability() -> None:
    response = RandomizedResponse(2.0, 10, KEY, CONTEXT)
    assert response.keep_probability == pytest.approx(0.451, abs=5e-4)
    assert response.charge() == Charge.pure(2.0)


def test_answers_are_right_as_often_as_stated_and_wrong_ones_uniform() -> None:
    response = RandomizedResponse(1.5, 6, KEY, CONTEXT)
    n = 60_000
    truth = np.arange(n, dtype=np.int64) % 6
    shift = (response.randomized_answers(truth, np.arange(n)) - truth) % 6
    expected = np.full(6, response.other_weight / 2**64)
    expected[0] = response.keep_probability
    assert chisquare(np.bincount(shift, minlength=6), n * expected).pvalue > 1e-4


def test_a_sample_answers_once() -> None:
    response = RandomizedResponse(1.0, 4, KEY, CONTEXT)
    ids, truth = np.arange(200), np.arange(200, dtype=np.int64) % 4
    answers = response.randomized_answers(truth, ids)
    again = RandomizedResponse(1.0, 4, KEY, CONTEXT)
    order = np.random.default_rng(0).permutation(200)
    assert np.array_equal(again.randomized_answers(truth[order], ids[order]), answers[order])
    other = RandomizedResponse(1.0, 4, KEY, digest_bytes("context", b"d"))
    assert not np.array_equal(other.randomized_answers(truth, ids), answers)
    assert set(answers.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(("epsilon", "k"), [(0.0, 3), (-1.0, 3), (math.nan, 3), (50.0, 3), (1, 1)])
def test_what_is_no_mechanism_is_refused(epsilon: float, k: int) -> None:
    with pytest.raises(UsageError, match="randomised response"):
        RandomizedResponse(epsilon, k, KEY, CONTEXT)


def test_classes_out_of_range_are_a_programming_error() -> None:
    response = RandomizedResponse(1.0, 4, KEY, CONTEXT)
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        response.randomized_answers(np.array([4]), np.array([0]))
