"""What accuracy each release mode would reach, simulated on public rows that stand in for samples.

Sums of stand-ins are noised as those of a run would be, and what a run makes of them classifies
stand-ins that were held out. Fewer stand-ins than samples get noise smaller in proportion, so that
it weighs as much in a mean; what few rows cost beside that is not undone.

Continuous Gaussian noise: close enough for accuracy, not for a guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clicooper_hpc.fronts.private_lda import fit_private_lda
from clicooper_hpc.fronts.recolouring import fit_recolouring
from clicooper_hpc.owner.moment_model import fit_moment_model
from clicooper_hpc.owner.stand_ins import LabelledRows, Scene
from clicooper_hpc.privacy.moments import Moments

__all__ = [
    "SUMMED_FORECASTS",
    "Forecast",
    "ModeForecast",
    "choose_forecast",
    "forecast_class_scores",
    "forecast_moments",
    "forecast_rows",
    "forecast_sums",
]

#: Noise in a number of a row of norm 1 above which a network learns no more than class means say.
_DROWNED = 0.5
#: Passes of the small network over released rows, and steps at least.
_EPOCHS = 12
_LEAST_STEPS = 300
#: Accuracies this close are called equal: draws of the noise differ by as much.
_CLOSE = 0.01

#: Accuracy of one mode in a scene, with noise of one sigma.
Forecast = Callable[[Scene, float, np.random.Generator], float]


@dataclass(frozen=True, slots=True)
class ModeForecast:
    """Accuracies in [0, 1] of one way to release, one for each set of stand-ins.

    ``mode``: of the release. ``how``: what else it takes, in words; empty for nothing.
    """

    mode: str
    how: str
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the sets."""
        return sum(self.accuracies) / len(self.accuracies)


def choose_forecast(
    forecasts: Iterable[ModeForecast],
) -> tuple[ModeForecast, tuple[ModeForecast, ...]]:
    """Return the forecast of the best mean, and others within a point of it.

    Means over the same sets, so what makes a set hard or easy is no difference between modes.
    """
    ordered = sorted(forecasts, key=lambda one: -one.mean)
    best = ordered[0]
    return best, tuple(one for one in ordered[1:] if best.mean - one.mean < _CLOSE)


def forecast_sums(scene: Scene, sigma: float, rng: np.random.Generator) -> float:
    """Return the accuracy of class scores by noised class sums of all samples."""
    return _by_sums(scene, scene.train, sigma * scene.share, rng)


def forecast_class_scores(
    scene: Scene, sigma: float, rng: np.random.Generator, *, spent: float
) -> float:
    """Return the accuracy of class scores that a share ``spent`` of the samples pays for."""
    some = rng.permutation(len(scene.train.rows))[: max(1, int(spent * len(scene.train.rows)))]
    part = LabelledRows(scene.train.rows[some], scene.train.classes[some])
    return _by_sums(scene, part, sigma * scene.share, rng)


def forecast_moments(scene: Scene, sigma: float, rng: np.random.Generator) -> float:
    """Return the accuracy of the linear model of noised moments of all samples."""
    rows, noise = scene.train.rows, sigma * scene.share
    width = rows.shape[1]
    square = np.triu(rng.normal(size=(width, width)), 1)
    diagonal = np.diag(rng.normal(size=width)) * 2**0.5
    sums = _class_sums(scene.train, scene.count)
    sizes = np.bincount(scene.train.classes, minlength=scene.count).astype(np.float64)
    moments = Moments(
        sums + noise * rng.normal(size=sums.shape),
        rows.T @ rows + noise * (square + square.T + diagonal),
        sizes + noise * 2**0.5 * rng.normal(size=len(sizes)),
        len(rows),
        noise,
    )
    linear = fit_recolouring(scene.public.rows, moments)
    recoloured = (scene.public.rows - linear.offset.numpy()) @ linear.matrix.numpy()
    model = fit_moment_model(recoloured, moments)
    return scene.accuracy(model.class_probabilities(scene.held.rows))


def forecast_rows(scene: Scene, sigma: float, rng: np.random.Generator) -> float:
    """Return the accuracy of what learns more of noised rows: class means or a small network."""
    # Means of released rows shall be as sure as those of the samples they stand in for.
    noise = sigma * scene.share**0.5
    rows = scene.train.rows + noise * rng.normal(size=scene.train.rows.shape)
    released = LabelledRows(rows, scene.train.classes)
    sizes = np.bincount(released.classes, minlength=scene.count)
    means = _class_sums(released, scene.count) / np.maximum(sizes, 1)[:, np.newaxis]
    each = len(rows) / scene.count
    by_means = _by_means(scene, means, noise / each**0.5, each)
    if sigma > _DROWNED:
        return by_means
    return max(by_means, _by_network(scene, released, rng))


def _class_sums(data: LabelledRows, count: int) -> NDArray[np.float64]:
    found = np.zeros((count, data.rows.shape[1]))
    np.add.at(found, data.classes, data.rows)
    return found


def _by_sums(scene: Scene, data: LabelledRows, noise: float, rng: np.random.Generator) -> float:
    sums, each = _class_sums(data, scene.count), len(data.rows) / scene.count
    noised = sums + noise * rng.normal(size=sums.shape)
    return _by_means(scene, noised / each, noise / each, each)


def _by_means(scene: Scene, means: NDArray[np.float64], noise: float, each: float) -> float:
    scores = fit_private_lda(
        means, scene.public.rows, scene.public.classes, noise=noise, samples=each
    )
    return scene.accuracy(scores.apply(torch.from_numpy(scene.held.rows)).numpy())


def _by_network(scene: Scene, released: LabelledRows, rng: np.random.Generator) -> float:
    """Return the accuracy of one hidden layer trained on the released rows."""
    scale = float(released.rows.std()) or 1.0
    rows = torch.from_numpy(released.rows / scale).float()
    wanted = torch.from_numpy(released.classes)
    batch = min(128, len(rows))
    steps = len(rows) // batch
    epochs = max(_EPOCHS, -(-_LEAST_STEPS // steps))
    # The caller's own random numbers are left as they were.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        network = nn.Sequential(
            nn.Linear(rows.shape[1], 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, scene.count)
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
        for _ in range(epochs):
            for part in torch.randperm(len(rows))[: steps * batch].reshape(steps, batch):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(network(rows[part]), wanted[part])
                torch.autograd.backward(loss)
                optimizer.step()
                cosine.step()
        network.eval()
        with torch.no_grad():
            scores = network(torch.from_numpy(scene.held.rows / scale).float())
    return scene.accuracy(scores.numpy())


#: What forecasts a mode that sums up all samples; others of these are like moments.
SUMMED_FORECASTS: Mapping[str, Forecast] = {"sums": forecast_sums, "moments": forecast_moments}
