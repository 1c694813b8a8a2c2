"""The decoder must see through an undefended front, and nothing through enormous noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
    PublicMechanism,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.inversion.decoder_attack import DECODER, guess_decoder_pictures

pytest.importorskip("skimage")
pytestmark = pytest.mark.usefixtures("one_thread")

SCALE = 0.5


def wide_front(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give fixed random maps 12x4x4 after a ReLU: more numbers than pixels."""
    weights = torch.randn(12, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        maps = torch.conv2d(torch.from_numpy(images), weights, stride=2, padding=1).relu()
    return maps.numpy()


def flat_front(images: NDArray[np.float32]) -> NDArray[np.float32]:
    weights = np.random.default_rng(1).standard_normal((64, 48)).astype(np.float32) / 8
    return (images.reshape(len(images), 64) @ weights).astype(np.float32)


def inversion_case(
    sigma: float, *, flat: bool = False
) -> tuple[AdversaryView, AuxiliaryData, GroundTruth]:
    bunch = load_digits()
    images = (bunch.images[:, None] / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    images, classes = images[order], bunch.target[order].astype(np.int64)
    train, same = (
        LabelledImages(images[:900], classes[:900]),
        LabelledImages(images[900:], classes[900:]),
    )
    front = flat_front if flat else wide_front
    rows = front(train.images)
    noise = np.random.default_rng(2).standard_normal(rows.shape)
    rows = (rows + sigma * noise).astype(np.float32)
    radius = float(np.linalg.norm(rows.reshape(900, -1), axis=1).max())
    released = PublicMechanism("sample", "replace-one", 1.0, sigma, radius, np.inf, not flat)
    labels, groups = np.zeros(900, np.int32), np.arange(900)[:, None]
    party = Adversary("trainer 1", (1,))
    view = AdversaryView(
        party, rows, labels, groups, 10, {}, released, front, lambda values: values
    )
    truth = GroundTruth(train, same, 10, np.arange(10), lambda x: np.zeros((len(x), 10)))
    return view, AuxiliaryData(same, None), truth


def findings(sigma: float, *, flat: bool = False) -> dict[tuple[str, str], AttackResult]:
    view, aux, truth = inversion_case(sigma, flat=flat)
    outcome = DECODER.run(view, aux, truth, 0, SCALE)
    return {(finding.kind, finding.metric.split(" of ")[0]): finding for finding in outcome.results}


@pytest.mark.parametrize("flat", [False, True])
def test_an_undefended_front_is_inverted(flat: bool) -> None:
    found = findings(0.0, flat=flat)
    assert found["honest", "SSIM"].low >= 0.85
    assert found["honest", "SSIM"].value > found["honest", "SSIM"].baseline + 0.3
    assert found["honest", "retrieval top-1"].value >= 0.95
    assert found["honest", "row match top-1"].value == 1.0


def test_enormous_noise_leaves_the_mean_image() -> None:
    found = findings(1000.0)
    likeness = found["honest", "SSIM"]
    assert likeness.value == pytest.approx(likeness.baseline, abs=0.01)
    hits = found["honest", "retrieval top-10"]
    assert hits.low <= hits.chance + 0.01
    assert hits.value <= hits.chance + 0.03
    match = found["honest", "row match top-10"]
    assert match.low <= match.chance <= match.ceiling


def test_knowing_the_noise_helps() -> None:
    found = findings(1.0)
    assert found["honest", "SSIM"].low > found["honest", "SSIM"].baseline
    assert found["honest", "MSE"].high < found["paper", "MSE"].low


def test_the_same_seed_gives_the_same_pictures() -> None:
    view, aux, _ = inversion_case(1.0)
    once, again = (guess_decoder_pictures(view, aux, 3, 0.05) for _ in range(2))
    for first, second in zip(once, again, strict=True):
        np.testing.assert_array_equal(first.pictures, second.pictures)


def test_a_public_set_makes_a_second_variant() -> None:
    view, aux, truth = inversion_case(0.0)
    outcome = DECODER.run(view, AuxiliaryData(aux.same, aux.same), truth, 0, 0.01)
    assert {finding.variant for finding in outcome.results} == {
        "no noise, same and public",
        "no noise, public",
        "line-up",
    }
    assert outcome.arrays["originals"].shape == (16, 1, 8, 8)
    assert outcome.arrays["mean image"].shape == (1, 1, 8, 8)


def test_views_without_a_way_back_are_refused() -> None:
    view, _, _ = inversion_case(0.0)
    assert DECODER.applies(view) is None
    assert DECODER.applies(replace(view, front=None)) is not None
    assert DECODER.applies(replace(view, adversary=Adversary("trainer 2", (2,)))) is not None
    assert DECODER.applies(replace(view, groups=np.zeros((900, 16), np.int64))) is not None
    assert DECODER.applies(replace(view, rows=view.rows[:0])) is not None
