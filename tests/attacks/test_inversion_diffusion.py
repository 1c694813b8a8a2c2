"""An image prior must add to what a row says, and nothing where a row says nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

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
from clicooper_hpc.attacks.harness.attack import Attack, AttackResult
from clicooper_hpc.attacks.harness.public_mechanism import DifferentiableFront
from clicooper_hpc.attacks.inversion import diffusion_attack, gaussian_prior
from clicooper_hpc.attacks.inversion.diffusion_attack import DIFFUSION
from clicooper_hpc.attacks.inversion.diffusion_prior import DiffusionPrior, train_diffusion_prior
from clicooper_hpc.attacks.inversion.gaussian_prior import GaussianPrior, fit_gaussian_prior
from clicooper_hpc.attacks.inversion.optimise_attack import OPTIMISE
from clicooper_hpc.attacks.inversion.posterior_sampling import (
    PosteriorProblem,
    sample_posterior_pictures,
)
from clicooper_hpc.fronts.build_front import FrontBase, build_front

pytest.importorskip("skimage")

GLYPHS = Path(__file__).resolve().parents[2] / "jobs" / "fronts" / "glyphs-conv24.safetensors"
TRAIN = 900
SCALES = {DIFFUSION.name: 0.1, OPTIMISE.name: 0.4}


@pytest.fixture(autouse=True, scope="module")
def one_prior() -> Iterator[None]:
    """One thread, and one prior for all rows: it is trained on images alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    trained: dict[tuple[bytes, int, float], DiffusionPrior] = {}

    def train(images: NDArray[np.float32], seed: int, scale: float) -> DiffusionPrior:
        key = (images.tobytes(), seed, scale)
        if key not in trained:
            trained[key] = train_diffusion_prior(images, seed, scale)
        return trained[key]

    with patch.object(diffusion_attack, "train_diffusion_prior", train):
        yield
    torch.set_num_threads(before)


@functools.cache
def glyph_maps() -> DifferentiableFront:
    """The public front of the digits job, cut behind its first layers."""
    base = FrontBase("weights", (1, 8, 8), weights=GLYPHS, cut=2)
    return DifferentiableFront(build_front(base))


def inversion_case(sigma: float) -> tuple[AdversaryView, AuxiliaryData, GroundTruth]:
    """Digits released with noise of ``sigma`` times the deviation of a number of the rows."""
    bunch = load_digits()
    images = (bunch.images[:, None] / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(images))
    images, classes = images[order], bunch.target[order].astype(np.int64)
    train = LabelledImages(images[:TRAIN], classes[:TRAIN])
    same = LabelledImages(images[TRAIN:], classes[TRAIN:])
    with torch.inference_mode():
        rows = glyph_maps()(torch.from_numpy(train.images)).numpy()
    sigma *= float(rows.std())
    noise = np.random.default_rng(2).standard_normal(rows.shape)
    view = AdversaryView(
        Adversary("trainer 1", (1,)),
        (rows + sigma * noise).astype(np.float32),
        np.zeros(TRAIN, np.int32),
        np.arange(TRAIN)[:, None],
        10,
        {},
        PublicMechanism("none", "replace-one", 1.0, sigma, np.inf, np.inf, True),
        None,
        lambda values: values,
        front_module=glyph_maps(),
    )
    truth = GroundTruth(train, same, 10, np.arange(10), lambda x: np.zeros((len(x), 10)))
    return view, AuxiliaryData(same, None), truth


@functools.cache
def all_results(attack: Attack, sigma: float) -> tuple[AttackResult, ...]:
    return attack.run(*inversion_case(sigma), 0, SCALES[attack.name]).results


def findings(attack: Attack, sigma: float, variant: str = "") -> dict[str, AttackResult]:
    results = all_results(attack, sigma)
    return {one.metric.split(" of ")[0]: one for one in results if one.variant.startswith(variant)}


def test_clean_maps_give_the_pictures_away() -> None:
    without = findings(OPTIMISE, 0.0)
    for variant in ("posterior mean", "nearest sample"):
        found = findings(DIFFUSION, 0.0, variant)
        assert found["SSIM"].low >= found["SSIM"].baseline + 0.3
        assert found["SSIM"].value >= without["SSIM"].value - 0.01
        assert found["retrieval top-1"].value >= 0.95


def test_a_prior_helps_under_noise() -> None:
    found, without = findings(DIFFUSION, 5.0, "posterior mean"), findings(OPTIMISE, 5.0)
    assert found["MSE"].high < found["MSE"].baseline
    assert found["MSE"].value < 0.8 * without["MSE"].value
    assert found["SSIM"].value > without["SSIM"].value + 0.05


