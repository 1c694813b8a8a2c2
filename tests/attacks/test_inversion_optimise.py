"""Optimisation must find the pictures of clean rows, and nothing in rows of noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from clicooper_hpc.attacks.harness.adversary import (
    Adversary,
    AdversaryView,
    AuxiliaryData,
    GroundTruth,
    LabelledImages,
    PublicMechanism,
)
from clicooper_hpc.attacks.harness.attack import AttackResult
from clicooper_hpc.attacks.harness.public_mechanism import differentiable_public_clip
from clicooper_hpc.attacks.inversion.optimise_attack import OPTIMISE
from clicooper_hpc.privacy.clipping import clip_rows
from clicooper_hpc.privacy.sensitivity import Guarantee, Unit

pytest.importorskip("skimage")
pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN = 900


def front_module() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.ReLU()).eval()


def inversion_case(
    sigma: float, module: nn.Module | None
) -> tuple[AdversaryView, AuxiliaryData, GroundTruth]:
    bunch = load_digits()
    images = (bunch.images[:, None] / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    images, classes = images[order], bunch.target[order].astype(np.int64)
    train = LabelledImages(images[:TRAIN], classes[:TRAIN])
    same = LabelledImages(images[TRAIN:], classes[TRAIN:])
    with torch.inference_mode():
        rows = front_module()(torch.from_numpy(train.images)).numpy()
    noise = np.random.default_rng(2).standard_normal(rows.shape)
    rows = (rows + sigma * noise).astype(np.float32)
    released = PublicMechanism("none", "replace-one", 1.0, sigma, np.inf, np.inf, True)
    labels, groups = np.zeros(TRAIN, np.int32), np.arange(TRAIN)[:, None]
    view = AdversaryView(
        Adversary("trainer 1", (1,)),
        rows,
        labels,
        groups,
        10,
        {},
        released,
        None,
        lambda values: values,
        front_module=module,
    )
    truth = GroundTruth(train, same, 10, np.arange(10), lambda x: np.zeros((len(x), 10)))
    return view, AuxiliaryData(same, None), truth


def findings(sigma: float, scale: float) -> dict[str, AttackResult]:
    view, aux, truth = inversion_case(sigma, front_module())
    outcome = OPTIMISE.run(view, aux, truth, 0, scale)
    return {finding.metric.split(" of ")[0]: finding for finding in outcome.results}


def test_clean_rows_give_the_pictures_away() -> None:
    found = findings(0.0, 0.4)
    assert found["SSIM"].low >= 0.8
    assert found["retrieval top-1"].value >= 0.95


def test_rows_of_noise_give_nothing_away() -> None:
    found = findings(1000.0, 0.3)
    assert found["SSIM"].value <= found["SSIM"].baseline + 0.02
    assert found["retrieval top-10"].low <= found["retrieval top-10"].chance


def test_without_gradients_it_does_not_apply() -> None:
    assert OPTIMISE.applies(inversion_case(0.0, None)[0]) is not None
    assert OPTIMISE.applies(inversion_case(0.0, front_module())[0]) is None


@pytest.mark.parametrize("unit", ["sample", "element"])
@pytest.mark.parametrize("non_negative", [False, True])
def test_the_clip_is_the_releases_own(unit: Unit, non_negative: bool) -> None:
    rows = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    rows[0] *= 0.1
    clean = clip_rows(rows, Guarantee(unit, "replace-one", 0.75, 6, 8.0, 1e-5, non_negative))
    released = PublicMechanism(unit, "replace-one", 0.75, 1.0, 1.0, 1.0, non_negative)
    clipped = differentiable_public_clip(torch.from_numpy(rows), released).numpy()
    np.testing.assert_allclose(clipped, clean, atol=1e-6)
