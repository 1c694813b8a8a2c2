"""`ReleaseSource`: released rows for segment 1, from the owner or the cache, averaged if so set."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clicooper_hpc.errors import ClicooperError
from clicooper_hpc.trainer.release_cache import ReleaseCache
from clicooper_hpc.training.batches import average_batch_groups
from clicooper_hpc.transport.message_kind import Kind
from clicooper_hpc.transport.receiver import Receiver

__all__ = ["ReleaseSource"]


class ReleaseSource:
    """Released rows of one split by sample id.

    Parameters
    ----------
    receiver
        Channel from the owner.
    row_shape
        Shape of one released row; anything else from the owner is refused.
    cache
        None if the owner sends again in every epoch.
    """

    def __init__(
        self, receiver: Receiver, *, row_shape: tuple[int, ...], cache: ReleaseCache | None
    ) -> None:
        self._receiver = receiver
        self._row_shape = row_shape
        self._cache = cache

    def receive(
        self, step: int, micro_batch: int, ids: NDArray[np.int64], *, from_owner: bool
    ) -> Tensor:
        """Return group means [groups, ...] for ``ids`` [groups, k]; k = 1: the rows themselves."""
        flat = ids.reshape(-1)
        if from_owner:
            rows = self._receive_from_owner(step, micro_batch, flat)
        elif self._cache is not None:
            rows = self._cache.get_rows(flat)
        else:
            raise ClicooperError("rows are neither sent by the owner nor cached")
        return average_batch_groups(rows, len(ids))

    def _receive_from_owner(self, step: int, micro_batch: int, ids: NDArray[np.int64]) -> Tensor:
        message = self._receiver.receive(
            Kind.RELEASE,
            step,
            micro_batch,
            dtype=torch.float32,
            shape=(len(ids), *self._row_shape),
        )
        # The receive buffer is reused for the next message.
        rows = message.tensor.clone()
        self._receiver.recycle(message)
        if self._cache is not None:
            self._cache.put_rows(ids, rows)
        return rows
