"""The audit of sums stays below a true claim, comes near it, and catches every planted bug."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from steal_cases import delivered, outsider, pictures, trainer, truth
from summed_cases import MODES, exact_release, holder, spec_of

from clicooper_hpc.attacks.dp_audit.dp_audit_attack import DP_AUDIT
from clicooper_hpc.attacks.dp_audit.epsilon_bound import EpsilonBound, epsilon_lower_bound
from clicooper_hpc.attacks.dp_audit.summed_audit import (
    summed_audit_bounds,
    summed_audit_noise,
    summed_audit_release,
)
from clicooper_hpc.attacks.dp_audit.worst_case_samples import SAMPLE_NUMBERS, worst_case_samples
from clicooper_hpc.attacks.harness.adversary import AuxiliaryData
from clicooper_hpc.attacks.harness.summed_release import RELEASE_HOLDERS, SummedRelease
from clicooper_hpc.attacks.harness.table import table_lines
from clicooper_hpc.attacks.toolbox import summed_mechanism as sums_module
from clicooper_hpc.attacks.toolbox.summed_mechanism import SummedMechanism, recorded_mechanism
from clicooper_hpc.config.owner_sections import ReleaseMode
from clicooper_hpc.privacy import moments as mechanism_module
from clicooper_hpc.privacy.class_sums import noised_class_sums
from clicooper_hpc.privacy.noise import NoiseStream
from clicooper_hpc.privacy.release_spec import ReleaseSpec

CLAIM = 8.0
SPEC = spec_of(CLAIM)
SPECS = {mode: spec_of(CLAIM, mode=mode) for mode in MODES}
REALS = {mode: recorded_mechanism(mode, SPECS[mode], "test", 3) for mode in MODES}
REAL = REALS["moments"]
Block = Callable[..., NDArray[np.int64]]


def audited(
    mechanism: SummedMechanism, pair: str, *, trials: int = 6000, together: int = 40
) -> EpsilonBound:
    return epsilon_lower_bound(
        summed_audit_release(mechanism, together),
        *worst_case_samples()[pair],
        trials=trials,
        delta=1e-5,
    )


@pytest.mark.parametrize("mode", MODES)
def test_the_real_mechanism_stays_below_its_claim_and_comes_near_it(mode: ReleaseMode) -> None:
    results = summed_audit_bounds(REALS[mode], SPECS[mode], trials=6000, seed=3)
    found = {one.variant: one for one in results}
    assert set(found) == {
        *worst_case_samples(),
        *(f"{name}, alone" for name in ("opposite rows", "other class", "diagonal")),
    }
    assert all(one.value <= CLAIM == one.ceiling for one in found.values())
    assert found["opposite rows"].value > 0.8 * CLAIM
    # Of class sums alone a change of class moves two sums by one each.
    assert found["other class"].value > (0.8 if mode == "moments" else 0.5) * CLAIM
    assert found["changed label"].value > 0.4 * CLAIM
    assert "sample, replace-one" in found["opposite rows"].metric


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_it_comes_near_at_other_epsilons_too(epsilon: float, mode: ReleaseMode) -> None:
    mechanism = recorded_mechanism(mode, spec_of(epsilon, mode=mode), "test", 1)
    worst = "other class" if mode == "moments" else "opposite rows"
    # A number of class sums is one of few, which costs less to release often.
    bound = audited(mechanism, worst, trials=16_000 if mode == "moments" else 40_000)
    assert (0.4 if epsilon < 1 else 0.7) * epsilon < bound.epsilon <= epsilon


@pytest.mark.parametrize("mode", MODES)
def test_data_sets_released_together_are_what_each_is_alone(mode: ReleaseMode) -> None:
    """Without noise the numbers of a pair are those of its own sums, wherever it stands."""
    pair = worst_case_samples()["changed label, few mates"][0]

    def exact(
        rows: NDArray[np.float64], classes: NDArray[np.int64], count: int, data: int
    ) -> SummedRelease:
        return exact_release(rows, classes, count, mode)

    alone, together = (summed_audit_release(exact, n)(pair, 7) for n in (1, 5))
    assert alone.shape == (7, 6 + (6 + 2 if mode == "moments" else 0))
    assert np.array_equal(alone, together)
    if mode == "moments":
        assert alone[0, -2:].tolist() == [4.0, 1.0]


def test_equal_data_sets_prove_nothing() -> None:
    one = worst_case_samples()["other class"][0]
    bound = epsilon_lower_bound(summed_audit_release(REAL, 40), one, one, trials=6000, delta=1e-5)
    assert bound.epsilon == 0


@pytest.mark.parametrize("mode", MODES)
def test_the_noise_of_the_real_mechanism_has_no_fault(mode: ReleaseMode) -> None:
    for epsilon in (0.5, 8.0):
        spec = spec_of(epsilon, mode=mode)
        found = summed_audit_noise(recorded_mechanism(mode, spec, "test", 0), spec)
        assert found.value == 0 == found.ceiling, found.note


# Planted bugs


@pytest.mark.parametrize("mode", MODES)
def test_noise_for_c_where_2c_is_needed_is_caught(mode: ReleaseMode) -> None:
    spec = SPECS[mode]
    half = recorded_mechanism(mode, replace(spec, sigma=spec.sigma / 2), "test", 0)
    worst = ("opposite rows", "diagonal", "outside")
    for pair in (*worst, "other class") if mode == "moments" else worst:
        assert audited(half, pair, trials=2000).epsilon > 1.5 * CLAIM
    assert "not the promised distribution" in summed_audit_noise(half, spec).note


def test_sizes_without_noise_are_caught() -> None:
    def bug(
        rows: NDArray[np.float64], classes: NDArray[np.int64], count: int, data: int
    ) -> SummedRelease:
        sizes = np.bincount(classes, minlength=count).astype(np.float64)
        return replace(REAL(rows, classes, count, data), sizes=sizes)

    assert audited(bug, "changed label", trials=2000).epsilon > 2 * CLAIM
    # Opposite rows of one class do not show it.
    assert audited(bug, "opposite rows", trials=2000).epsilon <= CLAIM
    assert "sizes" in summed_audit_noise(bug, SPEC).note


@pytest.mark.parametrize("block", ["second moment", "sizes"])
def test_a_block_that_is_not_scaled_to_be_free_is_caught(
    monkeypatch: pytest.MonkeyPatch, block: str
) -> None:
    """Without the 1 / sqrt(2) its noise is smaller by that, and the sensitivity is sqrt(5)."""
    real: Block = mechanism_module._noise

    def less(master: Any, context: Any, name: str, sigma: float, *rest: Any) -> NDArray[np.int64]:
        narrow = sigma / math.sqrt(2) if name.startswith(block) else sigma
        return real(master, context, name, narrow, *rest)

    monkeypatch.setattr(mechanism_module, "_noise", less)
    assert audited(REAL, "other class", trials=16_000).epsilon > CLAIM
    assert audited(REAL, "opposite rows", trials=2000).epsilon <= CLAIM
    assert block in summed_audit_noise(REAL, SPEC).note


@pytest.mark.parametrize("mode", MODES)
def test_dividing_by_true_counts_is_caught(mode: ReleaseMode) -> None:
    real = REALS[mode]

    def bug(
        rows: NDArray[np.float64], classes: NDArray[np.int64], count: int, data: int
    ) -> SummedRelease:
        made = real(rows, classes, count, data)
        hot = np.eye(count)[classes]
        exact, sizes = hot.T @ rows, hot.sum(axis=0)
        # Means by true counts, at the scale of sums of as many samples as a class has on average.
        means = exact / np.maximum(sizes, 1)[:, np.newaxis] * (len(rows) / count)
        return replace(made, sums=made.sums - exact + means)

    assert audited(bug, "changed label, few mates").epsilon > CLAIM
    assert audited(real, "changed label, few mates").epsilon <= CLAIM


def test_classes_that_share_their_noise_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words for every class sum: the difference of two sums has no noise."""
    real = noised_class_sums

    def shared(sums: NDArray[np.int64], stream: NoiseStream) -> NDArray[np.float64]:
        grid = stream.context.spec.grid
        noise = real(np.zeros_like(sums), stream)[:1]
        return np.asarray(sums * grid + noise, dtype=np.float64)

    monkeypatch.setattr(sums_module, "noised_class_sums", shared)
    assert "one noise in two classes" in summed_audit_noise(REALS["sums"], SPECS["sums"]).note
    assert audited(REALS["sums"], "opposite rows", trials=1000, together=1).epsilon > 2 * CLAIM


