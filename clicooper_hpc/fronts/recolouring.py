"""Recolouring: public rows given the mean and covariance of rows that must not be seen.

From noised moments (`clicooper_hpc.privacy.moments`) alone, so it costs nothing more. The map is
the affine one of least mean square change (Olkin and Pukelsheim, "The distance between two random
vectors with given dispersion matrices", Linear Algebra and its Applications 48, 1982): with P the
covariance of the public rows and C the wanted one, P^(-1/2) (P^(1/2) C P^(1/2))^(1/2) P^(-1/2).

C is the noised covariance drawn towards P: where its entries differ from those of P by no more than
noise does, P is taken, and in between their weighted mean (empirical Bayes, as in
`clicooper_hpc.fronts.private_lda`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.operations import Linear
from clicooper_hpc.privacy.moments import Moments

__all__ = ["fit_recolouring", "shrunk_covariance"]

#: Least variance in any direction, as a share of the mean one.
_FLOOR = 1e-3


def fit_recolouring(public: NDArray[np.float64], moments: Moments) -> Linear:
    """Return the map that gives public rows float64 [n, p] the moments' mean and covariance.

    Raises
    ------
    DataError
        The public rows vary in fewer than p directions.
    """
    before = np.atleast_2d(np.cov(public.T))
    mean = moments.sums.sum(axis=0) / moments.samples
    wanted = shrunk_covariance(before, moments)
    if not np.linalg.eigvalsh(before).min() > 1e-12 * np.trace(before):
        raise DataError(
            f"the public rows vary in fewer than {len(before)} directions",
            where="front.public_data",
            remedy="Use more public rows, or a smaller front.dim.",
        )
    root, inverse = _power(before, 0.5), _power(before, -0.5)
    matrix = inverse @ _power(root @ wanted @ root, 0.5) @ inverse
    # (x - offset) M = mean + (x - public mean) M.
    offset = public.mean(axis=0) - np.linalg.solve(matrix, mean)
    return Linear(torch.from_numpy(offset), torch.from_numpy(np.ascontiguousarray(matrix)))


def shrunk_covariance(public: NDArray[np.float64], moments: Moments) -> NDArray[np.float64]:
    """Return the covariance float64 [p, p] of the moments, drawn towards the ``public`` one."""
    n, p = moments.samples, len(public)
    mean = moments.sums.sum(axis=0) / n
    noised = moments.second / n - np.outer(mean, mean)
    scale = np.sqrt(np.outer(np.diag(public), np.diag(public)))
    difference = (noised - public) / scale
    # Variance of the noise in each entry; twice as much on the diagonal.
    noise = (moments.sigma / n / scale) ** 2 * (1.0 + np.eye(p))
    mixed = np.zeros_like(public)
    for part in (np.eye(p, dtype=np.bool_), ~np.eye(p, dtype=np.bool_)):
        if not part.any():
            continue
        # Entries of little noise say most about how far the covariances are apart.
        weight = 1.0 / (noise[part] + 1e-4) ** 2
        excess = float(np.sum(weight * (difference[part] ** 2 - noise[part])) / weight.sum())
        apart = max(excess, 0.0)
        # Without noise nothing is to be drawn anywhere.
        share = np.ones(noise[part].shape) if not moments.sigma else apart / (apart + noise[part])
        mixed[part] = public[part] + share * difference[part] * scale[part]
    values, vectors = np.linalg.eigh(mixed)
    floored: NDArray[np.float64] = (
        vectors * np.maximum(values, _FLOOR * np.trace(public) / p)
    ) @ vectors.T
    return floored


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    powered: NDArray[np.float64] = (
        vectors * np.maximum(values, np.finfo(np.float64).tiny) ** exponent
    ) @ vectors.T
    return powered
