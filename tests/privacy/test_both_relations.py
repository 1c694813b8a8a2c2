from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from clicooper_hpc.privacy.both_relations import (
    RelationStatement,
    state_row_release,
    state_summed_release,
    stated_to_dict,
)
from clicooper_hpc.privacy.gaussian_mechanism import gaussian_epsilon
from clicooper_hpc.privacy.moments import MomentSums, solve_moments_spec
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee


def spec_of(**changes: Any) -> ReleaseSpec:
    asked: dict[str, Any] = {
        "unit": "sample",
        "relation": "replace-one",
        "clip": 1.0,
        "dimension": 16,
        "epsilon": 2.0,
        "delta": 1e-5,
    }
    return solve_release_spec(Guarantee(**(asked | changes)))


def by_name(stated: tuple[RelationStatement, ...]) -> dict[tuple[str, str], RelationStatement]:
    found = {(one.unit, one.relation): one for one in stated}
    assert len(found) == len(stated)
    return {(unit, relation): one for (unit, relation), one in found.items()}


def test_a_row_has_half_the_sensitivity_against_the_zero_row() -> None:
    stated = by_name(state_row_release(spec_of()))
    assert stated["sample", "replace-one"].epsilon == pytest.approx(2.0, abs=1e-9)
    assert stated["sample", "replace-one"].epsilon <= 2.0  # type: ignore[operator]
    zero = stated["sample", "zero-out"]
    assert zero.sensitivity == 1.0
    assert zero.epsilon == pytest.approx(0.9295, abs=1e-4)
    assert "delta 1e-05 per sample" in zero.words()


def test_add_remove_of_a_released_row_has_no_number() -> None:
    gone = by_name(state_row_release(spec_of()))["sample", "add-remove"]
    assert gone.epsilon is None
    assert gone.sensitivity is None
    assert gone.words() == "no meaning for released rows: everybody counts them"
    assert set(stated_to_dict((gone,))["sample"]["add_remove"]) == {"neighbours", "delta"}


def test_without_negative_numbers_rows_are_root_two_apart_and_one_from_zero() -> None:
    stated = by_name(state_row_release(spec_of(non_negative=True)))
    assert stated["sample", "replace-one"].sensitivity == pytest.approx(2**0.5)
    assert stated["sample", "zero-out"].sensitivity == 1.0
    assert stated["sample", "replace-one"].epsilon == pytest.approx(2.0, abs=1e-9)


def test_a_zero_out_claim_shows_what_replacing_costs() -> None:
    stated = by_name(state_row_release(spec_of(relation="zero-out")))
    assert stated["sample", "zero-out"].epsilon == pytest.approx(2.0, abs=1e-9)
    assert stated["sample", "replace-one"].epsilon == pytest.approx(4.393, abs=1e-3)


def test_smaller_units_are_stated_for_whole_samples_too() -> None:
    spec = spec_of(unit="element", dimension=100)
    stated = by_name(state_row_release(spec))
    assert stated["element", "replace-one"].sensitivity == 2.0
    assert stated["element", "zero-out"].sensitivity == 1.0
    assert stated["sample", "replace-one"].epsilon == spec.sample_epsilon
    assert stated["sample", "zero-out"].sensitivity == pytest.approx(10.0)


def test_a_distance_has_no_zero_row() -> None:
    spec = spec_of(unit="metric", metric_distance=0.125)
    stated = by_name(state_row_release(spec))
    unit = spec.guarantee.unit_label
    assert stated[unit, "zero-out"].epsilon is None
    assert stated[unit, "replace-one"].epsilon == pytest.approx(2.0, abs=1e-9)
    assert stated["sample", "replace-one"].epsilon == spec.sample_epsilon
    assert set(stated_to_dict(state_row_release(spec))) == {"metric", "sample"}


@pytest.mark.parametrize(
    ("alone", "expected"),
    [(True, (0.4687, 0.9295, 1.83, 3.55)), (False, (0.684, 1.361, 2.69, 5.30))],
)
def test_sums_of_known_epsilons(alone: bool, expected: tuple[float, ...]) -> None:
    for claim, other in zip((1.0, 2.0, 4.0, 8.0), expected, strict=True):
        spec = solve_moments_spec(8, epsilon=claim, delta=1e-5)
        stated = by_name(state_summed_release(spec, sums_alone=alone))
        assert stated["sample", "replace-one"].epsilon == pytest.approx(claim, rel=1e-9)
        assert stated["sample", "add-remove"].epsilon == pytest.approx(other, rel=5e-3)


@pytest.mark.parametrize("alone", [True, False])
def test_no_sample_moves_the_sums_further_than_stated(alone: bool) -> None:
    """Measured on the sums that a run makes: exact integers, worst rows and random ones."""
    spec = solve_moments_spec(8, epsilon=8.0, delta=1e-5)
    stated = by_name(state_summed_release(spec, sums_alone=alone))
    rng = np.random.default_rng(0)
    most = 0.0
    rows = np.concatenate([np.eye(8), rng.normal(size=(40, 8)) * 5]).astype(np.float32)
    for row in rows:
        sums = MomentSums(3, 8, spec)
        sums.add_rows(row[None], np.array([1]))
        grid = spec.grid
        moved = float(np.square(sums.sums * grid).sum())
        if not alone:
            moved += float(np.square(sums.second * grid**2).sum()) / 2 + sums.sizes.sum() / 2
        most = max(most, moved**0.5)
    bound = stated["sample", "add-remove"].sensitivity
    assert bound is not None
    assert 0.99 * bound < most <= bound


def test_every_stated_number_reads_back_to_the_bit() -> None:
    spec = spec_of(unit="element", dimension=100)
    stored = stated_to_dict(state_row_release(spec))
    for relation, sensitivity in (("replace_one", 20.0), ("zero_out", 10.0)):
        entry = stored["sample"][relation]
        assert float(entry["sensitivity"]) == pytest.approx(sensitivity)
        again = gaussian_epsilon(spec.sigma, float(entry["delta"]), float(entry["sensitivity"]))
        assert float(entry["epsilon"]) == again