def test_two_blocks_with_the_same_words_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Block = mechanism_module._noise

    def shared(
        master: Any, context: Any, name: str, sigma: float, grid: float, shape: tuple[int, int]
    ) -> NDArray[np.int64]:
        # The context of every block has the same words, if the parameters are the same.
        fine = real(master, context, "any block", 1.0, 2.0**-20, shape)
        return np.asarray(np.rint(fine * 2.0**-20 * sigma / grid), dtype=np.int64)

    monkeypatch.setattr(mechanism_module, "_noise", shared)
    assert (
        "one noise in two blocks: class sums, second moment" in summed_audit_noise(REAL, SPEC).note
    )
    # What is the same in both cancels: next to no noise is left.
    assert audited(REAL, "opposite rows", trials=1000, together=1).epsilon > 2 * CLAIM


@pytest.mark.parametrize("mode", MODES)
def test_one_noise_for_two_data_sets_is_caught(mode: ReleaseMode) -> None:
    def bug(
        rows: NDArray[np.float64], classes: NDArray[np.int64], count: int, data: int
    ) -> SummedRelease:
        return REALS[mode](rows, classes, count, 0)

    assert "one noise in two data sets: class sums" in summed_audit_noise(bug, SPECS[mode]).note
    # The difference of the two releases is that of the data, without noise.
    assert audited(bug, "changed label", trials=1000, together=1).epsilon > 2 * CLAIM