def test_rows_of_noise_give_nothing_away() -> None:
    found = findings(DIFFUSION, 1000.0, "posterior mean")
    assert found["SSIM"].value <= found["SSIM"].baseline + 0.02
    # Nor is it far worse: it goes back to the mean image by itself.
    assert found["MSE"].value <= 1.15 * found["MSE"].baseline
    assert found["retrieval top-10"].low <= found["retrieval top-10"].chance


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 1, 30), (3, 17, 33)])
def test_an_untrained_prior_is_the_wiener_filter(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).random((140, *shape), dtype=np.float32)
    gaussian = fit_gaussian_prior(images, 0)
    prior = DiffusionPrior(shape, gaussian)
    flat = torch.from_numpy(images.reshape(140, -1))
    levels = torch.full((140, 1), 0.3)
    basis = gaussian.basis.double().numpy()
    within = basis @ np.diag(gaussian.variances.double().numpy() - gaussian.rest) @ basis.T
    covariance = within + gaussian.rest * np.eye(len(within))
    if flat.shape[1] < 70:  # all of the images' own, where they are enough
        np.testing.assert_allclose(covariance, np.cov(flat.numpy(), rowvar=False), atol=1e-5)
    gain = covariance @ np.linalg.inv(covariance + 0.09 * np.eye(len(covariance)))
    mean = images.reshape(140, -1).mean(axis=0)
    expected = mean + (flat.numpy() - mean) @ gain.T
    with torch.no_grad():
        np.testing.assert_allclose(prior(flat, levels).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("count", [2, 3, 300, 600, 1000, 4000])
def test_white_images_have_their_variance_inside_and_outside_the_basis(count: int) -> None:
    images = np.random.default_rng(3).standard_normal((count, 3, 16, 16), dtype=np.float32)
    gaussian = fit_gaussian_prior(images, 0)
    width, kept = gaussian.basis.shape
    total = float(gaussian.variances.sum()) + (width - kept) * gaussian.rest
    # Five standard deviations of the sum of sample variances.
    assert total == pytest.approx(width, abs=5 * np.sqrt(2 * width / (count - 1)))
    # What lies outside the basis is not denied, however few the images are.
    assert gaussian.rest > 0.05


def test_a_prior_of_many_images_is_fitted_on_some_from_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gaussian_prior, "_FIT_NUMBERS", 16 * 100)
    images = np.zeros((1000, 1, 4, 4), dtype=np.float32)
    images[100:] = 1.0
    # 90 of 100 drawn are bright, give or take five standard deviations.
    assert float(fit_gaussian_prior(images, 0).mean.mean()) == pytest.approx(0.9, abs=0.15)


def test_samples_of_normal_images_behind_a_linear_front_have_the_law_known_in_closed_form() -> None:
    random = np.random.default_rng(1)
    basis, _ = np.linalg.qr(random.standard_normal((16, 16)))
    variances, sigma = np.geomspace(0.02, 0.0005, 16), 0.1
    matrix = random.standard_normal((16, 5))
    tensors = [torch.from_numpy(one.astype(np.float32)) for one in (basis, variances, matrix)]
    gaussian = GaussianPrior(torch.full((16,), 0.5), tensors[0], tensors[1], 0.0)
    prior = DiffusionPrior((1, 4, 4), gaussian).requires_grad_(False)
    problem = PosteriorProblem(prior, lambda images: images.flatten(1) @ tensors[2], sigma)
    row = (0.5 + 0.1 * random.standard_normal(16)) @ matrix
    rows = np.repeat(row[None].astype(np.float32), 192, axis=0)
    pictures, misfits = sample_posterior_pictures(problem, rows, 0)
    # Gaussian conditioning.
    prior_covariance = basis @ np.diag(variances) @ basis.T
    covariance = np.linalg.inv(np.linalg.inv(prior_covariance) + matrix @ matrix.T / sigma**2)
    mean = 0.5 + covariance @ matrix @ (row - 0.5 * matrix.sum(axis=0)) / sigma**2
    flat = pictures.reshape(192, 16)
    tolerance = 5 * float(np.sqrt(covariance.max() / 192))
    assert np.abs(mean - 0.5).max() > 3 * tolerance
    np.testing.assert_allclose(flat.mean(axis=0), mean, atol=tolerance)
    # The row tells a third of what is to know; what it leaves open is drawn.
    assert np.trace(covariance) < 0.7 * variances.sum()
    assert np.trace(np.cov(flat, rowvar=False)) == pytest.approx(np.trace(covariance), rel=0.15)
    np.testing.assert_allclose(
        misfits, ((flat @ matrix.astype(np.float32) - rows) ** 2).sum(axis=1), atol=1e-3
    )
