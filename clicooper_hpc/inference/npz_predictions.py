"""`NpzPredictions`: predictions as a NumPy archive."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NpzPredictions"]


class NpzPredictions:
    """NumPy archive, not compressed.

    Arrays grow in unnamed files until their length is known.

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
        self._path = path
        self._names = np.asarray(class_names)
        self._files = None if files is None else np.asarray(files)
        self._rows = 0
        self._parts: dict[str, tuple[IO[bytes], np.dtype[Any], tuple[int, ...]]] = {}
        dtypes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            "row": (np.dtype(np.int64), ()),
            "class": (self._names.dtype, ()),
            "probabilities": (np.dtype(np.float32), (len(class_names),)),
        }
        for name, (dtype, shape) in dtypes.items():
            # Beside the target: there is the room that the user meant.
            spool = opened.enter_context(tempfile.TemporaryFile(dir=path.parent))  # noqa: SIM115
            self._parts[name] = (spool, dtype, shape)

    def append_predictions(
        self, classes: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> None:
        """See `PredictionFile`."""
        rows = np.arange(self._rows, self._rows + len(classes))
        values: dict[str, NDArray[Any]] = {
            "row": rows,
            "class": self._names[classes],
            "probabilities": probabilities,
        }
        for name, (spool, dtype, _) in self._parts.items():
            spool.write(np.ascontiguousarray(values[name], dtype=dtype).tobytes())
        self._rows += len(classes)

    def finish(self) -> None:
        """See `PredictionFile`."""
        with zipfile.ZipFile(self._path, "w") as archive:
            for name, (spool, dtype, shape) in self._parts.items():
                spool.seek(0)
                self._store(archive, name, spool, dtype, (self._rows, *shape))
            whole = {"class_names": self._names}
            if self._files is not None:
                whole["file"] = self._files[: self._rows]
            for name, values in whole.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)

    def _store(
        self,
        archive: zipfile.ZipFile,
        name: str,
        spool: IO[bytes],
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
    ) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_2_0(member, header)
            shutil.copyfileobj(spool, member, 1 << 20)
