"""`ParquetPredictions`: predictions as a Parquet file, with pyarrow."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.errors import UsageError
from clicooper_hpc.inference.csv_predictions import prediction_columns

__all__ = ["ParquetPredictions", "require_pyarrow"]

#: Rows that are written together.
_ROW_GROUP = 8192


def require_pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its Parquet module; `UsageError` if it is not installed."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError(
            "writing .parquet needs pyarrow, which is not installed",
            where="-o",
            remedy="Install it (pip install 'clicooper-hpc[tables]'), or write .csv, .h5 or .npz.",
        ) from None


class ParquetPredictions:
    """Parquet file; the names of the columns are those of `CsvPredictions`.

    Parameters
    ----------
    path
        File to write.
    class_names, files
        See `clicooper_hpc.inference.prediction_files.open_prediction_file`.
    opened
        Closes what is opened here.

    Raises
    ------
    UsageError
        pyarrow is not installed.
    """

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        files: Sequence[str] | None,
        opened: ExitStack,
    ) -> None:
        pyarrow, parquet = require_pyarrow()
        self._arrow = pyarrow
        self._names, self._files, self._rows = class_names, files, 0
        kinds = {"row": pyarrow.int64(), "file": pyarrow.string(), "class": pyarrow.string()}
        self._schema = pyarrow.schema(
            [
                (name, kinds.get(name, pyarrow.float32()))
                for name in prediction_columns(class_names, files)
            ]
        )
        self._writer = opened.enter_context(parquet.ParquetWriter(path, self._schema))
        self._held: list[Any] = []

    def append_predictions(
        self, classes: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> None:
        """See `PredictionFile`."""
        start, stop = self._rows, self._rows + len(classes)
        columns: list[Any] = [np.arange(start, stop)]
        if self._files is not None:
            columns.append(list(self._files[start:stop]))
        columns.append([self._names[chosen] for chosen in classes])
        columns += list(probabilities.T)
        arrays = [
            self._arrow.array(values, field.type)
            for values, field in zip(columns, self._schema, strict=True)
        ]
        self._held.append(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows = stop
        # A row group for every batch would be slow to read.
        if sum(map(len, self._held)) >= _ROW_GROUP:
            self._write_held()

    def finish(self) -> None:
        """See `PredictionFile`."""
        self._write_held()
        self._writer.close()

    def _write_held(self) -> None:
        if self._held:
            self._writer.write_table(self._arrow.concat_tables(self._held))
            self._held.clear()
