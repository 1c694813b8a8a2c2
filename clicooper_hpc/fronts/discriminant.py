"""Fisher's discriminant between class means from outside, such as noised sums of private rows.

From public rows it takes only how rows spread within a class.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.operations import Scores

__all__ = ["fit_discriminant"]

_RIDGE = 0.02  # share of the mean variance added to every direction of the within-class covariance


def fit_discriminant(
    means: NDArray[np.float64],
    public: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    noise: float,
    samples: float,
) -> Scores:
    """Return Fisher's discriminant between given class means, as probabilities of the classes.

    With W the within-class covariance of the public rows plus a ridge, rows and centred means are
    multiplied by W^(-1/2); the means are then shrunk by what is known of their error, C (C + E)^-1
    with C the covariance of the means less E, and E that of noise and sampling (empirical Bayes:
    Efron and Morris, JASA 70, 1975). The scores are those of linear discriminant analysis with
    equal priors (Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 4.3).

    Parameters
    ----------
    means
        float64 [K, p].
    public, labels
        float64 [n, p] and int64 [n]; their classes need not be the K ones.
    noise
        Standard deviation of the noise in each number of ``means``; 0 without.
    samples
        Samples behind each mean.
    """
    classes, width = means.shape
    names, which = np.unique(labels, return_inverse=True)
    totals = np.zeros((len(names), width))
    np.add.at(totals, which, public)
    inside = public - (totals / np.bincount(which)[:, np.newaxis])[which]
    within = np.atleast_2d(np.cov(inside.T))
    values, vectors = np.linalg.eigh(within + _RIDGE * np.trace(within) / width * np.eye(width))
    if not values.min() > 0:
        raise DataError("the public rows do not vary within their classes", where="public data")
    root = (vectors / np.sqrt(values)) @ vectors.T
    centre = means.mean(axis=0)
    white = (means - centre) @ root
    error = noise**2 * root @ root + np.eye(width) / samples
    sizes, axes = np.linalg.eigh(white.T @ white / classes - error)
    between = (axes * np.maximum(sizes, 0.0)) @ axes.T
    shrunk = white @ np.linalg.solve(between + error, between)
    return Scores(
        torch.from_numpy(centre),
        torch.from_numpy(np.ascontiguousarray(root @ shrunk.T)),
        torch.from_numpy(-np.sum(shrunk**2, axis=1) / 2),
    )
