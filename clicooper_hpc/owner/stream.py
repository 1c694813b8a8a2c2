"""Rows of one split on their way out: read, front, release, and the check that nothing changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.data.split import Split
from clicooper_hpc.fronts.front import Front
from clicooper_hpc.privacy.receipts import ReleaseReceipts
from clicooper_hpc.privacy.release import RowReleaser

__all__ = ["ReleaseStream"]

_BATCH = 256


class ReleaseStream:
    """Clean and released rows of one split by sample id.

    Parameters
    ----------
    sub_labels
        int32 [samples], released with the rows; None where rows leave without labels.
    receipts
        Remembers what left of each sample.
    """

    def __init__(
        self,
        split: Split,
        front: Front,
        releaser: RowReleaser,
        *,
        receipts: ReleaseReceipts,
        sub_labels: NDArray[np.int32] | None,
    ) -> None:
        self.split = split
        self.receipts = receipts
        self._front = front
        self._releaser = releaser
        self._sub_labels = sub_labels

    def __len__(self) -> int:
        return len(self.split)

    def released_rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return released rows, float32 [n, *front.output_shape], without sending them."""
        rows = self._front.rows(self.split.rows(ids))
        flat = self._releaser.release(rows.reshape(len(ids), -1), ids)
        return flat.reshape(len(ids), *self._front.output_shape)

    def to_send(self, ids: NDArray[np.int64]) -> tuple[Tensor, int]:
        """Return released rows for the wire and how many samples leave for the first time.

        Raises
        ------
        ReleaseChangedError
            If a sample that left before would leave with other bytes.
        """
        rows = self.released_rows(ids)
        labels = None if self._sub_labels is None else self._sub_labels[ids]
        new = self.receipts.check_and_add(ids, rows, labels)
        return torch.from_numpy(rows), new

    def clean_batches(self) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        """Yield clean rows of all samples and their classes; neither may leave the owner."""
        for start in range(0, len(self), _BATCH):
            ids = np.arange(start, min(start + _BATCH, len(self)))
            yield self.clean_rows(ids), self.split.labels(ids)

    def clean_rows(self, ids: NDArray[np.int64]) -> Tensor:
        """Return clean rows as the segments should see them; they must not leave the owner."""
        rows = self._front.rows(self.split.rows(ids))
        flat = self._releaser.clean(rows.reshape(len(ids), -1))
        return torch.from_numpy(flat.reshape(len(ids), *self._front.output_shape))
