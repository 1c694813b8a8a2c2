"""A class-stratified test part, chosen by hashes: the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["hashed_split_order", "stratified_test_mask"]

# The tag keeps these hashes apart from every other use of SHA-256 on the same paths.
_TAG = b"clicooper/v1/data-order\x00"


def hashed_split_order(keys: Sequence[str]) -> NDArray[np.int64]:
    """Return a fixed shuffle of 0..n-1: positions sorted by the SHA-256 of their keys.

    No random number generator is involved, so no library version can change the order.
    """
    # File names on Linux are bytes and need not be valid UTF-8.
    ranks = [hashlib.sha256(_TAG + key.encode("utf-8", "surrogateescape")).digest() for key in keys]
    return np.asarray(sorted(range(len(keys)), key=ranks.__getitem__), dtype=np.int64)


def stratified_test_mask(
    labels: NDArray[np.int64], keys: Sequence[str], test_count: int
) -> NDArray[np.bool_]:
    """Choose a class-stratified test part.

    Class k gets ``test_count * n_k / n`` samples, rounded by largest remainders so that the sum
    is ``test_count``, but never its last one; which of them, the hash of their keys decides.

    Parameters
    ----------
    labels
        Class numbers, shape (n,).
    keys
        One distinct string per sample.
    test_count
        Samples to hold out, 0 <= test_count < n.

    Returns
    -------
    array
        bool, shape (n,), True for the test part.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * test_count  # in units of 1/n, so that the arithmetic stays in integers
    quota = exact // len(labels)
    by_remainder = np.argsort(-(exact % len(labels)), kind="stable")
    # Never the last sample of a class: a class nobody trains on cannot be tested.
    for index in [i for i in by_remainder if quota[i] + 1 < sizes[i]]:
        if quota.sum() == test_count:
            break
        quota[index] += 1
    chosen = np.zeros(len(labels), dtype=np.bool_)
    order = hashed_split_order(keys)
    for wanted, count in zip(classes, quota, strict=True):
        chosen[order[labels[order] == wanted][:count]] = True
    return chosen
