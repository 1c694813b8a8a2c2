"""What several runs over the same samples cost together."""

from __future__ import annotations

import math

import pytest

from clicooper_hpc.privacy.accounting import Charge, compose_charges
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon
from clicooper_hpc.privacy.sensitivity import Relation
from clicooper_hpc.sweep.repeated_releases import RunCharge, compose_runs


def run(charge: Charge, data: str = "a.h5", name: str = "run") -> RunCharge:
    relation: Relation = charge.relation
    epsilon, delta = compose_charges([charge], 1e-5, relation)
    return RunCharge(name, data, charge, epsilon, delta, relation)


def test_runs_on_the_same_data_add_up_and_others_do_not() -> None:
    gaussian = Charge.gaussian(0.5)
    three, other = compose_runs(
        [run(gaussian), run(gaussian), run(gaussian, "b.h5"), run(gaussian)]
    )
    assert len(three.names) == 3
    assert three.delta == pytest.approx(3e-5)
    assert three.added == pytest.approx(3 * run(gaussian).epsilon)
    # As one Gaussian mechanism of root 3 times the mu.
    assert three.composed == pytest.approx(gaussian_epsilon(1.0, 3e-5, 0.5 * math.sqrt(3)))
    assert three.composed < three.added
    assert other.added == other.composed == pytest.approx(run(gaussian).epsilon, rel=1e-3)


def test_pure_costs_add_up_and_zero_out_is_two_steps_of_replace_one() -> None:
    (pure,) = compose_runs([run(Charge.pure(1.0)), run(Charge.pure(2.0))])
    assert (pure.added, pure.composed) == (3.0, 3.0)
    zero = Charge.gaussian(0.5, "zero-out")
    (same,) = compose_runs([run(zero), run(zero)])
    assert same.relation == "zero-out"
    (mixed,) = compose_runs([run(zero), run(Charge.gaussian(0.5))])
    assert mixed.relation == "replace-one"
    # The first counts twice: mu 1 and mu 0.5 together.
    exact, _ = compose_charges([Charge.gaussian(math.hypot(1.0, 0.5))], mixed.delta)
    assert mixed.composed == pytest.approx(exact)
    assert mixed.added >= mixed.composed


def test_one_run_without_noise_leaves_no_guarantee() -> None:
    (together,) = compose_runs([run(Charge.gaussian(0.5)), run(Charge.unbounded())])
    assert together.added == together.composed == math.inf
