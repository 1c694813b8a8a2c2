"""How well a published network tells classes apart, with the declared preprocessing and others.

Pages that come with weights are not always right about the mean and deviation the network was
trained with, and a network works with wrong ones, only worse. Public labelled images show it: a
linear discriminant (shrunk: Ledoit and Wolf 2004) is fitted on the network's last output of some
of them and asked for the classes of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.dataset import DataSet
from clicooper_hpc.errors import DataError
from clicooper_hpc.fronts.operations import Resize
from clicooper_hpc.fronts.published_weights import Preprocessing
from clicooper_hpc.fronts.row_blocks import evaluate_row_blocks, safe_row_block
from clicooper_hpc.fronts.weights import load_weights

__all__ = ["PreprocessingScore", "score_preprocessings"]


@dataclass(frozen=True, slots=True)
class PreprocessingScore:
    """Accuracy in [0, 1] with one preprocessing.

    ``behind``: how far it lies behind the first one that was scored, and the standard error of that
    difference, on the same images.
    """

    preprocessing: Preprocessing
    accuracy: float
    behind: float
    error: float


def score_preprocessings(
    path: Path, data: DataSet, preprocessings: Sequence[Preprocessing], *, side: int, rows: int
) -> list[PreprocessingScore]:
    """Score each of ``preprocessings`` with the front in ``path`` on images of ``side`` pixels.

    Fitted on the first ``rows`` images of the split "train" of ``data``, scored on as many of
    "test".

    Raises
    ------
    DataError
        The data set has too few images, or none.
    """
    images, classes = {}, {}
    for name in ("train", "test"):
        split = data.split(name)
        ids = np.arange(min(rows, len(split)))
        images[name], classes[name] = split.read(ids), split.labels(ids)
    if len(images["train"]) < 2 * data.num_classes or not len(images["test"]):
        raise DataError("too few labelled images to compare with", where=data.name)
    network = load_weights(path, side=side).network
    shape = images["train"].shape[1:]
    right: list[NDArray[np.bool_]] = []
    for one in preprocessings:
        operations = (Resize(side), replace(network, mean=one.mean, std=one.std))
        block = safe_row_block(operations, shape, 64)
        features = {
            name: evaluate_row_blocks(operations, x, input_shape=shape, block_rows=block)
            for name, x in images.items()
        }
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # late: a second

        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        model.fit(features["train"].astype(np.float64), classes["train"])
        right.append(model.predict(features["test"].astype(np.float64)) == classes["test"])
    scores = []
    for one, hits in zip(preprocessings, right, strict=True):
        difference = right[0].astype(np.float64) - hits
        error = float(difference.std() / np.sqrt(len(difference)))
        scores.append(PreprocessingScore(one, float(hits.mean()), float(difference.mean()), error))
    return scores
