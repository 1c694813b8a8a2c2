"""Cutting the rows of a batch into micro-batches.

Every rank cuts the same number of rows in the same way, so that the sizes never travel: an uneven
last micro-batch, or a last batch with fewer micro-batches, needs no special case anywhere.
"""

from __future__ import annotations

__all__ = ["split_rows"]


def split_rows(rows: int, micro_batches: int) -> tuple[range, ...]:
    """Split ``rows`` consecutive rows into at most ``micro_batches`` contiguous parts.

    Each part has ``ceil(rows / micro_batches)`` rows; the last one takes what is left, and parts
    that would be empty are dropped. So 10 rows in 4 parts are 3 + 3 + 3 + 1, and 5 rows in 4 parts
    are the *three* parts 2 + 2 + 1.

    Parameters
    ----------
    rows
        Rows of the batch, >= 0 (0 rows have no parts).
    micro_batches
        Most parts wanted, >= 1.

    Returns
    -------
    tuple of range
        Row ranges in order; joined they are ``range(rows)``.
    """
    if rows < 0 or micro_batches < 1:
        raise ValueError(f"cannot split {rows} rows into {micro_batches} micro-batches")
    size = -(-rows // micro_batches)
    return tuple(range(first, min(first + size, rows)) for first in range(0, rows, size or 1))
