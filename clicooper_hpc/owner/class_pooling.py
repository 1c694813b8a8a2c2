"""From a network's answers about secret names to probabilities of classes.

A front that ends in class scores (`clicooper_hpc.fronts.private_lda`) is a classifier of its own,
and so is the trainers' network behind it. Their classes are put together by a logarithmic opinion
pool of equal weights (Genest and Zidek, "Combining Probability Distributions", Statistical Science
1, 1986): the product of both probabilities, the front's at temperature 1, not at the one they are
released with. Everything in it has left the owner or was paid for, so the delivered model is as
private as its parts.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from clicooper_hpc.privacy.label_map import LabelMap

__all__ = ["ClassPooling", "class_scores_opinion", "pool_opinions"]

_TINY = sys.float_info.min


class ClassPooling(nn.Module):
    """Maps logits of names float32 [n, gamma K] to probabilities of classes float64 [n, K].

    Where a row has one right name among its class's (``anchors``), probabilities of names are added
    up. Where every name of a class is equally right (``random``), what a network tells them apart
    by is noise, so their logarithms are averaged (a logarithmic pool). One overrated name then
    weighs 1 / gamma; in a sum it outvotes its class (docs/label-map.md).

    The buffer ``names``, int64 [K, gamma], is the owner's secret.
    """

    names: Tensor

    def __init__(self, label_map: LabelMap) -> None:
        super().__init__()
        self.averages_logarithms = label_map.pools
        self.register_buffer("names", torch.from_numpy(label_map.names_of_classes()))

    def forward(self, logits: Tensor) -> Tensor:
        """Return what ``logits`` say of the classes."""
        probabilities = torch.softmax(logits.double(), dim=1)
        by_class = probabilities[:, self.names]
        if not self.averages_logarithms:
            return by_class.sum(dim=2)
        # A network that is sure gives float64 zeros; the floor keeps one name from ruling out its
        # class.
        return torch.softmax(by_class.clamp(min=_TINY).log().mean(dim=2), dim=1)


def class_scores_opinion(rows: Tensor, temperature: float) -> Tensor:
    """Return probabilities float64 [n, K] of a front that ends in class scores.

    ``rows`` [n, K]: probabilities to the power 1 / ``temperature``, up to a factor a row.
    """
    # To the power of the temperature: the softmax as it was before it was softened.
    return _normalised(rows.double() ** temperature)


def pool_opinions(network: Tensor, front: Tensor) -> Tensor:
    """Return the pool of two opinions on the same rows, float64 [n, K] each."""
    return _normalised(network * front)


def _normalised(scores: Tensor) -> Tensor:
    """Make rows [n, K] add up to 1; what is not positive counts as the smallest number there is."""
    # float32 scores may underflow to 0; in a product that would be a veto by accident.
    positive = scores.clamp(min=_TINY)
    return positive / positive.sum(dim=1, keepdim=True)
