"""Rounds of gradient descent on a linear model, each of one noised sum over all samples.

The model starts as the one that the noised moments determine. Nothing but noised sums enters it:
it is a function of the start and of the sums so far, computed number by number, so that every
machine gets the same bits from the same sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from clicooper_hpc.digests import Digest, digest_bytes
from clicooper_hpc.owner.moment_model import MomentModel
from clicooper_hpc.privacy.gradient_sums import GradientSum
from clicooper_hpc.privacy.release_spec import ReleaseSpec

__all__ = [
    "OwnerRows",
    "descend",
    "gradient_factors",
    "model_digest",
    "stable_step",
    "sum_gradients",
]

#: Constant number behind each row, for the intercept: rows of norm 1 are scaled to leave it room.
#: Small, since classes of about equal size need little of an intercept, and rows all they can get.
_CONSTANT = 0.125
_SCALE = math.sqrt(1 - _CONSTANT**2)
_BLOCK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class OwnerRows:
    """Rows of all private samples, float32 [n, p] of norm at most 1, and classes int64 [n]."""

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]

    def row_blocks(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """Yield rows and classes, some thousand at a time."""
        for start in range(0, len(self.rows), _BLOCK):
            part = slice(start, start + _BLOCK)
            yield self.rows[part], self.labels[part]


def sum_gradients(data: OwnerRows, model: MomentModel, spec: ReleaseSpec | None) -> GradientSum:
    """Return the sum of the gradients of all samples at ``model``, without noise.

    ``spec``: of the gradients of one round; None with privacy off.
    """
    width, classes = model.matrix.shape
    gradients = GradientSum(width + 1, classes, spec)
    for part, labels in data.row_blocks():
        gradients.add_gradients(*gradient_factors(part, labels, model))
    return gradients


def gradient_factors(
    rows: NDArray[np.float32] | NDArray[np.float64], labels: NDArray[np.int64], model: MomentModel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what a sample's gradient is the product of: float64 [n, p + 1] and [n, K].

    Its row with the number for the intercept, and its residual; not clipped.
    """
    wide = rows.astype(np.float64)
    residuals = softmax(wide @ model.matrix + model.bias, axis=1)
    residuals[np.arange(len(wide)), labels] -= 1.0
    constant = np.full((len(wide), 1), _CONSTANT)
    return np.concatenate([_SCALE * wide, constant], axis=1), residuals


def stable_step(rows: NDArray[np.float64], wanted: float) -> float:
    """Return the step size ``wanted``, or the largest that cannot overshoot if that is less.

    That is 2 / L, where L is at most half the largest eigenvalue of the rows' second moment,
    whatever the model (Boehning, "Multinomial logistic regression algorithm", Annals of the
    Institute of Statistical Mathematics 44, 1992).

    ``rows``: float64 [n, p], recoloured public rows in the likeness of the private ones.
    """
    wide = np.concatenate([_SCALE * rows, np.full((len(rows), 1), _CONSTANT)], axis=1)
    largest = float(np.linalg.eigvalsh(wide.T @ wide / len(wide))[-1])
    return min(wanted, 4.0 / largest)


def descend(
    start: MomentModel,
    noised_sum: Callable[[int, MomentModel], NDArray[np.float64]],
    *,
    samples: int,
    rounds: int,
    step: float,
) -> MomentModel:
    """Return the model after all rounds.

    Parameters
    ----------
    start
        What the noised moments determine.
    noised_sum
        Returns the noised sum of a round, from 1 on, at the model of that round:
        float64 [p + 1, K].
    samples, rounds, step
        Number of samples, which is public; number of rounds; step size.
    """
    matrix, bias = start.matrix, start.bias
    for number in range(1, rounds + 1):
        total = noised_sum(number, MomentModel(matrix, bias))
        # The model's weights are those of the scaled row times its scale, and so are their steps.
        matrix = matrix - (_SCALE * step / samples) * total[:-1]
        bias = bias - (_CONSTANT * step / samples) * total[-1]
    return MomentModel(matrix, bias)


def model_digest(model: MomentModel) -> Digest:
    """Return what names a model: the noise of its round is keyed by it."""
    shape = f"{model.matrix.shape[0]} {model.matrix.shape[1]} ".encode("ascii")
    numbers = [
        np.ascontiguousarray(one, dtype="<f8").tobytes() for one in (model.matrix, model.bias)
    ]
    return digest_bytes("clicooper/v1/linear-model", shape + b"".join(numbers))
