"""Digest of the samples and sub-labels in every step of a stage: what a ticket orders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clicooper_hpc.digests import Digest, digest_chunks
from clicooper_hpc.training.agenda import Agenda, StageEnd, TrainStep

__all__ = ["DATA_ORDER_TAG", "stage_orders"]

DATA_ORDER_TAG = "clicooper/v1/stage-order"


def stage_orders(agenda: Agenda) -> Iterator[Digest]:
    """Yield the digest of every stage in turn; each is only computed when it is asked for.

    Over, per step: step, rows, averaged rows (int64), the sample ids (int64 [rows, averaged]) and
    the sub-label of each row (int64 [rows]), little-endian.
    """
    parts: list[bytes] = []
    for event in agenda.events():
        if isinstance(event, TrainStep):
            ids = np.ascontiguousarray(event.batch.ids, dtype="<i8")
            parts.append(np.array([event.step, *ids.shape], dtype="<i8").tobytes())
            parts.append(ids.tobytes())
            parts.append(event.batch.sub_labels.astype("<i8").tobytes())
        elif isinstance(event, StageEnd):
            yield digest_chunks(DATA_ORDER_TAG, parts)
            parts = []
