"""The audit stays below a true claim, comes near it, and catches every planted bug."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from steal_cases import pictures, trainer

from clicooper_hpc.attacks.dp_audit.dp_audit_attack import (
    DP_AUDIT,
    dp_audit_bounds,
    dp_audit_front,
    dp_audit_release,
)
from clicooper_hpc.attacks.dp_audit.epsilon_bound import (
    EpsilonBound,
    ReleaseFunction,
    epsilon_lower_bound,
)
from clicooper_hpc.attacks.dp_audit.noise_check import (
    NoiseCheck,
    check_batch_mates,
    check_noise,
    check_noise_correlation,
)
from clicooper_hpc.attacks.dp_audit.worst_case_rows import add_batch_mates, worst_case_rows
from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
)
from clicooper_hpc.attacks.harness.table import (
    TableLine,
    strongest_table_lines,
    table_lines,
    table_text,
)
from clicooper_hpc.attacks.harness.tasks import attempt_task
from clicooper_hpc.digests import digest_bytes
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.noise import NoiseStream, ReleaseContext
from clicooper_hpc.privacy.release_spec import ReleaseSpec, solve_release_spec
from clicooper_hpc.privacy.row_releaser import GaussianReleaser
from clicooper_hpc.privacy.sensitivity import Guarantee

D, TRIALS, EPSILON, DELTA = 4, 30_000, 2.0, 1e-5
SOURCE = digest_bytes("test", b"dp audit")
REPLACE = Guarantee("sample", "replace-one", 1.0, D, EPSILON, DELTA)
ZERO = Guarantee("sample", "zero-out", 1.0, D, EPSILON, DELTA)
ORTHANT = Guarantee("sample", "replace-one", 1.0, D, EPSILON, DELTA, non_negative=True)
ELEMENT = Guarantee("element", "replace-one", 1.0, D, EPSILON, DELTA)
ELEMENT_ZERO = Guarantee("element", "zero-out", 1.0, D, EPSILON, DELTA)
ELEMENT_POSITIVE = Guarantee("element", "replace-one", 1.0, D, EPSILON, DELTA, non_negative=True)
METRIC = Guarantee("metric", "replace-one", 1.0, D, EPSILON, DELTA, False, 0.25)


def releaser(spec: ReleaseSpec, *, seed: int = 1, split: str = "train") -> GaussianReleaser:
    context = ReleaseContext(split, SOURCE, SOURCE, spec)
    return GaussianReleaser(spec, NoiseStream(MasterKey.from_seed(seed), context))


def audited(
    release: ReleaseFunction, guarantee: Guarantee, pair: str = "boundary", trials: int = TRIALS
) -> EpsilonBound:
    first, second = worst_case_rows(guarantee)[pair]
    return epsilon_lower_bound(release, first, second, trials=trials, delta=DELTA)


@pytest.mark.parametrize(
    "guarantee",
    [REPLACE, ZERO, ORTHANT, ELEMENT, ELEMENT_ZERO, ELEMENT_POSITIVE, METRIC],
    ids=lambda guarantee: f"{guarantee.unit}-{guarantee.relation}-{guarantee.non_negative}",
)
def test_the_real_mechanism_stays_below_its_claim_and_comes_near_it(guarantee: Guarantee) -> None:
    findings = {
        one.variant: one
        for one in dp_audit_bounds(solve_release_spec(guarantee), trials=TRIALS, seed=5)
    }
    assert all(one.value <= EPSILON for one in findings.values())
    assert findings["boundary"].value > 0.7 * EPSILON
    assert all(one.ceiling == EPSILON for one in findings.values())


@pytest.mark.parametrize("epsilon", [0.5, 8.0])
def test_it_comes_near_at_other_epsilons_too(epsilon: float) -> None:
    spec = solve_release_spec(replace(REPLACE, epsilon=epsilon))
    bound = audited(dp_audit_release(releaser(spec)), REPLACE)
    assert (0.5 if epsilon < 1 else 0.9) * epsilon < bound.epsilon <= epsilon


def test_without_a_gaussian_curve_the_bound_is_lower_but_not_nothing() -> None:
    bound = audited(dp_audit_release(releaser(solve_release_spec(REPLACE))), REPLACE)
    assert 0.3 < bound.epsilon_direct < bound.epsilon


def test_equal_inputs_prove_nothing() -> None:
    row = worst_case_rows(REPLACE)["boundary"][0]
    bound = epsilon_lower_bound(
        dp_audit_release(releaser(solve_release_spec(REPLACE))),
        row,
        row,
        trials=TRIALS,
        delta=DELTA,
    )
    assert bound.mu == 0
    assert bound.epsilon == bound.epsilon_direct == 0


def test_batch_mates_of_the_real_mechanism_add_nothing() -> None:
    first, second = add_batch_mates(worst_case_rows(REPLACE)["boundary"], np.zeros((3, D)))
    bound = epsilon_lower_bound(
        dp_audit_release(releaser(solve_release_spec(REPLACE))),
        first,
        second,
        trials=TRIALS,
        delta=DELTA,
    )
    assert 0.7 * EPSILON < bound.epsilon <= EPSILON


def test_the_bound_holds_at_its_confidence() -> None:
    """At 80 % confidence about one audit in five may be too high; far fewer are, none is far."""
    rng = np.random.default_rng(0)

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        noised = rows + rng.normal(size=(count, *rows.shape))
        return noised.astype(np.float32)

    mus = [
        epsilon_lower_bound(
            release, np.zeros((1, 1)), np.ones((1, 1)), trials=2000, delta=DELTA, confidence=0.8
        ).mu
        for _ in range(80)
    ]
    assert np.mean(np.array(mus) > 1.0) < 0.2
    assert np.median(mus) > 0.8


# Planted bugs


def test_noise_for_c_where_2c_is_needed_is_caught() -> None:
    bound = audited(dp_audit_release(releaser(solve_release_spec(ZERO))), REPLACE)
    assert bound.epsilon > 1.5 * EPSILON


def test_orthant_noise_on_signed_rows_is_caught() -> None:
    """The non-negative sensitivity used where nothing removes the signs."""
    spec = replace(solve_release_spec(ORTHANT), guarantee=replace(ORTHANT, non_negative=False))
    assert audited(dp_audit_release(releaser(spec)), REPLACE).epsilon > 1.2 * EPSILON


def test_a_missing_clip_is_caught() -> None:
    sigma = solve_release_spec(REPLACE).sigma
    rng = np.random.default_rng(0)

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        noised = rows + rng.normal(0, sigma, (count, *rows.shape))
        return noised.astype(np.float32)

    assert audited(release, REPLACE, "boundary").epsilon <= EPSILON
    assert audited(release, REPLACE, "outside").epsilon > 2 * EPSILON


def test_a_clip_of_coordinates_instead_of_rows_is_caught() -> None:
    sigma = solve_release_spec(REPLACE).sigma
    rng = np.random.default_rng(0)

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        noised = np.clip(rows, -1, 1) + rng.normal(0, sigma, (count, *rows.shape))
        return noised.astype(np.float32)

    first = np.full((1, D), 8.0)
    bound = epsilon_lower_bound(release, first, -first, trials=TRIALS, delta=DELTA)
    assert bound.epsilon > 1.5 * EPSILON


def test_one_noise_for_all_rows_of_a_batch_is_caught() -> None:
    """Rows 1 and 2 share their noise, so their difference has none."""
    made = releaser(solve_release_spec(REPLACE))

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        ids = np.repeat(np.arange(count), len(rows))
        return made.release_rows(np.tile(rows, (count, 1)), ids).reshape(count, *rows.shape)

    first, second = add_batch_mates(worst_case_rows(REPLACE)["boundary"], np.zeros((1, D)))
    bound = epsilon_lower_bound(release, first, second, trials=10_000, delta=DELTA)
    assert bound.epsilon > 10 * EPSILON


def test_fresh_noise_in_every_epoch_is_caught() -> None:
    """Two releases of one sample, each with noise of its own, cost sqrt(2) mu."""
    once = dp_audit_release(releaser(solve_release_spec(REPLACE)))

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        return once(rows, 2 * count).reshape(count, 2 * len(rows), D)

    assert audited(release, REPLACE).epsilon > 1.2 * EPSILON


def test_a_seed_reused_for_two_releases_is_caught() -> None:
    spec = solve_release_spec(REPLACE)
    ids, rows = np.arange(2000), np.zeros((2000, D))
    train = releaser(spec).release_rows(rows, ids).astype(np.float64)
    other = releaser(spec, split="validation").release_rows(rows, ids).astype(np.float64)
    assert abs(check_noise_correlation(train, other)) < 6
    # The same seed under another epsilon: the same noise, only scaled.
    again = np.rint(train * 0.54 / spec.grid) * spec.grid
    assert check_noise_correlation(train, again) > 50


def test_batch_normalisation_in_the_front_is_caught() -> None:
    """With statistics of the batch one sample moves its mates: more than 2 C in total."""
    made = dp_audit_release(releaser(solve_release_spec(REPLACE)))

    def front(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        normal: NDArray[np.float64] = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-6)
        return normal

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        return made(front(rows), count)

    first, second = add_batch_mates(worst_case_rows(REPLACE)["outside"], np.zeros((7, D)))
    bound = epsilon_lower_bound(release, first, second, trials=TRIALS, delta=DELTA)
    assert bound.epsilon > 1.2 * EPSILON


def test_batch_normalisation_is_seen_in_the_bits() -> None:
    inputs = np.random.default_rng(0).normal(size=(8, D)).astype(np.float32)
    assert check_batch_mates(lambda rows: rows - rows.mean(axis=0), inputs)
    assert not check_batch_mates(lambda rows: np.maximum(2 * rows, 0), inputs)


def noise_of(release: ReleaseFunction, spec: ReleaseSpec) -> NoiseCheck:
    released = release(np.zeros((1, D)), TRIALS)[:, 0]
    return check_noise(released, np.zeros(D), sigma=spec.sigma, grid=spec.grid)


@pytest.mark.parametrize("guarantee", [REPLACE, ELEMENT, METRIC], ids=lambda g: g.unit)
def test_real_noise_has_no_fault(guarantee: Guarantee) -> None:
    spec = solve_release_spec(guarantee)
    check = noise_of(dp_audit_release(releaser(spec)), spec)
    assert check.faults == ()
    assert check.off_grid == 0
    assert check.distinct == pytest.approx(check.expected_distinct, rel=0.03)


def test_floating_point_noise_is_caught() -> None:
    spec, rng = solve_release_spec(REPLACE), np.random.default_rng(0)
    check = noise_of(
        lambda rows, count: rng.normal(0, spec.sigma, (count, 1, D)).astype(np.float32), spec
    )
    assert check.faults == ("values off the grid",)


def test_noise_of_few_bits_is_caught() -> None:
    """Half precision leaves 11 bits: on the grid near zero and coarser than it far out."""
    spec, rng = solve_release_spec(REPLACE), np.random.default_rng(0)

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        steps = np.rint(rng.normal(0, spec.sigma_over_grid, (count, 1, D)))
        half = steps.astype(np.float16).astype(np.float64)
        return (np.rint(half) * spec.grid).astype(np.float32)

    assert "too few different values" in noise_of(release, spec).faults


def test_a_small_table_of_noise_is_caught() -> None:
    """An 8-bit uniform word inverted: 256 different values of just the right variance."""
    spec, rng = solve_release_spec(REPLACE), np.random.default_rng(0)
    table = np.rint(rng.normal(0, spec.sigma_over_grid, 256))

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        words = rng.integers(0, 256, (count, 1, D))
        return (table[words] * spec.grid).astype(np.float32)

    check = noise_of(release, spec)
    assert check.distinct <= 256
    assert "too few different values" in check.faults


def test_repeated_noise_is_caught() -> None:
    """A generator seeded with 16 bits starts again after at most 65,536 rows."""
    spec = solve_release_spec(REPLACE)
    made = releaser(spec)

    def release(rows: NDArray[np.float64], count: int) -> NDArray[np.float32]:
        ids = np.random.default_rng(0).integers(0, 2**16, count)
        return made.release_rows(np.tile(rows, (count, 1)), ids)[:, None]

    assert noise_of(release, spec).faults[-1] == "repeated noise"


def test_single_numbers_repeat_as_often_as_independent_noise_does() -> None:
    # Likely values make many equal pairs at once: counted as independent, the second of
    # these samples would have too many of them.
    scale = 1000.0
    for seed in range(3):
        drawn = np.rint(np.random.default_rng(seed).normal(0, scale, (300_000, 1)))
        found = check_noise(drawn.astype(np.float32), np.zeros(1), sigma=scale, grid=1.0)
        assert found.faults == ()
    twice = np.concatenate([drawn[:150_000], drawn[:150_000]]).astype(np.float32)
    found = check_noise(twice, np.zeros(1), sigma=scale, grid=1.0)
    assert found.faults == ("repeated noise",)


def test_noise_of_another_width_is_caught() -> None:
    spec, other = solve_release_spec(REPLACE), solve_release_spec(replace(REPLACE, epsilon=2.1))
    check = noise_of(dp_audit_release(releaser(other)), spec)
    assert "not the promised distribution" in check.faults


def test_too_few_releases_are_refused() -> None:
    first, second = worst_case_rows(REPLACE)["boundary"]
    with pytest.raises(ValueError, match="too few"):
        epsilon_lower_bound(
            dp_audit_release(releaser(solve_release_spec(REPLACE))),
            first,
            second,
            trials=40,
            delta=DELTA,
        )


# The audit as an attack on a run


def audited_view(spec: ReleaseSpec | None) -> AdversaryView:
    """Trainer 1's view under the mechanism ``spec``."""
    view = trainer(pictures(8, 0), 1.0)
    return replace(view, mechanism=replace(view.mechanism, spec=spec))


