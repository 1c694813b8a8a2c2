from __future__ import annotations

import json
import math
from typing import Any

import pytest

from clicooper_hpc.errors import BudgetExceededError, ExitCode, UsageError
from clicooper_hpc.privacy.accounting import Charge
from clicooper_hpc.privacy.privacy_ledger import PrivacyBudget, PrivacyEvent, PrivacyLedger
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.sensitivity import Guarantee

SPEC = solve_release_spec(Guarantee("sample", "replace-one", 1.0, 64, 2.0, 1e-5))
ELEMENT = solve_release_spec(Guarantee("element", "replace-one", 1.0, 64, 2.0, 1e-5))


def event(spec: ReleaseSpec = SPEC, **changes: Any) -> PrivacyEvent:
    values: dict[str, Any] = {
        "kind": "training-release",
        "split": "train",
        "samples": 100,
        "release": "a1",
        "mechanism": "rounded Gaussian",
        "unit": spec.guarantee.unit_label,
        "charge": spec.charge(),
        "sample_charge": spec.sample_charge(),
    }
    return PrivacyEvent(**(values | changes))


def labels(**changes: Any) -> PrivacyEvent:
    values: dict[str, Any] = {
        "kind": "labels",
        "mechanism": "randomised response",
        "charge": Charge.pure(0.5),
        "sample_charge": Charge.pure(0.5),
        "unit": "sample",
    }
    return event(**(values | changes))


def test_a_release_just_fits_a_budget_of_its_own_epsilon() -> None:
    ledger = PrivacyLedger(PrivacyBudget(2.0, 1e-5))
    for _ in range(5):
        ledger.authorise_event(event(samples=20))
    assert ledger.entries == (event(samples=100),)
    assert ledger.spent_epsilon(1e-5)[0] <= 2.0


def test_a_second_release_stops_before_the_send_and_changes_nothing() -> None:
    ledger = PrivacyLedger(PrivacyBudget(2.5, 1e-5))
    ledger.authorise_event(event())
    before = ledger.to_dict()
    with pytest.raises(BudgetExceededError) as error:
        ledger.authorise_event(event(release="b2", samples=7))
    assert ledger.to_dict() == before
    line = error.value.line()
    assert "epsilon 2.95" in line
    assert "spent so far 2," in line
    assert "budget 2.5 at delta 1e-05 per sample (replace-one)" in line
    assert "7 samples" in line
    assert "train" in line
    assert error.value.exit_code == ExitCode.BUDGET
    ledger.authorise_event(event(release="b2", samples=0))
    assert ledger.to_dict() == before


def test_splits_are_different_samples() -> None:
    ledger = PrivacyLedger(PrivacyBudget(2.0, 1e-5))
    ledger.authorise_event(event())
    ledger.authorise_event(event(kind="validation-release", split="validation", release="v"))
    assert ledger.spent_epsilon(1e-5)[0] <= 2.0
    with pytest.raises(BudgetExceededError):
        ledger.authorise_event(event(kind="prediction", split="validation", release="p"))


def test_front_and_labels_compose_with_the_release() -> None:
    ledger = PrivacyLedger(PrivacyBudget(2.6, 1e-5))
    ledger.authorise_event(event())
    ledger.authorise_event(labels())
    assert ledger.spent_epsilon(1e-5)[0] == pytest.approx(2.5)
    front = Charge.approximate(1.0, 1e-6, "zero-out")
    training = event(
        kind="front-training", charge=front, sample_charge=front, mechanism="DP-SGD", release="f"
    )
    with pytest.raises(BudgetExceededError, match="epsilon 4"):
        ledger.authorise_event(training)


def test_labels_outside_the_guarantee_are_noted_and_cost_nothing() -> None:
    ledger = PrivacyLedger(PrivacyBudget(2.0, 1e-5))
    ledger.authorise_event(labels(charge=None, sample_charge=None, mechanism="label map"))
    ledger.authorise_event(event())
    assert len(ledger.entries) == 2
    with pytest.raises(ValueError, match="needs a charge"):
        event(charge=None, sample_charge=None)


def test_privacy_off_needs_a_run_without_a_budget() -> None:
    off = event(charge=Charge.unbounded(), sample_charge=Charge.unbounded(), mechanism="none")
    free = PrivacyLedger()
    free.authorise_event(off)
    assert free.spent_epsilon(1e-5)[0] == math.inf
    strict = PrivacyLedger(PrivacyBudget(1e6, 1e-5))
    with pytest.raises(BudgetExceededError, match="epsilon inf"):
        strict.authorise_event(off)
    assert strict.entries == ()


def test_a_budget_per_sample_sees_through_the_element_unit() -> None:
    narrow = PrivacyLedger(PrivacyBudget(2.5, 1e-5))
    with pytest.raises(BudgetExceededError, match="epsilon 24"):
        narrow.authorise_event(event(ELEMENT))
    named = PrivacyLedger(PrivacyBudget(2.5, 1e-5, unit="element"))
    named.authorise_event(event(ELEMENT))
    named.authorise_event(labels())
    assert named.spent_epsilon(1e-5, unit="element")[0] == pytest.approx(2.5)
    assert named.spent_epsilon(1e-5)[0] > 24


def test_a_budget_of_another_unit_is_refused() -> None:
    ledger = PrivacyLedger(PrivacyBudget(2.0, 1e-5, unit="metric(D0=0.1)"))
    with pytest.raises(UsageError, match="per element"):
        ledger.authorise_event(event(ELEMENT))
    assert ledger.entries == ()


def test_a_release_cannot_change_its_terms() -> None:
    ledger = PrivacyLedger()
    ledger.authorise_event(event())
    with pytest.raises(ValueError, match="other terms"):
        ledger.authorise_event(event(mechanism="something else"))


def test_ledger_survives_json_to_the_bit() -> None:
    ledger = PrivacyLedger(PrivacyBudget(2.9, 1e-5, "element", "zero-out"))
    ledger.authorise_event(event(ELEMENT))
    ledger.authorise_event(labels())
    ledger.authorise_event(labels(charge=None, sample_charge=None, release="map"))
    again = PrivacyLedger.from_dict(json.loads(json.dumps(ledger.to_dict())))
    assert again.to_dict() == ledger.to_dict()
    assert again.budget == ledger.budget
    assert again.entries == ledger.entries
    empty = PrivacyLedger.from_dict(json.loads(json.dumps(PrivacyLedger().to_dict())))
    assert empty.budget is None


def test_no_budget_without_numbers() -> None:
    for epsilon, delta in ((-1.0, 1e-5), (math.nan, 1e-5), (1.0, 0.0)):
        with pytest.raises(UsageError, match="no budget"):
            PrivacyBudget(epsilon, delta)
