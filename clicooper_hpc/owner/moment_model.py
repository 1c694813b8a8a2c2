"""The linear model that noised moments determine, and names for public rows drawn from it.

Logistic regression needs of the private rows their class sums alone, once the marginal distribution
of the rows is known: the mean of lse(W x + b) over all rows, less the mean of the true class's
score, which is linear in the class sums. Here recoloured public rows stand for the marginal, noised
sums for the true ones, and a ridge for what the noise makes uncertain.

At its minimum, the expected class sums of the public rows under the model's own probabilities are
the noised ones (less the ridge). So public rows with names drawn from these probabilities are a
data set of those very moments, on which any network can be trained: that is what trainers get.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from clicooper_hpc.privacy.keyed_stream import KeyedStream
from clicooper_hpc.privacy.moments import Moments

__all__ = ["MomentModel", "draw_names", "fit_moment_model"]

#: Ridge in units of the variance of the error in a class mean (docs/accuracy.md).
_RIDGE = 100.0
_MOST_ITERATIONS = 300


@dataclass(frozen=True, slots=True, eq=False)
class MomentModel:
    """``softmax(x @ matrix + bias)``; ``matrix`` float64 [p, K], ``bias`` float64 [K]."""

    matrix: NDArray[np.float64]
    bias: NDArray[np.float64]

    def class_probabilities(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64 [n, K] of ``rows`` float64 [n, p]."""
        probabilities: NDArray[np.float64] = softmax(rows @ self.matrix + self.bias, axis=1)
        return probabilities


def fit_moment_model(rows: NDArray[np.float64], moments: Moments) -> MomentModel:
    """Fit the model to ``moments``, with public ``rows`` float64 [n, p] for the marginal."""
    classes, width = moments.sums.shape
    targets = moments.sums.T / moments.samples
    # Noised sizes may be small or negative; every class has at least a sample.
    sizes = np.maximum(moments.sizes, 1.0)
    shares = sizes / sizes.sum()
    # What is known of the error in each number of a class mean: noise, and few samples.
    samples = moments.samples / classes
    spread = float(rows.var(axis=0).mean())
    ridge = _RIDGE * ((moments.sigma / samples) ** 2 + spread / samples) / classes

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        matrix, bias = flat[:-classes].reshape(width, classes), flat[-classes:]
        scores = rows @ matrix + bias
        total = logsumexp(scores, axis=1)
        value = total.mean() - (targets * matrix).sum() - shares @ bias
        value += ridge * np.square(matrix).sum()
        probabilities = np.exp(scores - total[:, np.newaxis]) / len(rows)
        slope = rows.T @ probabilities - targets + 2 * ridge * matrix
        return float(value), np.concatenate([slope.reshape(-1), probabilities.sum(axis=0) - shares])

    start = np.concatenate([np.zeros(width * classes), np.log(shares)])
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MOST_ITERATIONS}
    )
    return MomentModel(found.x[:-classes].reshape(width, classes), found.x[-classes:])


def draw_names(probabilities: NDArray[np.float64], key: bytes) -> NDArray[np.int64]:
    """Draw a class for every row from its ``probabilities`` [n, K]: int64 [n], keyed by ``key``."""
    words = KeyedStream(key).draw_words(np.arange(len(probabilities)), 1)[:, 0]
    uniform = words.astype(np.float64) * 2.0**-64
    reached = probabilities.cumsum(axis=1) > uniform[:, np.newaxis]
    # Rounding may leave the last sum below a uniform number of nearly 1.
    reached[:, -1] = True
    drawn: NDArray[np.int64] = reached.argmax(axis=1).astype(np.int64)
    return drawn
