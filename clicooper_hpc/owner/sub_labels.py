"""Label map and sub-labels of the training samples, assigned before anything leaves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.data.split import Split
from clicooper_hpc.digests import Digest
from clicooper_hpc.owner.release_gate import ReleaseGate
from clicooper_hpc.privacy.anchors import summarise_for_anchors
from clicooper_hpc.privacy.label_map import LabelMap
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.randomized_response import RandomizedResponse

__all__ = ["answer_for_sub_labels", "assign_sub_labels", "make_sub_label_map"]

_PASS_ROWS = 256
#: Summaries are small, so every row serves to find the directions of anchors, up to this bound.
_MOST_FITTED = 50_000


def answer_for_sub_labels(
    job: Job, data: DataSet, train: Split, master: MasterKey, context: Digest
) -> NDArray[np.int64]:
    """Return the classes int64 [samples] that are named: the true ones, or randomised answers."""
    classes = train.labels()
    epsilon = job.labels.randomized_response_epsilon
    if epsilon is None:
        return classes
    # From here on the answers stand for the classes; the true ones of training samples are used no
    # further.
    answers = RandomizedResponse(epsilon, data.num_classes, master, context)
    return answers.randomized_answers(classes, np.arange(len(train)))


def make_sub_label_map(
    job: Job, count: int, classes: NDArray[np.int64], master: MasterKey, gate: ReleaseGate
) -> LabelMap:
    """Return the label map of ``count`` classes; anchors are fitted to released rows.

    ``classes``: int64 [samples], from `answer_for_sub_labels`.
    """
    label_map = LabelMap.draw_label_map(job.labels.method, count, job.labels.expansion, master)
    # Other methods need no rows; only anchors are fitted.
    if label_map.ready:
        return label_map
    used = np.arange(min(len(classes), _MOST_FITTED))
    # Released rows, not clean ones: trainers hold them anyway, so anchors cost no privacy.
    points = np.concatenate(
        [summarise_for_anchors(gate.compute_released_rows("train", part)) for part in _passes(used)]
    )
    return label_map.with_anchors(points, classes[used])


def assign_sub_labels(
    label_map: LabelMap, classes: NDArray[np.int64], gate: ReleaseGate
) -> NDArray[np.int32]:
    """Return the sub-label of every training sample, int32 [samples]."""
    ids = np.arange(len(classes))
    if label_map.method != "anchors":
        return label_map.map_to_sub_labels(classes, ids, split="train")
    return np.concatenate(
        [
            label_map.map_to_sub_labels(
                classes[part], part, gate.compute_released_rows("train", part), split="train"
            )
            for part in _passes(ids)
        ]
    )


def _passes(ids: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [ids[start : start + _PASS_ROWS] for start in range(0, len(ids), _PASS_ROWS)]
