"""`CsvPredictions`: predictions as comma-separated text."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["CsvPredictions", "plain_cell", "prediction_columns"]

#: What spreadsheets take for the beginning of a formula, full-width forms too; or what
#: `plain_cell` has made of it, so that taking one apostrophe away always brings a text back.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def plain_cell(text: str) -> str:
    """Return ``text`` so that no spreadsheet computes it: with an apostrophe before a formula.

    Plain numbers, such as the class -1, are no formulas. Where a cell begins with apostrophes and a
    sign of a formula, the text is the cell without the first apostrophe.
    """
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def prediction_columns(class_names: Sequence[str], files: Sequence[str] | None) -> list[str]:
    """Return the names of the columns of a table of predictions."""
    file = [] if files is None else ["file"]
    return ["row", *file, "class", *(f"p_{name}" for name in class_names)]


class CsvPredictions:
    """Comma-separated text; numbers in as many digits as bring the same float32 back.

    Names of classes and files are as `plain_cell` makes them.

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
        self._names, self._files, self._rows = list(map(plain_cell, class_names)), files, 0
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
            file = [] if self._files is None else [plain_cell(self._files[self._rows])]
            texts = [f"{number:.9g}" for number in numbers.tolist()]
            self._writer.writerow([self._rows, *file, self._names[chosen], *texts])
            self._rows += 1

    def finish(self) -> None:
        """See `PredictionFile`."""
        self._file.close()
