"""The data of every stage as a ticket orders it: digest of samples and sub-labels, and a count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clicooper_hpc.digests import Digest, digest_chunks
from clicooper_hpc.training.agenda import Agenda, StageEnd, TrainStep

__all__ = ["DATA_ORDER_TAG", "StageOrder", "stage_orders"]

DATA_ORDER_TAG = "clicooper/v1/stage-order"


@dataclass(frozen=True, slots=True)
class StageOrder:
    """Data of one stage. ``samples`` counts released rows, averaged ones one by one."""

    digest: Digest
    samples: int


def stage_orders(agenda: Agenda) -> Iterator[StageOrder]:
    """Yield the data order of every stage in turn; each is only computed when it is asked for.

    The digest is over, per step: step, rows, averaged rows (int64), the sample ids (int64
    [rows, averaged]) and the sub-label of each row (int64 [rows]), little-endian.
    """
    parts: list[bytes] = []
    samples = 0
    for event in agenda.events():
        if isinstance(event, TrainStep):
            ids = np.ascontiguousarray(event.batch.ids, dtype="<i8")
            parts.append(np.array([event.step, *ids.shape], dtype="<i8").tobytes())
            parts.append(ids.tobytes())
            samples += ids.size
            parts.append(event.batch.sub_labels.astype("<i8").tobytes())
        elif isinstance(event, StageEnd):
            yield StageOrder(digest_chunks(DATA_ORDER_TAG, parts), samples)
            parts, samples = [], 0
