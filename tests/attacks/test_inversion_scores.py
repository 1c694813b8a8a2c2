"""SSIM, errors and retrieval on pictures whose scores are known beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    GroundTruth,
    LabelledImages,
    PublicMechanism,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.inversion.reconstruction_scores import (
    Reconstruction,
    choose_reconstruction_inputs,
    score_reconstruction,
)
from clicooper_hpc.attacks.inversion.retrieval_scores import retrieval_ceiling, retrieval_hits

pytest.importorskip("skimage")

COUNT, SHAPE = 1200, (3, 16, 16)


def mechanism(sigma: float = 1.0, radius: float = 1.0) -> PublicMechanism:
    return PublicMechanism("sample", "replace-one", 1.0, sigma, radius, math.inf, False)


def make_view() -> AdversaryView:
    order = np.random.default_rng(3).permutation(COUNT)
    rows = np.zeros((COUNT, 4), np.float32)
    labels = np.zeros(COUNT, np.int32)
    party = Adversary("trainer 1", (1,))
    return AdversaryView(
        party, rows, labels, order[:, None], 4, {}, mechanism(), None, lambda values: values
    )


def make_truth() -> GroundTruth:
    images = np.random.default_rng(4).random((COUNT, *SHAPE), dtype=np.float32)
    train = LabelledImages(images, np.zeros(COUNT, np.int64))
    return GroundTruth(train, train, 2, np.zeros(4, np.int64), lambda x: np.zeros((len(x), 4)))


def scored(pictures_of: str) -> dict[str, AttackResult]:
    view, truth = make_view(), make_truth()
    inputs = choose_reconstruction_inputs(view, 200, seed=1)
    mean = truth.train.images.mean(axis=0)
    others = np.random.default_rng(9).random((len(inputs), *SHAPE), dtype=np.float32)
    truly = truth.train.images[view.groups[inputs, 0]]
    blank = np.repeat(mean[None], len(inputs), axis=0)
    pictures = {"originals": truly, "mean": blank, "others": others}[pictures_of]
    found = score_reconstruction(
        Reconstruction(inputs, pictures, mean, others, "v", "n"),
        view,
        truth,
        attack="a",
        seed=1,
    )
    return {finding.metric: finding for finding in found}


def test_the_originals_score_one_and_are_found() -> None:
    found = scored("originals")
    assert found["SSIM"].value == pytest.approx(1.0)
    assert found["MSE"].value == 0.0
    assert found["retrieval top-1 of 1000"].value == 1.0


def test_the_mean_image_scores_its_own_baseline_and_finds_nobody() -> None:
    found = scored("mean")
    for metric in ("SSIM", "MSE", "PSNR dB", "retrieval top-1 of 1000"):
        assert found[metric].value == pytest.approx(found[metric].baseline, abs=1e-6)
    top = found["retrieval top-10 of 1000"]
    assert top.value <= 10 / 200  # ten of the candidates, whoever is asked for
    assert top.chance == 0.01


def test_random_images_score_the_chance_level() -> None:
    found = scored("others")
    assert found["SSIM"].value == pytest.approx(found["SSIM"].chance)
    assert found["SSIM"].low <= found["SSIM"].value <= found["SSIM"].high
    assert found["retrieval top-10 of 1000"].low <= 0.01


def test_equally_near_candidates_share_the_hit() -> None:
    candidates = np.zeros((8, 4), np.float32)
    hits = retrieval_hits(np.ones((2, 4), np.float32), candidates, np.array([0, 5]), top=2)
    np.testing.assert_allclose(hits, 0.25)


def test_each_sample_is_drawn_once() -> None:
    view = make_view()
    inputs = choose_reconstruction_inputs(view, COUNT * 2, seed=0)
    assert len(np.unique(view.groups[inputs, 0])) == len(inputs) == COUNT


def test_the_ceiling_lies_between_chance_and_certainty() -> None:
    assert retrieval_ceiling(mechanism(sigma=1e6), 10, 1000) == pytest.approx(0.01, abs=1e-4)
    assert retrieval_ceiling(mechanism(sigma=0.01), 10, 1000) == pytest.approx(1.0)
    assert math.isnan(retrieval_ceiling(mechanism(sigma=0.0, radius=math.inf), 10, 1000))


def test_no_attack_on_enough_noise_beats_the_ceiling() -> None:
    """A likelihood test on the rows themselves, the strongest there is, stays below it."""
    random = np.random.default_rng(0)
    clean = random.standard_normal((1000, 32))
    clean = (clean / np.linalg.norm(clean, axis=1, keepdims=True)).astype(np.float32)
    sigma = 0.5
    rows: NDArray[np.float32] = (clean + sigma * random.standard_normal(clean.shape)).astype("f4")
    hits = retrieval_hits(rows, clean, np.arange(1000), top=1).mean()
    ceiling = retrieval_ceiling(mechanism(sigma=sigma), 1, 1000)
    assert 0.001 < hits < ceiling + 3 * math.sqrt(ceiling / 1000)
