"""The best linear guess of an image from a noised row, in closed form.

With row z = c + N(0, sigma^2 I) of a clean row c, the linear map of least expected squared error is
x = E[x] + Cov(x, c) (Cov(c) + sigma^2 I)^-1 (z - E[c]) (Wiener filter; Kay, "Fundamentals of
Statistical Signal Processing: Estimation Theory", 1993). In the principal components
of c the inverse is a division by lambda_i + sigma^2: directions that the noise drowns drop out, and
with enormous noise the mean image is all that is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

__all__ = ["LinearDecoder", "fit_linear_decoder"]

_COMPONENTS = 256
_FIT_ROWS = 4096
_FIT_NUMBERS = 2**25  # of rows: a decomposition of more would take longer than the network


@dataclass(frozen=True, slots=True, eq=False)
class LinearDecoder:
    """``mean_image + (rows - mean_row) @ down @ up``.

    Parameters
    ----------
    mean_row, mean_image
        float32 [d] and [p], p the numbers of an image.
    down, up
        float32 [d, r] and [r, p].
    """

    mean_row: Tensor
    mean_image: Tensor
    down: Tensor
    up: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Return images float32 [n, p] for rows float32 [n, ...]."""
        return self.mean_image + (rows.flatten(1) - self.mean_row) @ self.down @ self.up

    def to(self, device: torch.device) -> LinearDecoder:
        """Return it on another device."""
        return LinearDecoder(
            self.mean_row.to(device),
            self.mean_image.to(device),
            self.down.to(device),
            self.up.to(device),
        )


def fit_linear_decoder(
    rows: NDArray[np.float32], images: NDArray[np.float32], sigma: float, seed: int
) -> LinearDecoder:
    """Fit on clean rows and their images.

    Parameters
    ----------
    rows
        float32 [n, ...], clean rows.
    images
        float32 [n, channels, height, width].
    sigma
        Standard deviation of the noise that rows will come with.
    seed
        Of the randomised decomposition of wide rows.
    """
    flat, pictures = rows.reshape(len(rows), -1), images.reshape(len(images), -1)
    mean_row, mean_image = flat.mean(axis=0), pictures.mean(axis=0)
    # The components need fewer rows than the covariances below.
    used = max(2, min(len(flat), _FIT_ROWS, _FIT_NUMBERS // flat.shape[1]))
    components = min(_COMPONENTS, flat.shape[1], used - 1)
    # A full decomposition takes the cube of the width.
    wide = flat.shape[1] > 4 * _COMPONENTS
    solver = "randomized" if wide else "full"
    model = PCA(components, svd_solver=solver, iterated_power=2, random_state=seed)
    down = model.fit(flat[:used]).components_.T.astype(np.float32)
    # The rest of the rows, if any, still sharpens the covariances in the components found.
    scores = (flat - mean_row) @ down
    power = (scores.astype(np.float64) ** 2).mean(axis=0)
    shared = scores.T @ (pictures - mean_image) / len(flat)
    # Without noise, components without power would be divided by nothing.
    floor = 1e-6 * max(float(power.max(initial=0.0)), 1e-30)
    up = shared / (power + sigma**2 + floor)[:, None]
    arrays = (mean_row, mean_image, down, up.astype(np.float32))
    return LinearDecoder(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
