"""Averaging of released rows ahead of segment 1: post-processing that thins the noise."""

from __future__ import annotations

from torch import Tensor

__all__ = ["mean_of_groups"]


def mean_of_groups(rows: Tensor, groups: int) -> Tensor:
    """Average consecutive rows: [groups * k, ...] -> [groups, ...].

    Rows of one group share a sub-label, so this is post-processing of the release and costs no
    privacy; it divides the noise by sqrt(k).
    """
    per_group = len(rows) // groups
    if per_group == 1:
        return rows
    return rows.reshape(groups, per_group, *rows.shape[1:]).mean(dim=1)
