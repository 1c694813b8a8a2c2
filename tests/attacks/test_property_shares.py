"""Sums tell how many samples have a property that shows in rows, and not of one that does not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from steal_cases import K, delivered, pictures, trainer, truth
from summed_cases import MODES, exact_release, holder, spec_of

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, LabelledImages
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.property_shares import score_property_games, score_property_shares
from clicooper_hpc.attacks.toolbox.image_properties import image_properties
from clicooper_hpc.attacks.toolbox.summed_parts import shared_kernel, shared_with_release
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows, summed_rows
from clicooper_hpc.attacks.toolbox.summed_witness import fit_summed_witness
from clicooper_hpc.config.owner_sections import ReleaseMode

AUX, TEST = pictures(600, 3), pictures(50, 2)
RED = "dominant colour channel 0"
# Standard error of an AUC of 32 against 32 (Hanley and McNeil 1982, without a difference).
AUC_ERROR = math.sqrt(65 / (12 * 32 * 32))


def mostly_red(count: int, share: float) -> LabelledImages:
    """Samples of which ``share`` are redder than blue or green."""
    many = pictures(4 * count, 1)
    colour = next(one for one in image_properties(AUX.images) if one.values == 3)
    red = colour.of(many.images) == 0
    first = round(count * share)
    chosen = np.concatenate([np.flatnonzero(red)[:first], np.flatnonzero(~red)[: count - first]])
    return LabelledImages(many.images[chosen], many.classes[chosen])


def found(
    score: object, train: LabelledImages, view: AdversaryView, variant: str
) -> list[AttackResult]:
    assert callable(score)
    given = truth(train, TEST, delivered(train, 0))
    results: tuple[AttackResult, ...] = score(view, AuxiliaryData(AUX, None), given, 0, 1.0)
    return [one for one in results if one.variant == variant]


@pytest.mark.parametrize("mode", MODES)
def test_products_of_parts_are_those_of_the_release(mode: ReleaseMode) -> None:
    rng = np.random.default_rng(0)
    first, second = (LabelledRows(rng.normal(0, 1, (n, 5)), rng.integers(0, K, n)) for n in (7, 9))
    release = exact_release(first.rows, first.classes, K, mode)
    kernel = shared_kernel(first, second, release)
    assert np.allclose(kernel.sum(axis=0), shared_with_release(release, second))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("share", [0.1, 0.8])
def test_the_share_of_a_colour_is_read_off_the_sums(mode: ReleaseMode, share: float) -> None:
    train = mostly_red(800, share)
    for epsilon in (None, 4.0):
        view = holder(train, epsilon, mode=mode)
        (one,) = found(score_property_shares, train, view, f"share of samples, {RED}")
        # A third of the attacker's own images are red; a share is told to about three percent
        # points (standard error), since its 300 images kept for means and 800 samples are few.
        assert one.value < (4 * 3) ** 2 < 300 < one.baseline


@pytest.mark.parametrize("mode", MODES)
def test_less_noise_never_makes_the_statistic_worse(mode: ReleaseMode) -> None:
    given = truth(AUX, TEST, delivered(AUX, 0))
    rows = summed_rows(holder(AUX, None, mode=mode), AUX)
    colour = next(one for one in image_properties(given.train.images) if one.values == 3)
    red = colour.of(AUX.images) == 0
    errors = []
    for epsilon in (None, 4.0, 0.1):
        held = holder(AUX, epsilon, mode=mode).held
        assert held is not None
        witness = fit_summed_witness(rows, red, held.released, 800)
        assert witness is not None
        errors.append(witness.error_of_share(800))
    # Without noise there are more numbers than images to tell what samples vary in.
    assert errors[0] < 0.035
    assert errors == sorted(errors)


def test_much_noise_leaves_the_share_of_ones_own_images() -> None:
    train = mostly_red(60, 0.9)
    view = holder(train, 0.05, mode="sums")
    (one,) = found(score_property_shares, train, view, f"share of samples, {RED}")
    assert one.value > 0.5 * one.baseline > 500


@pytest.mark.parametrize("mode", MODES)
def test_two_rates_are_told_apart_without_noise_and_not_with_very_much(mode: ReleaseMode) -> None:
    train = pictures(1200, 1)
    off, strict = (
        found(score_property_games, train, holder(train, epsilon, mode=mode), f"two rates, {RED}")
        for epsilon in (None, 0.01)
    )
    far, near = off
    assert "55 % of samples against 45 %" in far.metric
    assert far.value > 0.95 > near.value
    for one in strict:
        # 64 releases are few: of eight such figures one would be above a 95 % interval too often.
        assert abs(one.value - 0.5) < 4 * AUC_ERROR < 0.3
        assert one.ceiling < 0.6


def test_the_ceiling_is_that_of_as_many_samples_as_differ() -> None:
    train = pictures(300, 1)
    view = holder(train, 0.05, mode="sums")
    _, near = found(score_property_games, train, view, "two rates, brightness above median")
    moved = int(near.note.split("; ")[1].split(" ")[0])
    # A percent of the nearly 300 samples that an even half can be drawn of.
    assert moved == 3
    mu = spec_of(0.05, mode="sums").mu
    assert near.ceiling == pytest.approx(0.5 + moved * mu / np.sqrt(4 * np.pi), abs=1e-3)


def test_a_property_that_shows_in_no_row_is_not_told() -> None:
    view = holder(AUX, None, mode="sums")
    assert view.held is not None
    rng = np.random.default_rng(0)
    has = rng.random(len(AUX)) < 0.5
    witness = fit_summed_witness(summed_rows(view, AUX), has, view.held.exact, 800)
    assert witness is not None
    train = pictures(800, 5)
    there = holder(train, None, mode="sums").held
    assert there is not None
    # Drawn back to what is expected, from which nothing tells it apart.
    assert abs(witness.share_of(there.exact, 0.5) - 0.5) < 0.25
    added = witness.of_samples(summed_rows(view, train), there.exact)
    assert witness.of_release(there.exact) == pytest.approx(added.sum())
    one = np.zeros(len(AUX), dtype=np.bool_)
    assert fit_summed_witness(summed_rows(view, AUX), one, view.held.exact, 800) is None


def test_whoever_holds_neither_sums_nor_public_rows_is_told_nothing() -> None:
    train = pictures(60, 1)
    late = replace(trainer(train, 0.0), release="sums", front=None)
    for score in (score_property_shares, score_property_games):
        assert found(score, train, late, f"share of samples, {RED}") == []
