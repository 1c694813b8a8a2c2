"""Names of public rows, and the sharpness they were chosen at, give away the sums behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from steal_cases import K, mechanism, pictures, trainer
from summed_cases import exact_release, spec_of

from clicooper_hpc.attacks.harness.adversary import AdversaryView, AuxiliaryData, LabelledImages
from clicooper_hpc.attacks.harness.summed_release import SummedRelease
from clicooper_hpc.attacks.membership.summed_membership import reference_membership_scores
from clicooper_hpc.attacks.toolbox.named_rows import (
    named_release,
    public_labelled_rows,
    read_named_classes,
    released_behind_names,
)
from clicooper_hpc.attacks.toolbox.summed_rows import LabelledRows
from clicooper_hpc.config.owner_sections import ReleaseMode
from clicooper_hpc.fronts.private_lda import fit_private_lda
from clicooper_hpc.fronts.recolouring import fit_recolouring
from clicooper_hpc.owner.moment_model import MomentModel, choose_names, fit_moment_model
from clicooper_hpc.owner.synthetic_rows import mixed_rows
from clicooper_hpc.privacy.moments import Moments

WIDTH, SAMPLES = 16, 200


def overlapping(count: int, seed: int) -> LabelledRows:
    """Rows of norm 1 of K classes that overlap: names of some are anybody's guess."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, K, count)
    means = np.random.default_rng(5).normal(0, 0.35, (K, WIDTH))
    rows = means[classes] + rng.normal(0, 1, (count, WIDTH)) * np.linspace(1.5, 0.5, WIDTH) + 0.5
    return LabelledRows(rows / np.linalg.norm(rows, axis=1, keepdims=True), classes)


PRIVATE, PUBLIC, OTHERS = overlapping(SAMPLES, 1), overlapping(1200, 2), overlapping(2000, 3)


def named(
    mode: ReleaseMode, sharpness: float, sigma: float, mixes: int = 0
) -> tuple[AdversaryView, SummedRelease]:
    """Trainer 1's view of rows that the owner made and named, and the noised sums behind them."""
    rng = np.random.default_rng(9)
    exact = exact_release(PRIVATE.rows, PRIVATE.classes, K, mode)
    sums = exact.sums + rng.normal(0, sigma, exact.sums.shape)
    each = SAMPLES / K
    if exact.second is not None and exact.sizes is not None:
        noise = np.triu(rng.normal(0, sigma, exact.second.shape))
        second = exact.second + noise + np.triu(noise, 1).T
        sizes = exact.sizes + rng.normal(0, sigma * np.sqrt(2), K)
        moments = Moments(sums, second, sizes, SAMPLES, sigma)
        map_ = fit_recolouring(PUBLIC.rows, moments)
        rows = (PUBLIC.rows - map_.offset.numpy()) @ map_.matrix.numpy()
        model = fit_moment_model(rows, moments)
    else:
        scores = fit_private_lda(
            sums / each, PUBLIC.rows, PUBLIC.classes, noise=sigma / each, samples=each
        )
        matrix = scores.matrix.numpy()
        model = MomentModel(matrix, scores.bias.numpy() - scores.offset.numpy() @ matrix)
        rows = PUBLIC.rows - PUBLIC.rows.mean(axis=0) + sums.sum(axis=0) / SAMPLES
    table, names, parts = rows.astype(np.float32), [], []
    for mix in range(1 + mixes):
        ids = np.arange(len(table)) + mix * len(table)
        part = mixed_rows(table, rows.mean(axis=0), ids)
        wide = part.astype(np.float64)
        names.append(choose_names(wide, model.class_probabilities(wide, sharpness=sharpness)))
        parts.append(part)
    spec = replace(spec_of(2.0, WIDTH, mode), sigma=sigma)
    view = replace(
        trainer(pictures(4, 1), 0.0),
        rows=np.concatenate(parts),
        sub_labels=np.concatenate(names).astype(np.int32),
        sub_label_count=K,
        release=mode,
        samples=SAMPLES,
        mixes=mixes,
        sharpness=sharpness,
        mechanism=replace(mechanism(0.0), spec=spec),
    )
    return view, replace(exact, sums=sums)


def error(found: SummedRelease | None, true: SummedRelease) -> float:
    assert found is not None
    return float(np.sqrt(np.square(found.sums - true.sums).mean()))


def auc(found: SummedRelease | None) -> float:
    """How well members are told from others with sums by name, whose order labels undo."""
    assert found is not None
    known = OTHERS.take(np.arange(1000))
    asked = OTHERS.take(np.arange(1000, 2000))
    read = read_named_classes(found, known)
    member, other = (
        reference_membership_scores(read, one, known.rows, known.classes)
        for one in (PRIVATE, asked)
    )
    ranks = rankdata(np.concatenate([member, other]))[: len(member)]
    above = ranks.sum() - len(member) * (len(member) + 1) / 2
    return float(above / (len(member) * len(other)))


def test_names_of_the_jobs_sharpness_give_away_the_sums() -> None:
    """Also the noise in them: that is what was released."""
    for sharpness, sigma in ((1.0, 2.0), (4.0, 0.2)):
        view, true = named("moments", sharpness, sigma)
        found = released_behind_names(view, PUBLIC)
        assert error(found, true) < 0.6 * error(named_release(view), true)


def test_sharpness_4_taken_for_1_finds_less() -> None:
    view, true = named("moments", 4.0, 0.05)
    found = released_behind_names(view, PUBLIC)
    blind = released_behind_names(replace(view, sharpness=1.0), PUBLIC)
    assert error(found, true) < 0.3 * error(blind, true)
    assert auc(found) > auc(blind) + 0.05
    # Nearly as much as whoever held the sums.
    assert auc(found) > auc(replace(true, sigma=0.05)) - 0.1


def test_a_labelled_row_of_each_class_undoes_the_order_of_names() -> None:
    order = np.array([2, 0, 3, 1])
    true = exact_release(PRIVATE.rows, PRIVATE.classes, K, "moments")
    assert true.sizes is not None
    shuffled = replace(true, sums=true.sums[order], sizes=true.sizes[order])
    read = read_named_classes(shuffled, OTHERS)
    assert read.sizes is not None
    assert np.array_equal(read.sums, true.sums)
    assert np.array_equal(read.sizes, true.sizes)


def test_names_say_nothing_without_what_they_were_made_with() -> None:
    view, _ = named("sums", 1.0, 1.0)
    assert released_behind_names(view, None) is None
    assert released_behind_names(replace(view, sub_labels=0 * view.sub_labels), PUBLIC) is None


def test_public_rows_are_those_of_the_run_where_the_images_are() -> None:
    images = pictures(80, 4)

    def rows_of(view: AdversaryView, moved: float) -> NDArray[np.float32]:
        assert view.front is not None
        return np.asarray(view.front(images.images) + np.float32(moved), dtype=np.float32)

    view = replace(trainer(images, 0.0), release="sums")
    moved = replace(view, rows=rows_of(view, 0.25))
    known = AuxiliaryData(pictures(5, 1), images)
    found = public_labelled_rows(moved, known)
    assert found is not None
    assert np.allclose(found.rows, moved.rows)
    # As many images of another data set are not taken for them.
    other = LabelledImages(images.images[::-1].copy(), images.classes)
    found = public_labelled_rows(moved, AuxiliaryData(known.same, other))
    assert found is not None
    assert np.allclose(found.rows, rows_of(view, 0.0)[::-1])
    assert public_labelled_rows(moved, AuxiliaryData(known.same, None)) is None
