"""The linear model that noised moments determine, and names for public rows by it.

Logistic regression needs of the private rows their class sums alone, once the marginal distribution
of the rows is known: the mean of lse(W x + b) over all rows, less the mean of the true class's
score, which is linear in the class sums. Here recoloured public rows stand for the marginal, noised
sums for the true ones, and a ridge for what the noise makes uncertain.

At its minimum, the expected class sums of the public rows under the model's own probabilities are
the noised ones (less the ridge). So public rows with names that have these sums are a data set of
those very moments, on which any network can be trained: that is what trainers get.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from clicooper_hpc.privacy.moments import Moments

__all__ = ["RIDGE", "MomentModel", "choose_names", "fit_moment_model"]

#: For a single class, in units of the variance of the error in a class mean: docs/decisions.md.
RIDGE = 300.0
_MOST_ITERATIONS = 300


@dataclass(frozen=True, slots=True, eq=False)
class MomentModel:
    """``softmax(x @ matrix + bias)``; ``matrix`` float64 [p, K], ``bias`` float64 [K]."""

    matrix: NDArray[np.float64]
    bias: NDArray[np.float64]

    def class_probabilities(
        self, rows: NDArray[np.float64], *, sharpness: float = 1.0
    ) -> NDArray[np.float64]:
        """Return float64 [n, K] of ``rows`` float64 [n, p].

        ``sharpness``: of the probabilities to this power, made to add up to 1 again.
        """
        scores = sharpness * (rows @ self.matrix + self.bias)
        probabilities: NDArray[np.float64] = softmax(scores, axis=1)
        return probabilities


def fit_moment_model(
    rows: NDArray[np.float64],
    moments: Moments,
    *,
    ridge: float = RIDGE,
    start: MomentModel | None = None,
) -> MomentModel:
    """Fit the model to ``moments``, with public ``rows`` float64 [n, p] for the marginal.

    ``ridge``: how much is made of what the noise makes uncertain, as `RIDGE`. ``start``: a model of
    nearly these moments, to save steps.
    """
    classes, width = moments.sums.shape
    targets = moments.sums.T / moments.samples
    # Noised sizes may be small or negative; every class has at least a sample.
    sizes = np.maximum(moments.sizes, 1.0)
    shares = sizes / sizes.sum()
    # What is known of the error in each number of a class mean: noise, and few samples. The power
    # is what held-out samples of 10 and of 100 classes asked for.
    samples = moments.samples / classes
    spread = float(rows.var(axis=0).mean())
    error = (moments.sigma / samples) ** 2 + spread / samples
    penalty = ridge * error / classes**1.5

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        matrix, bias = flat[:-classes].reshape(width, classes), flat[-classes:]
        scores = rows @ matrix + bias
        total = logsumexp(scores, axis=1)
        value = total.mean() - (targets * matrix).sum() - shares @ bias
        value += penalty * np.square(matrix).sum()
        probabilities = np.exp(scores - total[:, np.newaxis]) / len(rows)
        slope = rows.T @ probabilities - targets + 2 * penalty * matrix
        return float(value), np.concatenate([slope.reshape(-1), probabilities.sum(axis=0) - shares])

    first = np.concatenate([np.zeros(width * classes), np.log(shares)])
    if start is not None:
        first = np.concatenate([start.matrix.reshape(-1), start.bias])
    found = minimize(
        loss, first, jac=True, method="L-BFGS-B", options={"maxiter": _MOST_ITERATIONS}
    )
    return MomentModel(found.x[:-classes].reshape(width, classes), found.x[-classes:])


def choose_names(
    rows: NDArray[np.float64], probabilities: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Name every row such that the sums of rows by name are those that the probabilities expect.

    One row after the other gets the class that keeps the sums so far closest to the expected ones
    (herding: Welling, "Herding dynamical weights to learn", ICML 2009). Names drawn at random would
    be off by the root of the number of rows; these are off by about as much as one row.

    Parameters
    ----------
    rows, probabilities
        float64 [n, p] and [n, K].

    Returns
    -------
    NDArray[np.int64]
        [n], classes.
    """
    off = np.zeros((probabilities.shape[1], rows.shape[1]))
    names = np.empty(len(rows), dtype=np.int64)
    for index, (row, expected) in enumerate(zip(rows, probabilities, strict=True)):
        # The squared distance after this row, as far as it depends on the class.
        worse = 2.0 * (off @ row) + (row @ row) * (1.0 - 2.0 * expected)
        names[index] = worse.argmin()
        off -= np.outer(expected, row)
        off[names[index]] += row
    return names
