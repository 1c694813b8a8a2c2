"""From samples to batches: their order in an epoch, their micro-batches, their averaged rows.

Pure functions of public values (seed, epoch, sub-labels, sizes). The owner, every trainer and an
auditor compute them alike, so neither ids nor sizes need to travel with a batch.

The shuffles use only the raw 64-bit words of the counter-based generator Philox, whose stream
NumPy promises to keep for ever; the methods of ``numpy.random.Generator`` carry no such promise
(NEP 19). One word is drawn per id and the ids are sorted by their words; a stable sort
settles equal words. A replay years later, on another NumPy, gets the same batches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    # `clicooper plan` runs on login nodes and must not load torch for the sake of an annotation.
    from torch import Tensor

__all__ = [
    "Batch",
    "EpochOrder",
    "average_batch_groups",
    "count_batches",
    "order_epoch_batches",
    "split_batch_rows",
]

_PERSON = b"clicooper.order"


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The rows of one batch.

    Attributes
    ----------
    ids
        Sample ids, int64 ``[groups, k]``. The k samples of a group share a sub-label and are
        averaged into one row of training; with k = 1 a group is a sample. The raw rows of the
        batch travel in the order ``ids.reshape(-1)``.
    sub_labels
        Sub-label of each group, int32 ``[groups]``.
    """

    ids: NDArray[np.int64]
    sub_labels: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class EpochOrder:
    """All batches of one epoch, in the order of training. The arrays are read-only."""

    epoch: int
    batches: tuple[Batch, ...]


def order_epoch_batches(
    *, seed: int, epoch: int, sub_labels: NDArray[np.int32], batch_size: int, average_rows: int
) -> EpochOrder:
    """Return the order of one epoch.

    With ``average_rows`` = 1 all ids are shuffled and cut into batches; the last batch may be
    shorter. With ``average_rows`` = k > 1:

    1. the ids of each sub-label are shuffled and cut into groups of k; the last group is filled
       by wrapping around to the start of that sub-label's shuffled ids (more than once, if the
       sub-label has fewer than k samples);
    2. the groups of all sub-labels are shuffled together;
    3. every ``batch_size`` groups are a batch; the last batch may be shorter.

    Every id occurs at least once; exactly once where k divides the samples of its sub-label.

    Parameters
    ----------
    seed, epoch
        Public numbers that choose the order.
    sub_labels
        int32 ``[samples]``, each >= 0; the index is the sample id.
    batch_size
        Groups in a batch, >= 1.
    average_rows
        k, samples in a group, >= 1.
    """
    _check_batch_sizes(sub_labels, batch_size, average_rows)
    if average_rows == 1:
        # The same order whatever the sub-labels: without averages they play no part.
        groups = np.arange(len(sub_labels), dtype=np.int64)[:, np.newaxis]
    else:
        groups = np.concatenate(
            [
                _group_batch_ids(
                    seed, epoch, int(name), np.flatnonzero(sub_labels == name), average_rows
                )
                for name in np.unique(sub_labels)
            ]
        )
    # Named apart from the shuffles within sub-labels, so that no two use the same words.
    ids = groups[_permute_batch_ids(seed, epoch, "groups", len(groups))]
    names = sub_labels[ids[:, 0]].astype(np.int32)
    # Shared by all who walk the plan: a change in one place would be another order in the next.
    ids.setflags(write=False)
    names.setflags(write=False)
    return EpochOrder(
        epoch,
        tuple(
            Batch(ids[first : first + batch_size], names[first : first + batch_size])
            for first in range(0, len(ids), batch_size)
        ),
    )


def count_batches(*, sub_labels: NDArray[np.int32], batch_size: int, average_rows: int) -> int:
    """Return how many batches every epoch has, without building one."""
    _check_batch_sizes(sub_labels, batch_size, average_rows)
    sizes = np.unique(sub_labels, return_counts=True)[1]
    # With k = 1 the sum is the number of samples: sub-labels play no part.
    groups = int(np.sum(-(-sizes // average_rows)))
    return -(-groups // batch_size)


def split_batch_rows(rows: int, micro_batches: int) -> tuple[range, ...]:
    """Split ``rows`` consecutive rows into at most ``micro_batches`` contiguous parts.

    Each part has ``ceil(rows / micro_batches)`` rows; the last one takes what is left, and parts
    that would be empty are dropped. So 10 rows in 4 parts are 3 + 3 + 3 + 1, and 5 rows in 4 parts
    are the *three* parts 2 + 2 + 1.

    Every rank cuts the same number of rows in the same way, so an uneven last micro-batch, or a
    last batch with fewer micro-batches, needs no special case anywhere.

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


def average_batch_groups(rows: Tensor, groups: int) -> Tensor:
    """Average consecutive rows: [groups * k, ...] -> [groups, ...].

    Rows of one group share a sub-label, so this is post-processing of the release and costs no
    privacy; it divides the noise by sqrt(k).
    """
    per_group = len(rows) // groups
    if per_group == 1:
        return rows
    return rows.reshape(groups, per_group, *rows.shape[1:]).mean(dim=1)


def _group_batch_ids(
    seed: int, epoch: int, name: int, ids: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    shuffled = ids[_permute_batch_ids(seed, epoch, f"sub-label {name}", len(ids))]
    count = -(-len(ids) // size)
    return np.resize(shuffled, (count, size))  # np.resize repeats its input: the wrap-around


def _permute_batch_ids(seed: int, epoch: int, purpose: str, length: int) -> NDArray[np.int64]:
    """Return a permutation of ``range(length)`` that depends on every argument."""
    text = f"{seed}\n{epoch}\n{purpose}".encode("ascii")
    # Hashed, not added up: seed 1, epoch 23 and seed 12, epoch 3 must give different orders.
    key = hashlib.blake2b(text, digest_size=16, person=_PERSON).digest()
    words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(length)
    return np.argsort(np.asarray(words, dtype=np.uint64), kind="stable").astype(np.int64)


def _check_batch_sizes(sub_labels: NDArray[Any], batch_size: int, average_rows: int) -> None:
    if sub_labels.ndim != 1 or len(sub_labels) == 0:
        raise ValueError(f"sub-labels must be a filled vector, not of shape {sub_labels.shape}")
    if not np.issubdtype(sub_labels.dtype, np.integer) or sub_labels.min() < 0:
        raise ValueError("sub-labels must be integers, none below 0")
    if batch_size < 1 or average_rows < 1:
        raise ValueError(f"batch size {batch_size} and average rows {average_rows} must be >= 1")
