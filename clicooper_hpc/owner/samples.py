"""The owner's samples: which are trained on, released for validation, held out, or set aside.

Samples set aside pay for the front (`clicooper_hpc.fronts.private_lda`) and are never released.
Which ones these are is a keyed permutation's choice, independent of what the samples hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clicooper_hpc.config.job import Job
from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.data.split import Split
from clicooper_hpc.errors import DataError, UsageError
from clicooper_hpc.privacy.master_key import MasterKey
from clicooper_hpc.privacy.permutation import permutation_of_samples

__all__ = ["Samples", "count_set_aside_samples", "draw_samples", "split_samples"]


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of a run.

    Attributes
    ----------
    splits
        ``"train"``, ``"test"`` and, if asked for, ``"validation"``. What leaves is numbered in a
        secret order, so that ids say nothing about the file; the test split keeps its order.
    set_aside
        Training samples that pay for the front, and are in no split above.
    """

    splits: Mapping[str, Split]
    set_aside: Split | None


def split_samples(job: Job, data: DataSet) -> dict[str, Split]:
    """Return train, test and (if asked for) validation, disjoint, in the order of the file.

    Samples that will be set aside are still in the training split: which ones these are is secret.

    Raises
    ------
    DataError, UsageError
        No training sample is left for training, or a class has none.
    """
    whole = data.split("train")
    limit = min(job.data.train_rows or len(whole), len(whole))
    held = job.data.validation_rows
    if held >= limit:
        raise UsageError(
            f"data.validation_rows = {held} leaves nothing of {limit} training samples",
            where=data.source,
            remedy="Lower data.validation_rows.",
        )
    test = data.split("test")
    splits = {
        "train": whole.subset(range(limit - held)),
        "test": test.subset(range(min(job.data.test_rows or len(test), len(test)))),
    }
    if held:
        splits["validation"] = whole.subset(range(limit - held, limit))
    # A class without a sample has no sub-labels that could be learnt.
    missing = data.num_classes - len(np.unique(splits["train"].labels()))
    if missing:
        raise DataError(
            f"the first {limit - held} training samples lack {missing} of the "
            f"{data.num_classes} classes",
            where=data.source,
            remedy="Use more training samples.",
        )
    # Asked here already, so that `plan` refuses what a run would refuse.
    count_set_aside_samples(job, len(splits["train"]), data.num_classes)
    return splits


def count_set_aside_samples(job: Job, samples: int, classes: int) -> int:
    """Return how many of ``samples`` training samples the front is paid with.

    Raises
    ------
    UsageError
        Fewer than one a class would be set aside, or left to train on.
    """
    if job.front.projection != "private-lda":
        return 0
    # Down to whole samples: the number is public, which ones they are is not.
    count = int(samples * job.front.private_share)
    if count < classes or samples - count < classes:
        raise UsageError(
            f"{job.front.private_share:g} spends {count} of {samples} training samples "
            f"of {classes} classes",
            where="front.private_share",
            remedy="Spend at least one sample a class, and leave as many to train on.",
        )
    return count


def draw_samples(job: Job, data: DataSet, master: MasterKey) -> Samples:
    """Return the samples in the secret order of ``master``; the first for training are set aside.

    Raises
    ------
    DataError, UsageError
        See `split_samples`.
    """
    splits, set_aside = split_samples(job, data), None
    for name, split in splits.items():
        # Nothing of it leaves, so its numbers need no secret order.
        if name == "test":
            continue
        # Secret, for ids leave with every row: in a file sorted by class they would show the
        # classes.
        order = permutation_of_samples(len(split), name, master)
        count = count_set_aside_samples(job, len(split), data.num_classes) if name == "train" else 0
        if count:
            set_aside = split.selected(order[:count])
        splits[name] = split.selected(order[count:])
    return Samples(splits, set_aside)
