"""The normal distribution fitted to images, and what noised images leave of it, in closed form.

Probabilistic principal components (Tipping and Bishop, JRSS B 1999): large variances along a basis,
one small variance in all other directions. An image plus N(0, level^2) is then denoised best by the
Wiener filter, and the covariance of what the filter cannot tell is known. The diffusion prior
(`clicooper_hpc.attacks.inversion.diffusion_prior`) adds what is not linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

__all__ = ["GaussianPrior", "fit_gaussian_prior"]

_COMPONENTS = 512
_FIT_NUMBERS = 2**25  # of images: a decomposition of more would take longer than the network


@dataclass(frozen=True, slots=True, eq=False)
class GaussianPrior:
    """Images of p numbers as N(mean, B diag(variances) B^T + rest (I - B B^T)).

    Parameters
    ----------
    mean
        float32 [p].
    basis
        B, float32 [p, r], orthonormal columns.
    variances
        float32 [r], at least 0.
    rest
        Variance in each direction outside the basis, at least 0.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    rest: float

    def denoise(self, noised: Tensor, level: Tensor) -> Tensor:
        """Return the expected images [n, p] behind images plus N(0, level^2), level [n, 1]."""
        power = level.square()
        kept, outside = self.variances / (self.variances + power), self.rest / (self.rest + power)
        return self.mean + self._stretched(noised - self.mean, kept, outside)

    def spread(self, normal: Tensor, level: float) -> Tensor:
        """Give standard normal vectors [n, p] the covariance that noise of ``level`` leaves.

        That of an image when it plus N(0, level^2) is known; with ``level`` infinite, of any image.
        """
        precision = 0.0 if math.isinf(level) else 1 / level**2
        kept = (self.variances / (1 + precision * self.variances)).sqrt()
        outside = math.sqrt(self.rest / (1 + precision * self.rest))
        return self._stretched(normal, kept, outside)

    def left(self, level: Tensor) -> Tensor:
        """Return the root mean square error [n, 1] of a number that `denoise` leaves at levels."""
        power = level.square()
        kept = (self.variances * power / (self.variances + power)).sum(dim=1, keepdim=True)
        outside = len(self.mean) - len(self.variances)
        total: Tensor = kept + outside * self.rest * power / (self.rest + power)
        # Above 0 for images that do not vary at all, or the network's loss would be 0 / 0.
        return (total / len(self.mean)).sqrt().clamp_min(1e-6)

    def deviation(self) -> float:
        """Return the root mean square distance of a number of an image from the mean image's."""
        outside = (len(self.mean) - len(self.variances)) * self.rest
        return max(1e-6, math.sqrt((float(self.variances.sum()) + outside) / len(self.mean)))

    def to(self, device: torch.device) -> GaussianPrior:
        """Return it on another device."""
        return GaussianPrior(
            self.mean.to(device), self.basis.to(device), self.variances.to(device), self.rest
        )

    def _stretched(self, vectors: Tensor, kept: Tensor, outside: Tensor | float) -> Tensor:
        """Multiply by ``kept`` along the basis and by ``outside`` in all other directions."""
        return outside * vectors + ((vectors @ self.basis) * (kept - outside)) @ self.basis.T


def fit_gaussian_prior(images: NDArray[np.float32], seed: int) -> GaussianPrior:
    """Fit on images float32 [n, channels, height, width], n at least 2.

    ``seed`` is that of the images drawn where there are too many, and of the randomised
    decomposition of wide ones.
    """
    flat = images.reshape(len(images), -1)
    used, width = max(2, min(len(flat), _FIT_NUMBERS // flat.shape[1])), flat.shape[1]
    if used < len(flat):
        # At random: images of one kind may stand together.
        random = np.random.default_rng(seed)
        flat = flat[np.sort(random.choice(len(flat), used, replace=False))]
    # Half of the directions that the images span at most: the others tell what lies outside the
    # basis. A basis of all of them would claim that no image has anything outside.
    kept = min(_COMPONENTS, width, (used - 1) // 2)
    fitted = max(1, kept)
    # A full decomposition takes the cube of the width.
    solver = "randomized" if width > 2 * _COMPONENTS else "full"
    model = PCA(fitted, svd_solver=solver, iterated_power=2, random_state=seed).fit(flat)
    found = np.maximum(model.explained_variance_, 0.0)
    # scikit-learn's noise variance is a mean over directions in which images differ; with fewer
    # images than numbers there are more outside the basis.
    outside = float(model.noise_variance_) * (min(used, width) - fitted) + found[kept:].sum()
    rest = max(0.0, float(outside)) / (width - kept) if kept < width else 0.0
    mean, basis, variances = (
        torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        for array in (model.mean_, model.components_[:kept].T, found[:kept])
    )
    return GaussianPrior(mean, basis, variances, rest)
