"""`Predictor`: takes samples block by block, runs the model on them, and hands on what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clicooper_hpc.data.split import scale_stored_rows
from clicooper_hpc.inference.input_check import check_input_range, check_input_shape, other_scale
from clicooper_hpc.inference.load_model import LoadedModel
from clicooper_hpc.inference.prediction_files import PredictionFile
from clicooper_hpc.owner.evaluation import EVALUATION_ROWS
from clicooper_hpc.owner.input_facts import NumberMoments

__all__ = ["Predictor"]


class Predictor:
    """A `SampleSink` that answers every row of one split.

    Parameters
    ----------
    model
        A run's.
    split
        Samples of other splits are passed over.
    output
        Takes the answers.
    where
        Source of the samples, for messages.
    on_rows
        Called with the number of rows after each batch.

    Attributes
    ----------
    taken, rows
        Rows of the split so far, and how many of them are answered.
    highest_label
        Of all splits so far, answered or not.
    """

    def __init__(
        self,
        model: LoadedModel,
        split: str,
        output: PredictionFile,
        *,
        where: str,
        on_rows: Callable[[int], object],
    ) -> None:
        self.taken = self.rows = 0
        self.highest_label = 0
        self._classifier, self._facts = model.classifier, model.input
        self._split, self._output = split, output
        self._where, self._on_rows = where, on_rows
        self._moments = NumberMoments()
        self._held: list[NDArray[np.float32]] = []
        self._labels: list[NDArray[np.int64]] = []
        # By label: what was said of samples with it. A label may be any number.
        self._counts: dict[int, NDArray[np.int64]] = {}

    def append_samples(self, split: str, x: NDArray[Any], y: NDArray[np.int64]) -> None:
        """Take samples as they are stored; label -1 stands for none."""
        # As many as are answered at once: as float32 a block of bytes has four times its size, and
        # there are some copies of what is looked at.
        for start in range(0, len(x) if split == self._split else 0, EVALUATION_ROWS):
            stop = start + EVALUATION_ROWS
            self.append_rows(scale_stored_rows(x[start:stop]), y[start:stop])
        # Also of splits that are passed over: classes are numbered up to here.
        self.highest_label = max(self.highest_label, int(y.max(initial=0)))

    def append_rows(self, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Take rows as the model takes them, float32 [m, ...].

        Raises
        ------
        DataError
            They are not of the model's shape or range.
        """
        check_input_shape(rows.shape[1:], self._classifier.input_shape, self._where)
        check_input_range(rows, self._facts, self._where, first_row=self.taken)
        self._moments.add_numbers(rows)
        self._held.append(rows)
        self._labels.append(labels)
        self.taken += len(rows)
        if self.taken - self.rows < EVALUATION_ROWS:
            return
        rows, labels = np.concatenate(self._held), np.concatenate(self._labels)
        whole = len(rows) // EVALUATION_ROWS * EVALUATION_ROWS
        # Always as many rows at once, however they came: that may change the last bits.
        for start in range(0, whole, EVALUATION_ROWS):
            stop = start + EVALUATION_ROWS
            self._answer(rows[start:stop], labels[start:stop])
        self._held, self._labels = [rows[whole:]], [labels[whole:]]

    def finish(self) -> None:
        """Answer what is still held back."""
        if any(map(len, self._held)):
            self._answer(np.concatenate(self._held), np.concatenate(self._labels))
        self._held, self._labels = [], []

    def other_scale(self) -> str | None:
        """Return how the rows differ in scale from the training samples, or None."""
        return other_scale(self._moments, self._facts)

    def compare_labels(self, label_names: Sequence[str] | None) -> tuple[int, int, int]:
        """Return how many labelled rows were answered rightly, how many wrongly, and the rest.

        The rest are of classes that the model does not know.

        Parameters
        ----------
        label_names
            Of the labels' classes; None where labels are the model's class numbers.
        """
        names = self._classifier.class_names
        places = {name: number for number, name in enumerate(names)}
        right = wrong = unknown = 0
        for label, counts in self._counts.items():
            name = label_names[label] if label_names is not None else None
            place = label if label_names is None else places.get(name or "", len(names))
            if place >= len(names):
                unknown += int(counts.sum())
                continue
            right += int(counts[place])
            wrong += int(counts.sum() - counts[place])
        return right, wrong, unknown

    @torch.inference_mode()
    def _answer(self, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        probabilities = self._classifier(torch.from_numpy(np.ascontiguousarray(rows))).numpy()
        classes = probabilities.argmax(axis=1)
        self._output.append_predictions(classes, probabilities)
        for label in np.unique(labels[labels >= 0]).tolist():
            said = np.bincount(classes[labels == label], minlength=probabilities.shape[1])
            self._counts[label] = self._counts.get(label, 0) + said
        self.rows += len(rows)
        self._on_rows(len(rows))