@pytest.mark.parametrize("mode", MODES)
def test_a_missing_clip_is_caught(mode: ReleaseMode) -> None:
    def bug(
        rows: NDArray[np.float64], classes: NDArray[np.int64], count: int, data: int
    ) -> SummedRelease:
        made, hot = REALS[mode](rows, classes, count, data), np.eye(count)[classes]
        shorter = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
        return replace(made, sums=made.sums + hot.T @ (rows - shorter))

    assert audited(bug, "outside", trials=1000).epsilon > 2 * CLAIM


# The attack


def spec_view(spec: ReleaseSpec | None, mode: ReleaseMode = "moments") -> Any:
    view = holder(pictures(40, 1), None, mode=mode)
    return replace(view, mechanism=replace(view.mechanism, spec=spec))


@pytest.mark.parametrize("mode", MODES)
def test_the_attack_states_the_claim_and_is_done_once(mode: ReleaseMode) -> None:
    train = pictures(40, 1)
    given = truth(train, train, delivered(train, 0))
    view = spec_view(SPECS[mode], mode)
    assert DP_AUDIT.applies(view) is None
    assert "privacy is off" in str(DP_AUDIT.applies(spec_view(None, mode)))
    # So little strength that the fewest releases are made that a bound can be had of.
    outcome = DP_AUDIT.run(view, AuxiliaryData(train, None), given, 0, 0.001)
    lines = {line.variant: line for line in table_lines(outcome.results)}
    assert {"other class", "noise", "front"} < set(lines)
    assert not any(line.above_ceiling for line in lines.values())
    assert lines["other class"].ceiling == CLAIM
    for other in (trainer(train, 0.0), outsider(())):
        mechanism = replace(other.mechanism, spec=SPECS[mode])
        reason = DP_AUDIT.applies(replace(other, release=mode, mechanism=mechanism))
        assert f"tested once, as {RELEASE_HOLDERS[mode]}" in str(reason)


def test_pairs_are_neighbours_under_replace_one() -> None:
    for first, second in worst_case_samples().values():
        assert first.shape == second.shape == (len(first), SAMPLE_NUMBERS + 1)
        assert np.any(first != second, axis=1).sum() == 1
