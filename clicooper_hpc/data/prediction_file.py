"""`PredictionH5File`: predictions as an HDF5 file, written as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from clicooper_hpc.closing import Closing
from clicooper_hpc.data.atomic_h5_file import AtomicH5File

__all__ = ["PredictionH5File"]

_ROWS_PER_CHUNK = 4096


class PredictionH5File(Closing):
    """Writes ``row``, ``class``, ``class_name``, ``probabilities`` and perhaps ``file``.

    The file appears with `finish`; leaving the block without it leaves nothing.

    Parameters
    ----------
    target
        File to write.
    class_names
        Of the K classes; also the root attribute `class_names`.
    files
        Name of the file of each row, where rows are files.
    overwrite
        Replace an existing file.

    Raises
    ------
    DataError
        The file exists already, or cannot be written.
    """

    def __init__(
        self,
        target: Path,
        class_names: Sequence[str],
        files: Sequence[str] | None,
        *,
        overwrite: bool,
    ) -> None:
        self._names = _fixed_texts(class_names)
        self._files = None if files is None else _fixed_texts(files)
        self._rows = 0
        self._output = AtomicH5File(target, overwrite=overwrite)
        self._output.create()
        self._output.apply(self._create)

    def append_predictions(
        self, classes: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> None:
        """Append predicted classes [n] and probabilities [n, K] of the next rows."""
        start, stop = self._rows, self._rows + len(classes)
        columns: dict[str, NDArray[Any]] = {
            "row": np.arange(start, stop),
            "class": classes,
            "class_name": self._names[classes],
            "probabilities": probabilities,
        }
        if self._files is not None:
            columns["file"] = self._files[start:stop]

        def append(file: h5py.File) -> None:
            for name, values in columns.items():
                file[name].resize(stop, axis=0)
                file[name][start:] = values

        self._output.apply(append)
        self._rows = stop

    def finish(self) -> None:
        """Give the file its name."""
        self._output.publish()

    def close_on_exit(self, error: BaseException | None) -> None:
        """Discard a file that was not finished."""
        if self._output.is_open:
            self._output.discard()

    def _create(self, file: h5py.File) -> None:
        dtypes = {"row": np.int64, "class": np.int64, "class_name": self._names.dtype}
        if self._files is not None:
            dtypes["file"] = self._files.dtype
        for name, dtype in dtypes.items():
            file.create_dataset(
                name, (0,), maxshape=(None,), chunks=(_ROWS_PER_CHUNK,), dtype=dtype
            )
        count = len(self._names)
        file.create_dataset(
            "probabilities",
            (0, count),
            maxshape=(None, count),
            chunks=(max(1, _ROWS_PER_CHUNK // count), count),
            dtype=np.float32,
        )
        file["class"].attrs["long_name"] = np.bytes_("predicted class, index into class_names")
        file["probabilities"].attrs["long_name"] = np.bytes_("probability of each class")
        file.attrs.create("class_names", self._names, dtype=self._names.dtype)


def _fixed_texts(texts: Sequence[str]) -> NDArray[Any]:
    """Return texts as UTF-8 of one length, which every reader of HDF5 takes."""
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    width = max([1, *map(len, encoded)])
    return np.asarray(encoded, dtype=h5py.string_dtype("utf-8", width))
