"""Baseline: the watermark trained in with a loss (Uchida et al., ICMR 2017, arXiv 1701.04082).

A secret matrix X [bits, inputs x kernel] projects one kernel, averaged over its output channels; a
cross-entropy term, summed over bits, pulls the sigmoid of each projection to its bit. Written from
the paper, section 3: X of independent normal values ("random"), weight of the loss 0.01.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

LOSS_WEIGHT = 0.01


class UchidaMark:
    """One mark of ``bits`` bits in one kernel of shape [outputs, inputs, ...]."""

    def __init__(self, shape: tuple[int, ...], bits: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.matrix = generator.normal(size=(bits, math.prod(shape[1:])))
        self.message = generator.integers(0, 2, bits)
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def loss(self, kernel: Tensor) -> Tensor:
        """Return the term to add to the loss of the task."""
        if kernel.device not in self._on:
            self._on[kernel.device] = (
                torch.from_numpy(self.matrix).to(kernel),
                torch.from_numpy(self.message).to(kernel),
            )
        matrix, message = self._on[kernel.device]
        projection = matrix @ kernel.mean(0).flatten()
        return LOSS_WEIGHT * functional.binary_cross_entropy_with_logits(
            projection, message, reduction="sum"
        )

    def read(self, kernel: NDArray[np.floating[Any]]) -> tuple[int, float]:
        """Return the number of wrong bits, and log2 of the chance of no more (binomial)."""
        projection = self.matrix @ kernel.astype(np.float64).mean(0).ravel()
        bits = len(self.message)
        errors = int(np.count_nonzero((projection >= 0) != (self.message == 1)))
        return errors, math.log2(sum(math.comb(bits, k) for k in range(errors + 1))) - bits
