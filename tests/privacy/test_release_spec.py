from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clicooper_hpc.errors import UsageError
from clicooper_hpc.privacy.release_spec import MAX_INTEGER, ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee


def guarantee(**changes: Any) -> Guarantee:
    values: dict[str, Any] = {
        "unit": "sample",
        "relation": "replace-one",
        "clip": 1.0,
        "dimension": 64,
        "epsilon": 2.0,
        "delta": 1e-5,
    }
    return Guarantee(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "sensitivity", "sample_sensitivity"),
    [
        ({}, 2.0, 2.0),
        ({"non_negative": True}, math.sqrt(2), math.sqrt(2)),
        ({"relation": "zero-out"}, 1.0, 1.0),
        ({"relation": "zero-out", "non_negative": True}, 1.0, 1.0),
        ({"unit": "element"}, 2.0, 16.0),
        ({"unit": "element", "non_negative": True}, 1.0, 8.0),
        ({"unit": "element", "relation": "zero-out"}, 1.0, 8.0),
    ],
)
def test_sensitivity_of_each_unit_and_relation(
    changes: dict[str, Any], sensitivity: float, sample_sensitivity: float
) -> None:
    spec = solve_release_spec(guarantee(**changes))
    assert spec.sensitivity == pytest.approx(sensitivity, rel=1e-12)
    assert spec.sensitivity >= sensitivity
    assert spec.sample_sensitivity == pytest.approx(sample_sensitivity, rel=1e-12)
    assert spec.sensitivity_reason
    assert spec.sigma == pytest.approx(1.993812446 * sensitivity, rel=1e-8)


def test_element_unit_always_tells_the_sample_level_epsilon() -> None:
    """The usual slip, per-coordinate noise called "epsilon 2", is 2334 for a whole row."""
    spec = solve_release_spec(guarantee(unit="element", dimension=16384, non_negative=True))
    assert spec.sample_epsilon == pytest.approx(2334, rel=1e-3)


def test_sample_unit_has_one_epsilon() -> None:
    spec = solve_release_spec(guarantee())
    assert spec.sample_epsilon <= 2.0
    assert spec.sample_mu == spec.mu


@pytest.mark.parametrize("dimension", [1, 64, 4096, 16384])
def test_metric_unit_pays_for_the_grid_and_little(dimension: int) -> None:
    distance = 0.125
    spec = solve_release_spec(
        guarantee(unit="metric", metric_distance=distance, dimension=dimension)
    )
    slack = (math.sqrt(dimension) + 1) * spec.grid
    assert distance + slack <= spec.sensitivity <= distance * (1 + 1 / 64) * (1 + 1e-9)
    assert spec.sample_sensitivity == 2.0
    assert spec.sample_epsilon > 50


@settings(max_examples=30, deadline=None)
@given(
    st.floats(2.0**-40, 2.0**40),
    st.integers(1, 20000),
    st.floats(0.05, 40),
    st.sampled_from(["sample", "element", "metric"]),
)
def test_grid_is_a_fine_power_of_two_that_float32_holds(
    clip: float, dimension: int, epsilon: float, unit: str
) -> None:
    distance = clip / 8 if unit == "metric" else None
    spec = solve_release_spec(
        guarantee(
            unit=unit, clip=clip, dimension=dimension, epsilon=epsilon, metric_distance=distance
        )
    )
    assert math.frexp(spec.grid)[0] == 0.5
    assert spec.grid <= min(clip / 1024, spec.sigma / 64)
    assert spec.clip_over_grid + 9.5 * spec.sigma_over_grid <= MAX_INTEGER
    if unit != "metric":
        assert 2 * spec.grid > min(clip / 1024, spec.sigma / 64)


def test_spec_survives_json_to_the_bit() -> None:
    spec = solve_release_spec(guarantee(unit="metric", metric_distance=0.3, clip=0.7))
    stored = json.loads(json.dumps(spec.to_dict()))
    assert ReleaseSpec.from_dict(stored) == spec
    assert ReleaseSpec.from_dict(stored).digest() == spec.digest()


def test_integer_and_float_parameters_are_one_mechanism() -> None:
    assert (
        solve_release_spec(guarantee(epsilon=2, clip=1)).digest()
        == solve_release_spec(guarantee()).digest()
    )


@pytest.mark.parametrize(
    "change",
    [{"clip": 2.0}, {"epsilon": 1.0}, {"delta": 1e-6}, {"dimension": 65}, {"non_negative": True}],
)
def test_every_parameter_changes_the_digest(change: dict[str, Any]) -> None:
    assert (
        solve_release_spec(guarantee(**change)).digest() != solve_release_spec(guarantee()).digest()
    )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"unit": "row"}, "unit"),
        ({"relation": "add"}, "relation"),
        ({"clip": 0.0}, "clip"),
        ({"clip": math.nan}, "clip"),
        ({"dimension": 0}, "dimension"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"metric_distance": 0.1}, "metric_distance"),
        ({"unit": "metric"}, "metric_distance"),
        ({"unit": "metric", "metric_distance": 2.0}, "metric_distance"),
        ({"unit": "metric", "metric_distance": 0.1, "relation": "zero-out"}, "relation"),
    ],
)
def test_refuses_what_makes_no_guarantee(change: dict[str, Any], key: str) -> None:
    with pytest.raises(UsageError) as error:
        guarantee(**change)
    assert error.value.where == f"privacy.{key}"
    assert error.value.remedy


def test_refuses_noise_that_float32_cannot_hold() -> None:
    with pytest.raises(UsageError, match="float32"):
        solve_release_spec(guarantee(epsilon=1e-3, delta=1e-12))
