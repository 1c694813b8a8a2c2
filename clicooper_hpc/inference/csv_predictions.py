"""`CsvPredictions`: predictions as comma-separated text."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["CsvPredictions", "prediction_columns"]


def prediction_columns(class_names: Sequence[str], files: Sequence[str] | None) -> list[str]:
    """Return the names of the columns of a table of predictions."""
    file = [] if files is None else ["file"]
    return ["row", *file, "class", *(f"p_{name}" for name in class_names)]


class CsvPredictions:
    """Comma-separated text; numbers in as many digits as bring the same float32 back.

    Parameters
    ----------
    path
        File to write.
    class_names, files
        See `clicooper_hpc.inference.prediction_files.open_prediction_file`.
    opened
        Closes what is opened here.
    """

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        files: Sequence[str] | None,
        opened: ExitStack,
    ) -> None:
        self._names, self._files, self._rows = class_names, files, 0
        self._file = opened.enter_context(
            path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        )
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(prediction_columns(class_names, files))

    def append_predictions(
        self, classes: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> None:
        """See `PredictionFile`."""
        for chosen, numbers in zip(classes, probabilities, strict=True):
            file = [] if self._files is None else [self._files[self._rows]]
            texts = [f"{number:.9g}" for number in numbers.tolist()]
            self._writer.writerow([self._rows, *file, self._names[chosen], *texts])
            self._rows += 1

    def finish(self) -> None:
        """See `PredictionFile`."""
        self._file.close()
