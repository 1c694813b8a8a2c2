"""Learning rates as functions of the step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clicooper_hpc.errors import UsageError
from clicooper_hpc.training.learning_rate import (
    RATE_SCHEDULES,
    LearningRateSchedule,
    learning_rate,
)


def rates(total: int, **settings: object) -> list[float]:
    return [
        learning_rate(
            step,
            total_steps=total,
            schedule=LearningRateSchedule(0.1, **settings),  # type: ignore[arg-type]
        )
        for step in range(total)
    ]


def test_constant() -> None:
    assert rates(3, schedule="constant") == [0.1, 0.1, 0.1]


def test_linear_ends_one_step_after_the_last() -> None:
    assert rates(4, schedule="linear") == [0.1, 0.075, 0.05, 0.025]
    assert rates(4, schedule="linear", final_fraction=0.5) == [0.1, 0.0875, 0.075, 0.0625]


def test_cosine() -> None:
    expected = [0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05, 0.05 * (1 - math.sqrt(0.5))]
    assert rates(4, schedule="cosine") == pytest.approx(expected, rel=1e-11)
    lifted = rates(4, schedule="cosine", final_fraction=0.2)
    assert lifted == pytest.approx([0.02 + 0.8 * rate for rate in expected], rel=1e-11)


def test_step_drops_at_each_milestone() -> None:
    settings = {"schedule": "step", "milestones": [2, 4], "gamma": 0.5}
    assert rates(6, **settings) == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]


@pytest.mark.parametrize("schedule", RATE_SCHEDULES)
def test_warm_up_climbs_to_the_base_and_then_the_schedule_begins(schedule: str) -> None:
    warm = rates(8, schedule=schedule, warmup_steps=4)
    assert warm[:4] == [0.025, 0.05, 0.075, 0.1]
    assert warm[4:] == rates(4, schedule=schedule)


def test_a_run_may_be_all_warm_up() -> None:
    assert rates(2, schedule="cosine", warmup_steps=2) == [0.05, 0.1]


@given(
    schedule=st.sampled_from(RATE_SCHEDULES),
    total=st.integers(1, 300),
    warmup=st.integers(0, 300),
    fraction=st.floats(0, 1),
)
def test_rates_stay_between_zero_and_base_and_fall_after_warm_up(
    schedule: str, total: int, warmup: int, fraction: float
) -> None:
    warmup = min(warmup, total)
    found = rates(total, schedule=schedule, warmup_steps=warmup, final_fraction=fraction)
    assert all(0 < rate <= 0.1 for rate in found)
    after = found[warmup:]
    assert after == sorted(after, reverse=True)
    if schedule in ("cosine", "linear"):
        assert all(rate >= 0.1 * fraction * (1 - 1e-11) for rate in after)


def test_last_bits_of_the_maths_library_do_not_show() -> None:
    # The value is a decimal number of at most twelve digits, the same on every host.
    for rate in rates(97, schedule="cosine", warmup_steps=7):
        assert rate == float(f"{rate:.12g}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "exponential"}, r"'exponential'.*constant, cosine, step, linear"),
        ({"base": 0.0}, "positive"),
        ({"base": math.inf}, "positive"),
        ({"warmup_steps": 11}, "11 steps does not fit a run of 10 steps"),
        ({"warmup_steps": -1}, "does not fit"),
        ({"gamma": 0.0}, "gamma"),
        ({"final_fraction": 1.5}, r"\[0, 1\], not 1.5"),
    ],
)
def test_wrong_settings_are_usage_errors(settings: dict[str, object], message: str) -> None:
    schedule = LearningRateSchedule(**({"base": 0.1} | settings))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        learning_rate(0, total_steps=10, schedule=schedule)


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_outside_the_run_is_a_bug(step: int) -> None:
    with pytest.raises(ValueError, match="not one of the 10 steps"):
        learning_rate(step, total_steps=10, schedule=LearningRateSchedule(0.1))