def audit_lines(spec: ReleaseSpec, scale: float = 0.2) -> dict[str, TableLine]:
    view, aux = audited_view(spec), AuxiliaryData(pictures(8, 1), None)
    truth = GroundTruth(pictures(8, 0), pictures(8, 2), 4, np.zeros(12, np.int64), np.zeros_like)
    outcome = attempt_task(DP_AUDIT, view, aux, truth, seed=0, scale=scale)
    return {line.variant: line for line in table_lines(outcome.results)}


def test_the_attack_states_unit_relation_claim_and_no_fault() -> None:
    lines = audit_lines(solve_release_spec(REPLACE))
    assert set(lines) == {
        *("boundary", "diagonal", "outside", "boundary, batch mates"),
        *("noise", "front"),
    }
    boundary = lines["boundary"]
    assert boundary.metric == "epsilon (sample, replace-one) at delta 1e-05, 99% lower bound"
    assert 0.6 * EPSILON < boundary.value <= boundary.ceiling == EPSILON
    assert not any(line.above_ceiling for line in lines.values())
    assert lines["noise"].value == lines["front"].value == 0
    assert "!" not in table_text(tuple(lines.values()))


def test_too_little_noise_in_a_run_is_shown_as_a_bug() -> None:
    """The run's mechanism has noise for C where its claim needs it for 2 C."""
    lines = audit_lines(replace(solve_release_spec(ZERO), guarantee=REPLACE))
    assert lines["boundary"].above_ceiling
    text = table_text(strongest_table_lines(tuple(lines.values())))
    assert "!2.0000" in text
    assert "the mechanism has a bug" in text


