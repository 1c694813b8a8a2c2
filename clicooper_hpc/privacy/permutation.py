"""Secret permutations: of sub-label names, and of the samples of a split.

Sample ids leave the owner with every row, and sub-labels leave in the order of ids. If ids were the
rows of the owner's file, a file sorted by class (or by time) would show the grouping that the label
map hides. So ids are a keyed permutation of the file's rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.privacy.keyed_stream import KeyedStream, keyed_rejection_below
from clicooper_hpc.privacy.master_key import MasterKey

__all__ = ["permutation_of_samples", "secret_permutation"]


def permutation_of_samples(samples: int, split: str, master_key: MasterKey) -> NDArray[np.int64]:
    """Return which row of the file each sample id stands for: int64 [samples].

    One 64-bit word per row, sorted; equal words (chance below samples^2 / 2^65) keep their order.
    """
    key = master_key.derive_key("sample-order", split.encode("ascii"))
    # Words of the keyed stream in the order of their values: without the key nobody can tell which
    # row of the file an id stands for.
    words = KeyedStream(key).draw_words(np.zeros(1, dtype=np.int64), samples)[0]
    return np.argsort(words, kind="stable").astype(np.int64)


def secret_permutation(size: int, key: bytes) -> NDArray[np.int64]:
    """Return a uniform permutation of ``range(size)``: Fisher-Yates with rejection sampling."""
    stream = KeyedStream(key)
    order = list(range(size))
    for last in range(size - 1, 0, -1):
        # Rejection keeps each choice unbiased, so every order is equally likely.
        other = keyed_rejection_below(stream.draw_more_words(last, 0), last + 1)
        order[last], order[other] = order[other], order[last]
    return np.array(order, dtype=np.int64)
