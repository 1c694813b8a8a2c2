"""Files of predictions, by ending: CSV, NumPy archive, HDF5, Parquet; written as streams.

Every one has the columns row (from 0), file (where rows are image files), class (name of the most
probable class) and the probability of each class. A file appears when it is complete, or not at
all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.data.prediction_file import PredictionH5File
from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.inference.csv_predictions import CsvPredictions
from clicooper_hpc.inference.npz_predictions import NpzPredictions
from clicooper_hpc.inference.parquet_predictions import ParquetPredictions, require_pyarrow
from clicooper_hpc.runstore.atomic_files import replace_atomically
from clicooper_hpc.runstore.new_output import refuse_run_folder

__all__ = ["ENDINGS", "PredictionFile", "check_prediction_place", "open_prediction_file"]

#: Of files that can be written.
ENDINGS = (".csv", ".h5", ".npz", ".parquet")


class PredictionFile(Protocol):
    """Takes predictions in the order of the rows."""

    def append_predictions(
        self, classes: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> None:
        """Append predicted classes [n] and probabilities [n, K] of the next rows."""

    def finish(self) -> None:
        """Write what is still held back."""


def check_prediction_place(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that `open_prediction_file` could not write; parameters and errors as there.

    For a command that has much to do before it writes.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise UsageError(f"ends in {ending!r}, known are {', '.join(ENDINGS)}", where=f"-o {path}")
    if not path.parent.is_dir():
        raise UsageError("no such folder", where=str(path.parent), remedy="Make it first.")
    refuse_run_folder(path)
    if os.path.lexists(path) and (not overwrite or path.is_dir()):
        raise UsageError(
            "is a folder" if path.is_dir() else "exists already",
            where=str(path),
            remedy="Give another name, or --overwrite.",
        )
    if ending == ".parquet":
        require_pyarrow()


@contextmanager
def open_prediction_file(
    path: Path, class_names: Sequence[str], files: Sequence[str] | None, *, overwrite: bool
) -> Iterator[PredictionFile]:
    """Open a file of predictions; it appears at the end of a block that raises nothing.

    Parameters
    ----------
    path
        With one of `ENDINGS`.
    class_names
        Of the K classes.
    files
        Name of the file of each row, where rows are files.
    overwrite
        Replace an existing file.

    Raises
    ------
    UsageError
        Another ending, the file exists already or lies in a run folder, or ``.parquet`` without
        pyarrow.
    EnvironmentUnfitError, DataError
        It cannot be written.
    """
    check_prediction_place(path, overwrite=overwrite)
    ending = path.suffix.lower()
    if ending == ".h5":
        with PredictionH5File(path, class_names, files, overwrite=overwrite) as stored:
            yield stored
            stored.finish()
        return
    try:
        with replace_atomically(path, foreign_folder=True) as aside, ExitStack() as opened:
            made: PredictionFile
            if ending == ".csv":
                made = CsvPredictions(aside, class_names, files, opened)
            elif ending == ".npz":
                made = NpzPredictions(aside, class_names, files, opened)
            else:
                made = ParquetPredictions(aside, class_names, files, opened)
            yield made
            made.finish()
    except OSError as error:
        # Others have met no file of ours: reading samples ends in DataError.
        raise EnvironmentUnfitError(
            f"the predictions cannot be written ({error.strerror or error})",
            where=str(path),
            remedy="Free space there, or write them elsewhere.",
        ) from error