def test_wide_rows_are_audited_along_a_few_directions() -> None:
    wide = replace(REPLACE, dimension=32)
    for guarantee in (wide, replace(wide, unit="element")):
        found = {
            one.variant: one.value
            for one in dp_audit_bounds(solve_release_spec(guarantee), trials=4000)
        }
        assert all(0.2 * EPSILON < value <= EPSILON for value in found.values())
    bug = replace(solve_release_spec(replace(ZERO, dimension=32)), guarantee=wide)
    found = {one.variant: one.value for one in dp_audit_bounds(bug, trials=4000)}
    assert all(value > EPSILON for value in found.values())


def test_seeds_have_noise_of_their_own_and_the_same_figures_again() -> None:
    first, again, other = (
        [one.value for one in dp_audit_bounds(solve_release_spec(REPLACE), trials=2000, seed=seed)]
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_front_that_looks_at_the_batch_is_a_fault() -> None:
    shape = (3, 6, 6)
    found = dp_audit_front(lambda images: images - images.mean(axis=0), shape)
    assert found.value == found.low == 1 > found.ceiling
    assert "batch mates" in found.note
    assert dp_audit_front(lambda images: 2 * images, shape).value == 0


def test_without_privacy_or_at_another_party_it_does_not_apply() -> None:
    assert "privacy is off" in str(DP_AUDIT.applies(audited_view(None)))
    view = audited_view(solve_release_spec(REPLACE))
    assert DP_AUDIT.applies(view) is None
    second = replace(view, adversary=Adversary("trainer 2", (2,)))
    assert "as trainer 1" in str(DP_AUDIT.applies(second))
